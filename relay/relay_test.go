package relay_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// TestPublishesWhatIsCommitted: committed rows arrive once, in order within their
// group, rolled back ones never; ledger = outbox, and the slot moves past them.
func TestPublishesWhatIsCommitted(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	want := o.each(40, "a", "b", "c") // before the relay
	o.start()
	abort := errors.New("abort")
	require.ErrorIs(t, pgx.BeginFunc(o.ctx, o.pool, func(tx pgx.Tx) error {
		require.NoError(t, schema.Append(o.ctx, tx, event("a", 10)))
		return abort
	}), abort)
	many := []schema.Event{event("a", 1), event("b", 2), event("a", 3), event("d", 4), event("a", 5)} // one transaction
	for i, id := range o.commit(many...) {
		want[many[i].Group] = append(want[many[i].Group], id)
	}
	for g, ids := range o.each(40, "a", "d") {
		want[g] = append(want[g], ids...)
	}
	require.Equal(t, want, o.received(85))
	o.drained()
	o.settled()
	o.confirmedUpToNow()
	require.Equal(t, 85, o.count(`ledger WHERE outcome = 'published' AND message_id <> '' AND sequence_number <> ''`))
	require.Equal(t, 0, o.count(`parked`))
}

// TestSavepointRolledBack: only what of a transaction survives is published.
func TestSavepointRolledBack(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.start()
	kept := []schema.Event{event("a", 1), event("a", 1)}
	require.NoError(t, pgx.BeginFunc(o.ctx, o.pool, func(tx pgx.Tx) error {
		require.NoError(t, schema.Append(o.ctx, tx, kept[0]))
		inner, err := tx.Begin(o.ctx)
		require.NoError(t, err)
		require.NoError(t, schema.Append(o.ctx, inner, event("a", 1)))
		require.NoError(t, inner.Rollback(o.ctx))
		return schema.Append(o.ctx, tx, kept[1])
	}))
	require.Equal(t, map[string][]uuid.UUID{"a": {kept[0].ID, kept[1].ID}}, o.received(2))
	o.drained()
}

// TestStopFinishesInFlight: what was published when Run is told to stop is
// recorded and confirmed when it returns, and the next relay sends none of it.
func TestStopFinishesInFlight(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	want := o.each(200, "a", "b", "c", "d")
	r := o.start()
	o.eventually("some are published", func() bool { return r.metric(t, "events_published_total") >= 5 })
	require.NoError(t, r.stop())
	require.Equal(t, int(r.metric(t, "events_published_total")), o.count(`ledger`))

	second := o.start()
	require.Equal(t, want, o.received(200))
	o.settled()
	o.drained()
	require.Equal(t, 200.0, r.metric(t, "events_published_total")+second.metric(t, "events_published_total"))
}

// TestAnswerLost: SNS accepts a batch and its answer never comes. The repeat has
// the same ids, so the queue sees each event once.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	rule := o.aws.Faults().Add(localaws.Rule{Effect: localaws.DropAnswer, Service: "sns", Action: "PublishBatch", Count: 5})
	want := o.each(60, "a", "b", "c")
	r := o.start()
	require.Equal(t, want, o.received(60))
	o.settled()
	o.drained()
	require.Equal(t, 5, o.aws.Faults().Hits(rule))
	require.GreaterOrEqual(t, r.metric(t, "publish_failures_total"), 5.0)
}

// TestThrottled: throttling slows, and loses nothing.
func TestThrottled(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.aws.Faults().Add(localaws.Rule{Effect: localaws.Throttle, Service: "sns", Count: 12})
	want := o.each(60, "a", "b", "c")
	o.start()
	require.Equal(t, want, o.received(60))
	o.drained()
}

// TestEntryFailureHoldsItsGroupOnly: one group is refused for now; the others go
// on, and it keeps its order when it is let through.
func TestEntryFailureHoldsItsGroupOnly(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	rule := o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Group: "b", Code: "InternalError"})
	r := o.start()
	want := o.each(60, "a", "b", "c")
	got := o.received(40)
	require.Equal(t, want["a"], got["a"])
	require.Equal(t, want["c"], got["c"])
	o.eventually("b was tried again and again", func() bool { return r.metric(t, "entry_failures_total") > 3 })
	o.drained()
	o.aws.Faults().Remove(rule)
	require.Equal(t, want["b"], o.received(20)["b"])
	o.settled()
	require.Equal(t, 0, o.count(`parked`))
}

// TestPoisonIsParked: what SNS will never take is parked with its reason, its
// group goes on, and the slot moves past it.
func TestPoisonIsParked(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", BodyContains: "poison", Code: "InvalidParameter", SenderFault: true})
	o.aws.Faults().Add(localaws.Rule{Effect: localaws.Refuse, Service: "sns", BodyContains: "whole-batch", Code: "InvalidParameter", Status: 400})
	bad, worse := event("a", 1), event("b", 1)
	bad.Body = `{"data":"poison"}`
	worse.Body = `{"data":"whole-batch"}`
	first := o.commit(event("a", 1))[0]
	parked := o.commit(bad, worse)
	after := o.commit(event("a", 1), event("b", 1), event("c", 1))
	o.start()
	require.Equal(t, map[string][]uuid.UUID{"a": {first, after[0]}, "b": {after[1]}, "c": {after[2]}}, o.received(4))
	o.settled()
	o.drained()
	o.confirmedUpToNow()
	rows, err := o.pool.Query(o.ctx, `SELECT p.event_id, p.reason, p.detail, l.outcome FROM parked p JOIN ledger l USING (day, event_id) ORDER BY p.seq`)
	require.NoError(t, err)
	type row struct {
		ID                      uuid.UUID
		Reason, Detail, Outcome string
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	require.NoError(t, err)
	require.Len(t, got, 2)
	for i, r := range got {
		require.Equal(t, parked[i], r.ID)
		require.Equal(t, "rejected", r.Reason)
		require.Equal(t, "parked", r.Outcome)
		require.Contains(t, r.Detail, "InvalidParameter")
	}
}

// TestEverythingRejected: SNS rejects whatever it is sent, as it does when it is
// set up wrongly. That is an outage and nobody's event's fault: nothing is parked,
// and all is published when it has been mended.
func TestEverythingRejected(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	rules := []string{
		o.aws.Faults().Add(localaws.Rule{Effect: localaws.Refuse, Service: "sns", Action: "PublishBatch", Code: "InvalidParameter", Status: 400}),
		o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Code: "KMSInvalidStateException", SenderFault: true}),
	}
	r := o.start()
	want := o.each(30, "a", "b", "c")
	for _, rule := range rules {
		failures := r.metric(t, "entry_failures_total")
		o.eventually("all of it fails", func() bool { return r.metric(t, "entry_failures_total") > failures+20 })
		o.aws.Faults().Remove(rule)
	}
	require.Equal(t, want, o.received(30))
	o.drained()
	require.Equal(t, 0, o.count(`parked`))
}

// TestRejectedAloneIsParkedOnceOthersGo: an event that is rejected while nothing
// else is published waits, and is parked when the rejections are its own alone.
func TestRejectedAloneIsParkedOnceOthersGo(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.aws.Faults().Add(localaws.Rule{Effect: localaws.Refuse, Service: "sns", BodyContains: "poison", Code: "InvalidParameter", Status: 400})
	bad := event("a", 1)
	bad.Body = `{"data":"poison"}`
	o.commit(bad)
	r := o.start()
	o.eventually("it is tried", func() bool { return r.metric(t, "entry_failures_total") > 3 })
	require.Equal(t, 0, o.count(`parked`))
	want := o.each(1, "b")
	require.Equal(t, want, o.received(1))
	o.settled()
	require.Equal(t, 1, o.count(`parked WHERE event_id = $1`, bad.ID))
}

// TestOddRows: rows written by hand, past what the writers check, are parked with
// a reason that says what is wrong, and nothing else is held up.
func TestOddRows(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.start()
	odd := map[string]struct{ attributes, body string }{
		"body is not a JSON object":    {`{}`, `{hello}`},
		`attribute "a" is empty`:       {`{"a":{"type":"String","value":""}}`, `{}`},
		`attribute "b" has type`:       {`{"b":{"type":"Binary","value":"x"}}`, `{}`},
		"attributes are not {name:":    {`{"c":5}`, `{}`},
		`attribute "eventType" has`:    {`{"eventType":{"value":"x"}}`, `{}`},
		"attributes are not {name: {t": {`{"d":"x"}`, `{}`},
	}
	for _, c := range odd {
		_, err := o.pool.Exec(o.ctx, `INSERT INTO outbox (id, type, message_group, attributes, body) VALUES (gen_random_uuid(), 'x', 'odd', $1, $2)`, c.attributes, c.body)
		require.NoError(t, err)
	}
	_, err := o.pool.Exec(o.ctx, `INSERT INTO outbox (id, type, message_group, attributes, body) VALUES (gen_random_uuid(), 'x', 'odd', '{}', E'{"data":"\x01"}')`)
	require.NoError(t, err)
	good := o.commit(event("odd", 1))
	require.Equal(t, good, o.received(1)["odd"])
	o.settled()
	o.drained()
	require.Equal(t, len(odd)+1, o.count(`parked WHERE state = 'parked'`))
	for reason := range odd {
		require.NotZero(t, o.count(`parked WHERE detail LIKE '%' || $1 || '%'`, reason), reason)
	}
}

// TestLargeTransaction: one transaction many times the window goes through it.
func TestLargeTransaction(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	_, err := o.pool.Exec(o.ctx, `INSERT INTO outbox (id, type, message_group, attributes, body)
		SELECT gen_random_uuid(), 'x', 'g' || i % 50, '{}', '{"data":"' || repeat('x', 1000) || '"}' FROM generate_series(1, 5000) i`)
	require.NoError(t, err)
	most := 0.0
	r := o.start(func(c *relay.Config) { c.Window = 256 << 10 })
	o.eventually("all are recorded", func() bool {
		most = max(most, r.metric(t, "window_bytes"))
		return o.count(`ledger`) == 5000
	})
	o.confirmedUpToNow()
	require.LessOrEqual(t, most, 256.0*1024)
	require.Equal(t, 5000.0, r.metric(t, "events_published_total"))
}

// TestStandby: a second relay on the slot waits, and goes on when the first is
// gone.
func TestStandby(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	first := o.start()
	o.eventually("the first is active", func() bool { return first.Ready(o.ctx) == nil })
	second := o.start()
	o.eventually("the second stands by", func() bool { err := second.Ready(o.ctx); return err != nil && err.Error() == "standby" })
	want := o.each(10, "a")
	require.Equal(t, want, o.received(10))
	require.NoError(t, first.stop())
	o.eventually("the second is active", func() bool { return second.Ready(o.ctx) == nil })
	want = o.each(10, "a")
	require.Equal(t, want, o.received(10))
	o.drained()
}

// TestStandbyCutOff: what a standby asks is swallowed on the way, and nothing is closed, as
// where the machine at the other end is gone. It asks anew, and takes over.
func TestStandbyCutOff(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	first := o.start()
	o.eventually("the first is active", func() bool { return first.Ready(o.ctx) == nil })
	g := newGate(o)
	second := o.start(func(c *relay.Config) { c.DSN, c.SenderTimeout = g.through(o, c.DSN), time.Hour }) // the server ends no session
	o.eventually("the second stands by", func() bool { err := second.Ready(o.ctx); return err != nil && err.Error() == "standby" })
	g.swallow()
	require.NoError(t, first.stop())
	o.eventually("the second is active", func() bool { return second.Ready(o.ctx) == nil })
	want := o.each(2, "a")
	require.Equal(t, want, o.received(2))
}

// TestStoppedHoldsNoLock: a relay that has stopped keeps nobody from what its lock is for.
func TestStoppedHoldsNoLock(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	for range 5 {
		r := o.start()
		o.eventually("it is active", func() bool { return r.Ready(o.ctx) == nil })
		require.NoError(t, r.stop())
		require.Zero(t, o.count(`pg_locks l JOIN pg_database d ON d.oid = l.database WHERE l.locktype = 'advisory' AND d.datname = current_database()`))
	}
}

// TestStandbySaysWhatItDid: the log of a standby that loses its connection says what that
// was for.
func TestStandbySaysWhatItDid(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	first := o.start()
	o.eventually("the first is active", func() bool { return first.Ready(o.ctx) == nil })
	var l logged
	second := o.start(l.to)
	o.eventually("the second stands by", func() bool { err := second.Ready(o.ctx); return err != nil && err.Error() == "standby" })
	o.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity a WHERE application_name = $1 || '_guard'
		AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory')`, o.slot)
	o.eventually("it is told", func() bool { return len(l.with("not relaying")) > 0 })
	require.NotContains(t, l.with("not relaying")[0], `"error":"FATAL`)
	require.NoError(t, first.Ready(o.ctx))
}

// TestPublicationOfAnyName: the publication may have any name that Postgres takes.
func TestPublicationOfAnyName(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.dropSlot()
	o.exec(`DELETE FROM watermarks`)
	const name = `The Shop's, "all"`
	o.exec("CREATE PUBLICATION " + pgx.Identifier{name}.Sanitize() + " FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root)")
	made, err := relay.CreateSlot(o.ctx, o.pg.DSN(o.database), o.slot, name, relay.RefuseExisting, time.Minute)
	require.NoError(t, err)
	require.True(t, made)
	o.start(func(c *relay.Config) { c.Publication = name })
	want := o.each(4, "a", "b")
	require.Equal(t, want, o.received(4))
	o.settled()
	o.confirmedUpToNow()
}

// TestSlotOfAnyName: the slot may have any name that Postgres takes.
func TestSlotOfAnyName(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.dropSlot()
	o.slot = "1_of_" + o.database
	_, err := o.createSlot(relay.RefuseExisting)
	require.NoError(t, err)
	o.start()
	want := o.each(1, "a")
	require.Equal(t, want, o.received(1))
	o.confirmedUpToNow()
}

// TestForeignMessages: logical messages of others are skipped and counted.
func TestForeignMessages(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	r := o.start()
	for _, transactional := range []bool{true, false} {
		_, err := o.pool.Exec(o.ctx, `SELECT pg_logical_emit_message($1, 'theirs', 'hello')`, transactional)
		require.NoError(t, err)
	}
	want := o.each(1, "a")
	require.Equal(t, want, o.received(1))
	o.eventually("both are counted", func() bool { return r.metric(t, "messages_foreign_total") == 2 })
	o.confirmedUpToNow()
}

// TestColumnsByName: the outbox table has its columns in another order, and more
// of them; the relay finds what it needs by name.
func TestColumnsByName(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.start()
	_, err := o.pool.Exec(o.ctx, `ALTER TABLE outbox ADD COLUMN note text DEFAULT 'x'`)
	require.NoError(t, err)
	want := o.each(3, "a")
	_, err = o.pool.Exec(o.ctx, `ALTER TABLE outbox DROP COLUMN note`)
	require.NoError(t, err)
	want["a"] = append(want["a"], o.each(3, "a")["a"]...)
	require.Equal(t, want, o.received(6))
}

// TestProgress: an idle relay progresses, one that publishes nothing does not, and a
// standby beside it has nothing to do.
func TestProgress(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	impatient := func(c *relay.Config) { c.StallAfter = 300 * time.Millisecond }
	r := o.start(impatient)
	o.commit(event("g", 1))
	o.settled()
	o.eventually("it gets on", func() bool { return r.Progress() == nil })
	second := o.start(impatient)
	o.eventually("the second stands by", func() bool {
		err := second.Ready(t.Context())
		return err != nil && err.Error() == "standby"
	})

	accept := o.refuseAll()
	o.commit(event("g", 1))
	o.eventually("it is stuck", func() bool { return r.Progress() != nil })
	require.ErrorContains(t, r.Progress(), "nothing was recorded or confirmed")
	require.Positive(t, r.metric(t, "stalled_seconds"))
	require.NoError(t, second.Progress())
	require.Zero(t, second.metric(t, "stalled_seconds"))
	accept()
	o.eventually("it goes on", func() bool { return r.Progress() == nil })
}
