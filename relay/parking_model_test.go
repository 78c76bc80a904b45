package relay

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/restock-dev/restock/internal/service"
)

// TestParkingModel drives the pipeline over a model of the database through random
// schedules: events come, are accepted, refused for now or for ever, groups are
// parked and released, the answers of the database come in any order, and the relay
// is killed. Whatever the schedule, what is not poison is accepted first in the
// order of its group, nothing goes out of parked that nobody asked for, nothing is
// lost, and the cursor comes to the end.
func TestParkingModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newParkingModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"":        func(*rapid.T) { m.collect() },
			"commit":  m.commit,
			"next":    m.next,
			"settle":  m.settle,
			"record":  func(*rapid.T) { m.p.record(m.ctx, time.Now(), true) },
			"look":    func(*rapid.T) { m.p.look(m.ctx, m.p.lookAt) },
			"execute": m.execute,
			"deliver": m.deliver,
			"catchUp": func(*rapid.T) { m.p.record(m.ctx, time.Now(), true); m.answerAll() },
			"release": func(t *rapid.T) { m.ask(t); m.p.look(m.ctx, m.p.lookAt); m.answerAll() },
			"ask":     m.ask,
			"askOne":  m.askOne,
			"kill":    func(*rapid.T) { m.kill() },
		})
		m.settleAll()
	})
}

// hence is later than anything is held for.
var hence = time.Now().Add(time.Hour)

type parkedRow struct {
	group         string
	seq           int64
	state, reason string
}

// parkingModel is the outside: stream, publisher and database.
type parkingModel struct {
	t        *rapid.T
	ctx      context.Context //nolint:containedctx // as long as the test
	stream   []*entry        // everything committed
	poison   map[int64]bool
	accepted map[int64]bool
	newest   map[string]int64 // accepted of each group

	ledger map[int64]bool
	rows   []*parkedRow      // by place
	groups map[string]string // parked_groups: its state

	p        *pipeline
	read     int        // of the stream, by this session
	batches  [][]*entry // in flight
	numbers  []uint64
	calls    chan *modelCall
	pending  []*modelCall // asked, by key
	executed []*modelCall
}

// modelCall is one visit of the database: it is executed at one time, and its
// answer comes at another.
type modelCall struct {
	key    string
	do     func()
	record bool
	done   chan struct{}
}

func newParkingModel(t *rapid.T) *parkingModel {
	m := &parkingModel{
		t: t, ctx: context.Background(), poison: map[int64]bool{}, accepted: map[int64]bool{}, newest: map[string]int64{},
		ledger: map[int64]bool{}, groups: map[string]string{},
	}
	m.session()
	return m
}

func (m *parkingModel) session() {
	m.calls = make(chan *modelCall)
	cfg := Config{Slot: "s", InFlight: 4, Metrics: prometheus.NewRegistry(), Logger: zerolog.Nop(), Backoff: service.Backoff{Initial: 1, Max: 1}}
	m.p = newPipeline(cfg, m, newWindow(1<<20), newMetrics(cfg, &Relay{}), 0, nil, func(time.Time) bool { return true })
	for group := range m.groups {
		m.p.groups.park(group, uuid.Nil, "before")
	}
	m.read, m.batches, m.numbers, m.pending, m.executed = 0, nil, nil, nil, nil
	for range m.stream {
		m.readOne()
	}
}

func (m *parkingModel) readOne() {
	was := m.stream[m.read]
	m.read++
	lsn := pglogrepl.LSN(m.read)
	e := &entry{position: Position{Commit: lsn}, group: was.group, seq: was.seq, size: 1, recorded: m.ledger[was.seq]}
	m.p.take([]change{{kind: changeBegin, lsn: lsn}, {kind: changeEvent, entry: e}, {kind: changeEnd, lsn: lsn}})
}

func (m *parkingModel) commit(t *rapid.T) {
	for range rapid.IntRange(1, 5).Draw(t, "events") {
		group := strconv.Itoa(rapid.IntRange(0, 2).Draw(t, "group"))
		m.stream = append(m.stream, &entry{group: group, seq: int64(len(m.stream) + 1)})
		m.readOne()
	}
}

func (m *parkingModel) next(t *rapid.T) {
	if batch := m.p.lanes.next(hence, rapid.IntRange(1, 3).Draw(t, "entries"), 10); batch != nil {
		m.p.calls++
		m.p.inFlight++
		m.batches, m.numbers = append(m.batches, batch), append(m.numbers, m.p.calls)
	}
}

func (m *parkingModel) settle(t *rapid.T) {
	if len(m.batches) == 0 {
		t.Skip("nothing in flight")
	}
	i := rapid.IntRange(0, len(m.batches)-1).Draw(t, "batch")
	if rapid.IntRange(0, 9).Draw(t, "whole") == 0 {
		m.answer(i, nil, errors.New("cut"))
		return
	}
	results := make([]Result, len(m.batches[i]))
	for j, e := range m.batches[i] {
		switch rapid.IntRange(0, 9).Draw(t, "outcome") {
		case 0, 1, 2:
			results[j].Err = errors.New("not now")
		case 3:
			results[j] = Result{Err: errors.New("never"), Permanent: true}
			m.poison[e.seq] = true
		}
	}
	m.answer(i, results, nil)
}

func (m *parkingModel) answer(i int, results []Result, err error) {
	batch, number := m.batches[i], m.numbers[i]
	m.batches, m.numbers = slices.Delete(m.batches, i, i+1), slices.Delete(m.numbers, i, i+1)
	for j, r := range results {
		if e := batch[j]; r.Err == nil && e.release != nil {
			asked := func(r *parkedRow) bool {
				return r.seq == e.seq && (r.state == "sending" || m.groups[r.group] == "sending")
			}
			require.True(m.t, slices.ContainsFunc(m.rows, asked), "nobody asked for event %d", e.seq)
		}
		if e := batch[j]; r.Err == nil && !m.accepted[e.seq] {
			m.accepted[e.seq] = true
			if !m.poison[e.seq] {
				require.Greater(m.t, e.seq, m.newest[e.group], "group %s is out of order", e.group)
				m.newest[e.group] = e.seq
			}
		}
	}
	m.p.settle(batchResult{number, batch, results, err})
}

// collect waits for the calls that were begun.
func (m *parkingModel) collect() {
	n := m.p.visits - len(m.pending) - len(m.executed)
	if m.p.recording {
		n++
	}
	for range n {
		m.pending = append(m.pending, <-m.calls)
	}
	slices.SortFunc(m.pending, func(a, b *modelCall) int { return compareText(a.key, b.key) })
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (m *parkingModel) execute(t *rapid.T) {
	if len(m.pending) == 0 {
		t.Skip("nothing asked")
	}
	i := rapid.IntRange(0, len(m.pending)-1).Draw(t, "call")
	m.pending[i].do()
	m.executed = append(m.executed, m.pending[i])
	m.pending = slices.Delete(m.pending, i, i+1)
}

func (m *parkingModel) deliver(t *rapid.T) {
	if len(m.executed) == 0 {
		t.Skip("nothing executed")
	}
	m.deliverOne(rapid.IntRange(0, len(m.executed)-1).Draw(t, "call"))
}

func (m *parkingModel) deliverOne(i int) {
	c := m.executed[i]
	m.executed = slices.Delete(m.executed, i, i+1)
	close(c.done)
	if c.record {
		r := <-m.p.recorded
		m.p.recording = false
		m.p.finish(m.ctx, r.entries)
		return
	}
	then := <-m.p.visited
	m.p.visits--
	then()
}

// answerAll lets the database answer whatever it is asked by now.
func (m *parkingModel) answerAll() {
	m.collect()
	for len(m.pending) > 0 {
		m.pending[0].do()
		m.executed, m.pending = append(m.executed, m.pending[0]), m.pending[1:]
	}
	for len(m.executed) > 0 {
		m.deliverOne(0)
	}
}

// ask is the operator, who sends a group.
func (m *parkingModel) ask(t *rapid.T) {
	group := strconv.Itoa(rapid.IntRange(0, 2).Draw(t, "group"))
	if m.groups[group] == "parked" {
		m.groups[group] = "sending"
	}
}

// askOne sends one event that was parked by itself.
func (m *parkingModel) askOne(t *rapid.T) {
	for _, r := range m.rows {
		if r.state == "parked" && r.reason != reasonHeld {
			r.state = "sending"
			return
		}
	}
	t.Skip("none")
}

// kill ends the session; what was executed stays.
func (m *parkingModel) kill() {
	m.collect()
	p := m.p
	for _, c := range slices.Concat(m.pending, m.executed) {
		close(c.done)
		if c.record {
			<-p.recorded
		} else {
			<-p.visited
		}
	}
	m.session()
}

// settleAll sends all that is parked and accepts everything.
func (m *parkingModel) settleAll() {
	for range 20*len(m.stream) + 20 {
		for group := range m.groups {
			m.groups[group] = "sending"
		}
		for _, r := range m.rows {
			if r.reason != reasonHeld && r.state == "parked" {
				r.state = "sending"
			}
		}
		m.p.look(m.ctx, m.p.lookAt)
		for batch := m.p.lanes.next(hence, 10, 10); batch != nil; batch = m.p.lanes.next(hence, 10, 10) {
			m.p.calls++
			m.p.inFlight++
			m.batches, m.numbers = append(m.batches, batch), append(m.numbers, m.p.calls)
		}
		for len(m.batches) > 0 {
			m.answer(0, make([]Result, len(m.batches[0])), nil)
		}
		m.p.record(m.ctx, time.Now(), true)
		m.answerAll()
	}
	require.Empty(m.t, m.groups, "a group is left parked")
	require.Empty(m.t, m.p.groups.parked)
	for _, r := range m.rows {
		require.Equal(m.t, "sent", r.state, "event %d", r.seq)
	}
	for _, e := range m.stream {
		require.True(m.t, m.accepted[e.seq], "event %d is lost", e.seq)
		require.True(m.t, m.ledger[e.seq])
	}
	require.Equal(m.t, pglogrepl.LSN(len(m.stream)), m.p.cursor.confirmed())
	m.kill() // ends what was asked last
}

// What follows is the database.

func (m *parkingModel) visit(key string, record bool, do func()) {
	c := &modelCall{key, do, record, make(chan struct{})}
	m.calls <- c
	<-c.done
}

func (m *parkingModel) record(_ context.Context, entries []*entry) error {
	m.visit("record", true, func() {
		for _, e := range entries {
			if e.parked != nil && e.release == nil {
				m.rows = append(m.rows, &parkedRow{e.group, e.seq, "parked", e.reason})
			}
			m.ledger[e.seq] = true
		}
		for _, e := range entries {
			if e.release == nil {
				continue
			}
			m.each(func(r *parkedRow) bool { return r.seq == e.seq }, func(r *parkedRow) {
				if r.state = "sent"; e.parked != nil {
					r.state, r.reason = "parked", e.reason
				}
			})
		}
		for _, e := range entries {
			if e.parksGroup() {
				m.groups[e.group] = "parked"
				m.each(func(r *parkedRow) bool { return r.group == e.group && r.state == "sending" }, func(r *parkedRow) { r.state, r.reason = "parked", reasonHeld })
			}
		}
	})
	return nil
}

func (m *parkingModel) each(which func(*parkedRow) bool, do func(*parkedRow)) {
	for _, r := range m.rows {
		if which(r) {
			do(r)
		}
	}
}

func (m *parkingModel) asked(context.Context, string) (all []asked, err error) {
	m.visit("asked", false, func() {
		for _, group := range []string{"0", "1", "2"} {
			single := slices.ContainsFunc(m.rows, func(r *parkedRow) bool { return r.group == group && r.state == "sending" })
			if whole := m.groups[group] == "sending"; whole || single {
				all = append(all, asked{group, whole})
			}
		}
	})
	return all, nil
}

func (m *parkingModel) load(_ context.Context, r *release, whole bool, most int) (entries []*entry, more bool, err error) {
	m.visit("load "+r.group, false, func() {
		for _, row := range m.rows {
			if row.group != r.group || row.state != "sending" && (!whole || row.state != "parked" || row.reason != reasonHeld) {
				continue
			}
			if len(entries) == min(2, most) {
				more = true
				return
			}
			entries = append(entries, &entry{group: r.group, seq: row.seq, size: 1, release: r})
		}
	})
	return entries, more, nil
}

func (m *parkingModel) nextReplay(context.Context) (*replay, error) { return nil, nil }

func (m *parkingModel) items(context.Context, uuid.UUID, int64, int) ([]*entry, error) {
	return nil, nil
}

func (m *parkingModel) endRelease(_ context.Context, group string) error {
	m.visit("end "+group, false, func() {
		held := slices.ContainsFunc(m.rows, func(r *parkedRow) bool { return r.group == group && r.state == "parked" && r.reason == reasonHeld })
		if m.groups[group] == "sending" && !held {
			delete(m.groups, group)
		}
	})
	return nil
}
