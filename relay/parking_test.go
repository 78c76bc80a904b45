package relay_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// operator is what a person has for what is parked, with no more rights.
func (o *outbox) operator() *ops.Parked {
	o.t.Helper()
	pool, err := pgxpool.New(o.ctx, o.pg.RoleDSN(schema.RoleMaintenance, password, o.database))
	require.NoError(o.t, err)
	o.t.Cleanup(pool.Close)
	return ops.NewParked(pool, "somebody", zerolog.Nop())
}

// refuse makes SNS refuse the entries of a group until the returned function is called.
func (o *outbox) refuse(group string) (accept func()) {
	id := o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Group: group, Code: "InternalError"})
	return func() { o.aws.Faults().Remove(id) }
}

func soon(c *relay.Config) { c.HoldAfter = 50 * time.Millisecond }

// parksBad starts a relay, for which the group bad is refused until accept, and has it park
// the group with so many events. Nothing is on its way then.
func (o *outbox) parksBad(events int, change ...func(*relay.Config)) (bad []uuid.UUID, r *running, accept func()) {
	o.t.Helper()
	accept = o.refuse("bad")
	r = o.start(append(change, soon)...)
	bad = o.each(events, "bad")["bad"]
	others := o.untilParked(1)
	o.settled()
	o.received(total(others))
	return bad, r, accept
}

// untilParked lets other groups succeed until as many groups are parked. It
// returns what it committed of theirs.
func (o *outbox) untilParked(n int) map[string][]uuid.UUID {
	o.t.Helper()
	others := map[string][]uuid.UUID{}
	o.eventually("groups are parked", func() bool {
		others["other"] = append(others["other"], o.commit(event("other", 1))...)
		return o.count(`parked_groups`) == n
	})
	return others
}

func total(ids map[string][]uuid.UUID) int {
	n := 0
	for _, of := range ids {
		n += len(of)
	}
	return n
}

// send releases groups.
func (o *outbox) send(groups ...string) ops.SendReport {
	o.t.Helper()
	report, err := o.operator().Send(o.ctx, ops.ParkedSelection{Groups: groups}, false)
	require.NoError(o.t, err)
	require.Empty(o.t, report.Missing)
	return report
}

func (o *outbox) released() {
	o.t.Helper()
	o.eventually("released", func() bool { return o.count(`parked_groups`)+o.count(`parked WHERE state = 'sending'`) == 0 })
}

// TestOneGroupAmongAThousand: one group is refused for ever. After the hold the
// window, which is too small for what it has, and the slot move on; its events
// wait in order, and are released in order.
func TestOneGroupAmongAThousand(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	accept := o.refuse("bad")
	r := o.start(soon, func(c *relay.Config) { c.Window = 64 << 10 })
	want := map[string][]uuid.UUID{}
	for i := range 1000 {
		events := []schema.Event{event(fmt.Sprintf("g%d", i), 20)}
		if i%5 == 0 {
			events = append(events, event("bad", 20))
		}
		for j, id := range o.commit(events...) {
			want[events[j].Group] = append(want[events[j].Group], id)
		}
	}
	bad := want["bad"]
	delete(want, "bad")
	for g, ids := range o.untilParked(1) {
		want[g] = ids
	}
	bad = append(bad, o.commit(event("bad", 20))...) // not tried any more
	o.settled()
	o.confirmedUpToNow()
	require.Equal(t, want, o.received(total(want)))
	o.drained()
	require.Equal(t, len(bad), o.count(`parked WHERE state = 'parked' AND reason = 'held' AND message_group = 'bad'`))
	require.Equal(t, 1.0, r.metric(t, "parked_groups"))

	list, err := o.operator().List(o.ctx, ops.Cursor{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	require.Equal(t, bad[0], *list.Items[0].Head)
	require.Contains(t, list.Items[0].Detail, "InternalError")
	require.True(t, list.Items[0].Held)

	accept()
	o.send("bad")
	require.Equal(t, bad, o.received(len(bad))["bad"])
	o.released()
	o.drained()
	require.Equal(t, len(bad), o.count(`parked p JOIN ledger l USING (day, event_id)
		WHERE p.state = 'sent' AND p.asked_by = 'somebody' AND l.outcome = 'published' AND l.message_id <> '' AND l.sequence_number <> ''`))
	o.eventually("the gauge follows", func() bool { return r.metric(t, "parked_groups") == 0 })
	require.Equal(t, float64(len(bad)), r.metric(t, "events_released_total"))
	after := o.commit(event("bad", 1))
	require.Equal(t, after, o.received(1)["bad"], "the group goes on")
}

// TestOutageParksNothing: everything fails for many times the hold, entries alone
// and calls as a whole by turns, with the window full. Nothing is parked.
func TestOutageParksNothing(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	want := o.each(30, "a", "b", "c")
	require.NotEmpty(t, want)
	entries := localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Code: "InternalError"}
	calls := localaws.Rule{Effect: localaws.InternalError, Service: "sns", Action: "PublishBatch"}
	rule := o.aws.Faults().Add(entries)
	r := o.start(func(c *relay.Config) { c.HoldAfter, c.Window = time.Millisecond, 8<<10 })
	for range 5 {
		for _, next := range []localaws.Rule{calls, entries} {
			hits := o.aws.Faults().Hits(rule)
			o.eventually("it fails", func() bool { return o.aws.Faults().Hits(rule) > hits+10 })
			was := rule
			rule = o.aws.Faults().Add(next)
			o.aws.Faults().Remove(was)
		}
	}
	require.Zero(t, r.metric(t, "events_parked_total"))
	o.aws.Faults().Remove(rule)
	require.Equal(t, want, o.received(30))
	o.settled()
	require.Zero(t, o.count(`parked`)+o.count(`parked_groups`))
}

// TestRefusedWholeIsTriedAlone: a call fails as a whole whenever the event of one
// group is in it. The events that went with it are published; it is parked.
func TestRefusedWholeIsTriedAlone(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.aws.Faults().Add(localaws.Rule{Effect: localaws.Cut, Service: "sns", Group: "bad"})
	o.start(soon)
	want := o.each(8, "a", "b", "c", "bad")
	bad := want["bad"]
	delete(want, "bad")
	for g, ids := range o.untilParked(1) {
		want[g] = ids
	}
	require.Equal(t, want, o.received(total(want)))
	o.settled()
	require.Equal(t, len(bad), o.count(`parked WHERE message_group = 'bad'`))
	require.Equal(t, len(bad), o.count(`parked`))
}

// TestParkedAcrossRestart: a parked group is parked for the next relay too, which
// tries none of it.
func TestParkedAcrossRestart(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	accept := o.refuse("bad")
	first := o.start(soon)
	bad := o.commit(event("bad", 1), event("bad", 1))
	others := o.untilParked(1)
	require.NoError(t, first.stop())
	bad = append(bad, o.commit(event("bad", 1))...)
	accept()
	o.start(soon)
	bad = append(bad, o.commit(event("bad", 1))...)
	o.settled()
	require.Equal(t, others, o.received(total(others)))
	o.drained()
	events, err := o.operator().Events(o.ctx, "bad", ops.Cursor{})
	require.NoError(t, err)
	require.Len(t, events.Items, 4)
	for i, e := range events.Items {
		require.Equal(t, bad[i], e.EventID)
		require.Contains(t, e.Detail, "InternalError")
	}
	o.send("bad")
	require.Equal(t, bad, o.received(4)["bad"])
	o.released()
}

// TestReleaseWhileEventsArrive: a group with more than one load of parked events
// is released while new events of it are committed, and the relay is stopped and
// started amid that. It comes out whole, once and in order.
func TestReleaseWhileEventsArrive(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	bad, r, accept := o.parksBad(250)
	accept()
	o.send("bad")
	for range 3 {
		was := r.metric(t, "events_released_total")
		o.eventually("some are released", func() bool {
			bad = append(bad, o.commit(event("bad", 1))...)
			return r.metric(t, "events_released_total") > was+10
		})
		require.NoError(t, r.stop())
		bad = append(bad, o.commit(event("bad", 1))...)
		r = o.start(soon)
	}
	most := len(bad) + 200 // without an end they could come faster than one group can go
	o.eventually("released", func() bool {
		if len(bad) < most {
			bad = append(bad, o.commit(event("bad", 1))...)
		}
		return o.count(`parked_groups`) == 0
	})
	require.Equal(t, bad, o.received(len(bad))["bad"])
	o.settled()
	o.drained()
	o.confirmedUpToNow()
	require.Equal(t, len(bad), o.count(`outbox JOIN ledger ON event_id = id WHERE message_group = 'bad' AND outcome = 'published'`))
	require.Zero(t, o.count(`parked WHERE state <> 'sent'`))
}

// TestReleaseWaitsForTheOutbox: what is to be released is not in sight, as a commit is
// for a moment after the stream brought it. It is waited for, and not taken for empty.
func TestReleaseWaitsForTheOutbox(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	var log lines
	bad, _, accept := o.parksBad(3, func(c *relay.Config) { c.Logger = zerolog.New(&log) })
	accept()

	var partition string
	o.one(&partition, `SELECT tableoid::regclass::text FROM outbox LIMIT 1`)
	_, err := o.pool.Exec(o.ctx, `ALTER TABLE outbox DETACH PARTITION `+partition)
	require.NoError(t, err)
	o.send("bad")
	o.eventually("it is missed", func() bool { return log.contain("the outbox does not show event " + bad[0].String()) })
	_, err = o.pool.Exec(o.ctx, `ALTER TABLE outbox ATTACH PARTITION `+partition+` FOR VALUES FROM ('`+day(partition)+`') TO ('`+day(partition)+`'::date + 1)`)
	require.NoError(t, err)
	o.released()
	require.Equal(t, bad, o.received(3)["bad"])
	require.Zero(t, o.count(`parked WHERE state <> 'sent'`))
}

// TestReleaseOfWhatIsLost: the outbox does not hold the head of a group that is being
// sent. As the log says, it can be skipped meanwhile, and the rest of the group goes.
func TestReleaseOfWhatIsLost(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	var log lines
	bad, _, accept := o.parksBad(3, func(c *relay.Config) { c.Logger = zerolog.New(&log) })
	accept()

	_, err := o.pool.Exec(o.ctx, `DELETE FROM outbox WHERE id = $1`, bad[0])
	require.NoError(t, err)
	o.send("bad")
	o.eventually("it is missed", func() bool { return log.contain("run restock parked skip " + bad[0].String()) })
	skipped, err := o.operator().Skip(o.ctx, ops.ParkedSelection{Events: bad[:1]}, "it is lost")
	require.NoError(t, err)
	require.Equal(t, bad[:1], skipped)
	o.released()
	require.Equal(t, bad[1:], o.received(2)["bad"])
	require.Equal(t, 1, o.count(`parked WHERE state = 'skipped' AND note = 'it is lost'`))
	after := o.commit(event("bad", 1))
	require.Equal(t, after, o.received(1)["bad"], "the group goes on")
}

// TestReleasesHaveTheirTurn: more groups are to be sent than can be at once, and the outbox
// does not hold what was parked of all but one. That one goes all the same.
func TestReleasesHaveTheirTurn(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.exec(`INSERT INTO parked (day, event_id, message_group, seq, reason, detail)
		SELECT (now() AT TIME ZONE 'UTC')::date, gen_random_uuid(), 'lost-' || i, 0, 'held', 'no' FROM generate_series(1, 50) i`)
	o.exec(`INSERT INTO parked_groups (message_group, event_id, detail, failing_since, state)
		SELECT message_group, event_id, 'no', now(), 'sending' FROM parked UNION ALL SELECT 'there', gen_random_uuid(), 'no', now(), 'sending'`)
	there := o.commit(event("there", 1))
	o.start()
	require.Equal(t, there, o.received(1)["there"])
	o.eventually("released", func() bool { return o.count(`parked_groups WHERE message_group = 'there'`) == 0 })
}

// day is that of a partition, from its name.
func day(partition string) string { return partition[len(partition)-len("20060102"):] }

// lines is a log that can be looked into while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) contain(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

// TestReleaseIsWidened: a parked group is sent while the database is still being asked for
// an event of it that was parked by itself. That answer is not taken for all that there is:
// what comes of the group meanwhile stays behind what is held of it.
func TestReleaseIsWidened(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	never := o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Code: "InvalidParameter", SenderFault: true})
	o.start(soon)
	alone := o.commit(event("bad", 1))
	o.eventually("it is parked by itself", func() bool { return o.count(`parked WHERE reason = 'rejected'`) == 1 })
	o.aws.Faults().Remove(never)
	accept := o.refuse("bad")
	held := o.commit(event("bad", 1), event("bad", 1))
	others := o.untilParked(1)
	o.settled()
	o.received(total(others))
	accept()

	loading := o.lock(`LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE`)
	o.exec(`UPDATE parked SET state = 'sending' WHERE reason = 'rejected'`)
	o.waits("SELECT p.day, p.event_id%")
	looking := o.lock(`LOCK TABLE parked_groups IN ACCESS EXCLUSIVE MODE`)
	_, err := looking.Exec(o.ctx, `UPDATE parked_groups SET state = 'sending'`)
	require.NoError(t, err)
	o.waits("SELECT message_group, bool_or(whole)%")
	require.NoError(t, looking.Commit(o.ctx))
	looking = o.lock(`LOCK TABLE parked_groups IN ACCESS EXCLUSIVE MODE`)
	o.waits("SELECT message_group, bool_or(whole)%") // the look before was taken in
	require.NoError(t, looking.Commit(o.ctx))
	ending := o.lock(`SELECT FROM parked_groups FOR UPDATE`)
	require.NoError(t, loading.Commit(o.ctx))
	got := o.received(1)["bad"]
	after := o.commit(event("bad", 1))
	got = append(got, o.received(max(0, 2-len(got)))["bad"]...)
	require.NoError(t, ending.Commit(o.ctx))
	got = append(got, o.received(4 - len(got))["bad"]...)
	require.Equal(t, slices.Concat(alone, held, after), got)
	o.released()
}

// lock begins a transaction that holds a lock until it ends.
func (o *outbox) lock(sql string) pgx.Tx {
	o.t.Helper()
	tx, err := o.pool.Begin(o.ctx)
	require.NoError(o.t, err)
	o.t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(o.ctx)) })
	_, err = tx.Exec(o.ctx, sql)
	require.NoError(o.t, err)
	return tx
}

// waits returns when a statement waits for a lock.
func (o *outbox) waits(like string) {
	o.t.Helper()
	o.eventually("it waits: "+like, func() bool {
		return o.count(`pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE $1`, like) > 0
	})
}

// TestReleaseIsBounded: a parked group is released in pieces, of which one at a
// time is in memory.
func TestReleaseIsBounded(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	accept := o.refuse("bad")
	r := o.start(soon)
	_, err := o.pool.Exec(o.ctx, `INSERT INTO outbox (id, type, message_group, attributes, body)
		SELECT gen_random_uuid(), 'x', 'bad', '{}', '{"data":"' || repeat('x', 20000) || '"}' FROM generate_series(1, 300) i`)
	require.NoError(t, err)
	o.untilParked(1)
	o.settled()
	accept()
	o.send("bad")
	most := 0.0
	o.eventually("released", func() bool {
		most = max(most, r.metric(t, "window_bytes"))
		return o.count(`parked WHERE state = 'sent'`) == 300
	})
	require.Positive(t, most)
	require.Less(t, most, 600.0*1024)
}

// TestKilledWhileReleasing kills Postgres amid a release with answers of SNS lost
// besides. Each event comes out once, in order.
func TestKilledWhileReleasing(t *testing.T) {
	t.Parallel()
	pg := pgtest.NewServer(t, localpg.Config{Fsync: true})
	o := newOutboxOn(t, pg)
	bad, r, accept := o.parksBad(300)
	o.aws.Faults().Add(localaws.Rule{Effect: localaws.DropAnswer, Service: "sns", Action: "PublishBatch", Group: "bad", Count: 5})
	accept()
	o.send("bad")
	for range 2 {
		was := r.metric(t, "events_released_total")
		o.eventually("some are released", func() bool { return r.metric(t, "events_released_total") > was+20 })
		require.NoError(t, pg.Kill())
		require.NoError(t, pg.Start(o.ctx))
		o.pool.Reset()
		bad = append(bad, o.commit(event("bad", 1))...)
	}
	require.Equal(t, bad, o.received(len(bad))["bad"])
	o.released()
	o.settled()
	o.drained()
	require.Zero(t, o.count(`parked WHERE state <> 'sent'`))
	require.Zero(t, o.count(`ledger WHERE outcome = 'parked'`))
}

// TestReleasedGroupFailsAgain: it is parked again as a whole, in its order, and
// what had been sent of it stays sent.
func TestReleasedGroupFailsAgain(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	accept := o.refuse("bad")
	r := o.start(soon)
	ids := make([]schema.Event, 5)
	for i := range ids {
		ids[i] = event("bad", 1)
	}
	ids[2].Body = `{"data":"stubborn"}`
	bad := o.commit(ids...)
	others := o.untilParked(1)
	o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", BodyContains: "stubborn", Code: "InternalError"})
	accept()
	o.received(total(others))
	o.send("bad")
	require.Equal(t, bad[:2], o.received(2)["bad"])
	more := 0
	o.eventually("parked again", func() bool {
		o.commit(event("other", 1))
		more++
		return o.count(`parked_groups WHERE state = 'parked'`) == 1
	})
	bad = append(bad, o.commit(event("bad", 1))...)
	o.settled()
	o.received(more)
	o.drained()
	require.Equal(t, 1.0, r.metric(t, "parked_groups"))
	left, err := o.operator().Events(o.ctx, "bad", ops.Cursor{})
	require.NoError(t, err)
	require.Len(t, left.Items, 4)
	for i, e := range left.Items {
		require.Equal(t, bad[2+i], e.EventID)
		require.Equal(t, "parked", e.State)
	}

	skipped, err := o.operator().Skip(o.ctx, ops.ParkedSelection{Events: bad[2:3]}, "stubborn")
	require.NoError(t, err)
	require.Equal(t, bad[2:3], skipped)
	o.send("bad")
	require.Equal(t, bad[3:], o.received(3)["bad"])
	o.released()
	require.Equal(t, 1, o.count(`parked WHERE state = 'skipped' AND note = 'stubborn' AND asked_by = 'somebody' AND resolved_at IS NOT NULL`))
}

// TestReleasedPoison: what can never be published is parked anew amid a release,
// with its own reason, and the rest of the group goes on.
func TestReleasedPoison(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	accept := o.refuse("bad")
	r := o.start(soon)
	poison := event("bad", 1)
	poison.Body = `{"data":"poison"}`
	bad := o.commit(event("bad", 1), poison, event("bad", 1))
	others := o.untilParked(1)
	rule := o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", BodyContains: "poison", Code: "InvalidParameter", SenderFault: true})
	accept()
	o.received(total(others))
	o.send("bad")
	require.Equal(t, []uuid.UUID{bad[0], bad[2]}, o.received(2)["bad"])
	o.released()
	require.Equal(t, 1, o.count(`parked WHERE event_id = $1 AND state = 'parked' AND reason = 'rejected' AND detail LIKE 'InvalidParameter%'`, poison.ID))

	// Sent by itself, the group goes on meanwhile.
	report, err := o.operator().Send(o.ctx, ops.ParkedSelection{Events: []uuid.UUID{poison.ID, uuid.Nil}}, true)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{poison.ID}, report.Groups[0].Overtaken, "a later one is published")
	require.Equal(t, []string{uuid.Nil.String()}, report.Missing)
	o.aws.Faults().Remove(rule)
	report, err = o.operator().Send(o.ctx, ops.ParkedSelection{Events: []uuid.UUID{poison.ID}}, false)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{poison.ID}, o.received(1)["bad"])
	o.eventually("sent", func() bool {
		at, err := o.operator().Sending(o.ctx, report)
		return err == nil && at.Done
	})
	require.Equal(t, 1.0, r.metric(t, "events_released_total")-2)
	require.Equal(t, 1, o.count(`parked p JOIN ledger l USING (day, event_id) WHERE event_id = $1 AND p.state = 'sent' AND l.outcome = 'published'`, poison.ID))
}

// TestSkippedGroupGoesOn: a group of which all is skipped is not parked any more.
func TestSkippedGroupGoesOn(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	accept := o.refuse("bad")
	o.start(soon)
	o.commit(event("bad", 1), event("bad", 1))
	others := o.untilParked(1)
	accept()
	o.received(total(others))
	skipped, err := o.operator().Skip(o.ctx, ops.ParkedSelection{Groups: []string{"bad"}}, "nobody needs it")
	require.NoError(t, err)
	require.Len(t, skipped, 2)
	o.released()
	o.drained()
	after := o.commit(event("bad", 1))
	require.Equal(t, after, o.received(1)["bad"])
}
