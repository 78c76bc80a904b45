package relay_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// ordeal is one schedule being carried out.
type ordeal struct {
	*outbox
	schedule schedule
	gate     *gate
	mortal   *mortal
	relay    *running      // nil while none runs
	written  chan struct{} // closed when the writers of the phase are done
	history  *history
}

func newOrdeal(t *testing.T, pg *localpg.Server, s schedule) *ordeal {
	t.Helper()
	database := fmt.Sprintf("seed_%d", s.seed)
	require.NoError(t, pg.CreateDatabase(t.Context(), database, tortureTemplate))
	t.Cleanup(func() { require.NoError(t, pg.DropDatabase(context.Background(), database)) })
	o := &ordeal{outbox: setUp(t, pg, database), schedule: s, mortal: &mortal{resent: idSet{}}}
	o.gate = newGate(o.outbox)
	o.history = &history{acked: idSet{}, undone: idSet{}, early: idSet{}, resent: o.mortal.resent, deaths: map[point]int{}}
	o.summonWitness()
	return o
}

// run carries the schedule out and returns what became of the promise.
func (o *ordeal) run() verdict {
	var failed error
	for i := range o.schedule.phases {
		if failed = o.phase(i); failed != nil {
			break
		}
	}
	if failed == nil {
		failed = o.confirmedAtLast()
	}
	o.collect()
	v := o.history.judge()
	if failed != nil {
		v.complaints = append(v.complaints, failed.Error())
	}
	return v
}

func (o *ordeal) phase(i int) error {
	p := o.schedule.phases[i]
	for _, r := range p.rules {
		o.aws.Faults().Add(r)
	}
	if p.end.at == ledgerRefuses {
		o.exec(`REVOKE INSERT ON ledger FROM ` + schema.RoleRelay)
	}
	t := o.newTrap(p.end)
	o.mortal.expect(t.reached)
	if o.relay == nil {
		o.startRelay(o.schedule.fate(i))
	}
	o.startWriters(p.work)
	if err := o.until(t); err != nil {
		return err
	}
	t.spring()
	o.bury(p.end)
	<-o.written
	o.review(p.end)
	return nil
}

func (o *ordeal) startWriters(work [][]transaction) {
	var writers sync.WaitGroup
	for _, transactions := range work {
		writers.Go(func() {
			for _, tx := range transactions {
				o.write(tx)
			}
		})
	}
	written := make(chan struct{})
	o.written = written
	go func() {
		writers.Wait()
		close(written)
	}()
}

// startRelay starts one that is to end in the given way. One that is killed is told
// to stop, and must not find the time to do so.
func (o *ordeal) startRelay(fate victim) {
	o.relay = o.start(func(c *relay.Config) {
		o.mortal.next = c.Publisher
		c.Publisher = o.mortal
		c.DSN = o.gate.through(o.outbox, c.DSN)
		c.Window, c.InFlight, c.SenderTimeout = o.schedule.window, o.schedule.inFlight, o.schedule.senderTimeout
		if fate != nobody && fate != relayStopped {
			c.StopTimeout = time.Millisecond
		}
	})
}

// until waits for the trap, or for the end of the work if that comes first.
func (o *ordeal) until(t *trap) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	passed := o.progress(t.at)
	for {
		select {
		case <-t.sprung:
			o.history.deaths[t.at]++
			return nil
		case <-o.relay.done:
			return fmt.Errorf("the relay ended by itself: %w", o.relay.stop())
		case <-late.C:
			return errors.New("the ledger did not get to hold all of the outbox")
		case <-tick.C:
		}
		t.reached(t.at, passed())
		select {
		case <-o.written:
			if o.relay.metric(o.t, "window_bytes") == 0 && o.allRecorded() {
				return nil
			}
		default:
		}
	}
}

// progress counts how often a point was passed since now, unless the calls themselves
// tell.
func (o *ordeal) progress(at point) func() int {
	since := func(metric string) func() int {
		before := o.relay.metric(o.t, metric)
		return func() int { return int(o.relay.metric(o.t, metric) - before) }
	}
	switch at {
	case afterRead:
		return since("events_read_total")
	case beforeConfirm:
		return since("ledger_seconds")
	case ledgerRefuses:
		return since("ledger_failures_total")
	}
	return func() int { return 0 }
}

// allRecorded tells whether ledger = outbox. A database that is down tells no.
func (o *ordeal) allRecorded() bool {
	var all bool
	err := o.pool.QueryRow(o.ctx, `SELECT NOT EXISTS (SELECT FROM outbox o
		WHERE NOT EXISTS (SELECT FROM ledger l WHERE l.day = o.day AND l.event_id = o.id))`).Scan(&all)
	return err == nil && all
}

// trap does harm, once.
type trap struct {
	ending
	once   sync.Once
	sprung chan struct{} // closed then
	harm   func()
}

func (o *ordeal) newTrap(e ending) *trap {
	t := &trap{ending: e, sprung: make(chan struct{})}
	t.harm = func() { o.harm(e.victim) }
	return t
}

// reached springs the trap if it is set there. Who passes there meanwhile waits until
// the harm is done.
func (t *trap) reached(at point, n int) {
	if t.victim != nobody && at == t.at && n >= t.n {
		t.spring()
	}
}

func (t *trap) spring() {
	t.once.Do(func() {
		t.harm()
		close(t.sprung)
	})
}

// harm kills at once. What only asks to stop must not be waited for here, since the
// relay may be waiting for the call that is passing.
func (o *ordeal) harm(v victim) {
	switch v {
	case relayKilled, machineLost:
		o.mortal.setDead(true)
		o.gate.setShut(true)
	case networkCut:
		o.gate.setShut(true)
	}
	switch v {
	case postgresKilled, machineLost:
		o.note(o.pg.Kill())
	case postgresImmediate:
		o.note(o.pg.StopMode(o.ctx, localpg.Immediate))
	}
}

// note fails the test without ending the goroutine, which may be any.
func (o *ordeal) note(err error) {
	if err != nil {
		o.t.Error(err)
	}
}

// bury ends what is to end and brings back what is to go on.
func (o *ordeal) bury(e ending) {
	if e.victim.endsPostgres() {
		require.NoError(o.t, o.pg.Start(o.ctx))
		o.pool.Reset()
	}
	if e.at == ledgerRefuses {
		o.exec(`GRANT INSERT ON ledger TO ` + schema.RoleRelay)
	}
	if e.victim.endsRelay() {
		_ = o.relay.stop() // one that is killed has no say; of one that is stopped the ledger tells
		o.relay = nil
		o.mortal.setDead(false)
	}
	o.gate.setShut(false)
	if e.victim.endsRelay() && !e.hasty {
		o.eventually("Postgres notices that the relay is gone", func() bool {
			return o.count(`pg_stat_activity WHERE datname = $1 AND usename = $2`, o.database, schema.RoleRelay) == 0
		})
	}
}

func (o *ordeal) exec(sql string, args ...any) {
	_, err := o.pool.Exec(o.ctx, sql, args...)
	require.NoError(o.t, err)
}

// review looks at what is true at every time, and notes what the ledger holds: that
// must never be sent again.
func (o *ordeal) review(e ending) {
	confirmed := o.confirmedLSN()
	stream := o.stream()
	ledger := o.ledgerIDs() // read last, because it only grows
	for _, c := range stream {
		if c.end <= confirmed && !ledger[c.id] {
			o.history.early[c.id] = true
		}
	}
	o.mortal.setRecorded(ledger)
	if e.forget {
		o.history.forgotten = append(o.history.forgotten, ledger)
		o.aws.Faults().ExpireDeduplication("events.fifo")
		o.aws.Faults().ExpireDeduplication("all.fifo")
	}
}

// confirmedAtLast stops the relay and sees that the slot has moved past everything.
// The stop alone confirms it, unless the relay was just then connecting.
func (o *ordeal) confirmedAtLast() error {
	stream := o.stream()
	if len(stream) == 0 {
		return nil
	}
	last := stream[len(stream)-1].end
	if err := o.relay.stop(); err != nil {
		return err
	}
	if o.confirmedLSN() < last {
		o.startRelay(nobody)
		o.eventually("everything is confirmed", func() bool { return o.confirmedLSN() >= last })
	}
	return nil
}
