package relay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// replays is what a person has for replays, with no more rights.
func (o *outbox) replays(consumers ...ops.ReplayConsumer) *ops.Replays {
	o.t.Helper()
	pool, err := pgxpool.New(o.ctx, o.pg.RoleDSN(schema.RoleMaintenance, password, o.database))
	require.NoError(o.t, err)
	o.t.Cleanup(pool.Close)
	return ops.NewReplays(ops.ReplaysConfig{DB: pool, By: "somebody", Logger: zerolog.Nop(), Consumers: consumers})
}

// replay asks for one of everything that is published, unless another selection is given.
func (o *outbox) replay(r *ops.Replays, rate int, selection ...ops.ReplaySelection) uuid.UUID {
	o.t.Helper()
	s := ops.ReplaySelection{Types: []string{"order.placed"}}
	for _, s = range selection {
	}
	plan, err := r.Start(o.ctx, s, ops.ReplayOptions{Rate: rate})
	require.NoError(o.t, err)
	return *plan.ID
}

func (o *outbox) awaitReplay(r *ops.Replays, id uuid.UUID, state string) (s ops.ReplayState) {
	o.t.Helper()
	o.eventually("replay is "+state, func() bool {
		var err error
		s, err = r.State(o.ctx, id)
		require.NoError(o.t, err)
		return s.State == state
	})
	return s
}

// copies takes n messages out of the queue and returns their event ids by group, and
// by the value of the attribute replay.
func (o *outbox) copies(n int) map[string]map[string][]uuid.UUID {
	o.t.Helper()
	all := map[string]map[string][]uuid.UUID{}
	for got := 0; got < n; {
		out, err := o.sqs.ReceiveMessage(o.ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &o.queue, MaxNumberOfMessages: 10, WaitTimeSeconds: 20, MessageAttributeNames: []string{"All"},
			MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"},
		})
		require.NoError(o.t, err)
		require.NotEmpty(o.t, out.Messages, "%d of %d messages came", got, n)
		for _, m := range out.Messages {
			got++
			replay := ""
			id, of, isReplay := strings.Cut(m.Attributes["MessageDeduplicationId"], ":")
			if isReplay {
				replay = *m.MessageAttributes["replay"].StringValue
				require.True(o.t, strings.HasPrefix(replay, of))
			}
			if all[replay] == nil {
				all[replay] = map[string][]uuid.UUID{}
			}
			group := m.Attributes["MessageGroupId"]
			all[replay][group] = append(all[replay][group], uuid.MustParse(id))
			_, err := o.sqs.DeleteMessage(o.ctx, &sqs.DeleteMessageInput{QueueUrl: &o.queue, ReceiptHandle: m.ReceiptHandle})
			require.NoError(o.t, err)
		}
	}
	return all
}

// TestReplay: what is replayed comes once more, each group in its order, under a
// deduplication id of the replay; the ledger is as it was. Two of the same come one
// after the other, and a replay holds nothing of the stream up.
func TestReplay(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	run := o.start()
	want := o.each(60, "a", "b", "c")
	o.received(60)
	o.settled()
	var before, after string
	o.one(&before, `SELECT string_agg(l::text, ',' ORDER BY event_id) FROM ledger l`)
	r := o.replays()
	first, second := o.replay(r, 0), o.replay(r, 1000)
	s := o.awaitReplay(r, second, "done")
	require.Equal(t, int64(60), s.Done)
	require.Zero(t, s.Failed)
	require.Equal(t, "somebody", s.AskedBy)
	require.Zero(t, o.count(`replays a JOIN replays b ON b.turn > a.turn WHERE b.started_at < a.ended_at`), "one after the other")
	live := o.each(3, "a", "b", "c")
	require.Equal(t, map[string]map[string][]uuid.UUID{first.String(): want, second.String(): want, "": live}, o.copies(123))
	o.drained()
	_, err := o.pool.Exec(o.ctx, `DELETE FROM ledger WHERE event_id = ANY($1)`, []uuid.UUID{live["a"][0], live["b"][0], live["c"][0]})
	require.NoError(t, err)
	o.one(&after, `SELECT string_agg(l::text, ',' ORDER BY event_id) FROM ledger l`)
	require.Equal(t, before, after)
	require.Equal(t, 120.0, run.metric(t, "events_replayed_total"))
}

// TestReplayAfterACrash: whatever a relay that died has left of a replay, the next
// one sends the rest of it, each group in order; what it sends again is dropped.
func TestReplayAfterACrash(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		done int    // was recorded
		left string // done to the database besides
	}{
		"before it was taken up":               {0, `UPDATE replays SET state = 'waiting'`},
		"recorded with an error, not in order": {7, `UPDATE replay_items SET error = 'no' WHERE place = 20`},
		"all recorded but the last":            {29, ``},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutbox(t)
			run := o.start()
			want := o.each(30, "a", "b", "c")
			o.received(30)
			o.settled()
			r := o.replays()
			id := o.replay(r, 0)
			o.awaitReplay(r, id, "done")
			require.Equal(t, want, o.copies(30)[id.String()])
			require.NoError(t, run.stop())

			leave := func(done int) {
				_, err := o.pool.Exec(o.ctx, `UPDATE replays SET state = 'running', done = $1, ended_at = NULL`, done)
				require.NoError(t, err)
				_, err = o.pool.Exec(o.ctx, test.left)
				require.NoError(t, err)
			}
			leave(test.done)
			run = o.start()
			s := o.awaitReplay(r, id, "done")
			require.Equal(t, int64(30), s.Done)
			require.Zero(t, s.Failed, "what went after all has no error")
			o.drained() // all of it was sent before
			require.NoError(t, run.stop())

			leave(test.done)
			o.forgetRepeats()
			o.start()
			o.awaitReplay(r, id, "done")
			rest := map[string][]uuid.UUID{}
			for i := test.done; i < 30; i++ {
				group := string(rune('a' + i%3))
				rest[group] = append(rest[group], want[group][i/3])
			}
			require.Equal(t, rest, o.copies(30 - test.done)[id.String()])
			o.drained()
		})
	}
}

// TestReplayCancelAndResume: cancelled, it ends; resumed, the rest follows, none twice
// and none out of order. A stop of the relay amid it changes nothing of that.
func TestReplayCancelAndResume(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	run := o.start()
	want := o.each(60, "a", "b", "c")
	o.received(60)
	o.settled()
	accept := o.refuseAll()
	r := o.replays()
	id := o.replay(r, 10)
	failures := run.metric(t, "publish_failures_total")
	o.eventually("it is tried", func() bool { return run.metric(t, "publish_failures_total") > failures })
	_, err := r.Cancel(o.ctx, id)
	require.NoError(t, err)
	other := o.replay(r, 0, ops.ReplaySelection{Events: want["a"][:1]}) // taken up only after the first is out of the lanes
	accept()
	o.awaitReplay(r, other, "done")
	s := o.awaitReplay(r, id, "cancelled")
	require.Less(t, s.Done, int64(60))
	require.Equal(t, "somebody", s.CancelledBy)
	_, err = r.Cancel(o.ctx, id)
	require.ErrorContains(t, err, "is cancelled already")

	require.NoError(t, run.stop())
	_, err = r.Resume(o.ctx, id)
	require.NoError(t, err)
	_, err = o.pool.Exec(o.ctx, `UPDATE replays SET rate = 0`)
	require.NoError(t, err)
	o.start()
	o.awaitReplay(r, id, "done")
	got := o.copies(61)
	require.Equal(t, want, got[id.String()])
	require.Equal(t, map[string][]uuid.UUID{"a": want["a"][:1]}, got[other.String()])
	o.drained()
	_, err = r.Resume(o.ctx, uuid.New())
	require.ErrorIs(t, err, ops.ErrNoReplay)
}

// TestReplayCancelledWhileRefused: all that is left of a replay is refused, and nothing else
// is published that would tell that from an outage. Cancelled, it ends, lets the next one
// go and what came of the group meanwhile, and can be resumed.
func TestReplayCancelledWhileRefused(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]localaws.Rule{
		"entries": {Effect: localaws.FailEntries, Service: "sns", Group: "bad", Code: "InternalError"},
		"calls":   {Effect: localaws.Cut, Service: "sns", Group: "bad"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutbox(t)
			run := o.start()
			want := o.each(30, "bad", "good")
			o.received(30)
			o.settled()
			fault := o.aws.Faults().Add(rule)
			r := o.replays()
			id := o.replay(r, 0, ops.ReplaySelection{Groups: []string{"bad"}})
			o.eventually("it is refused", func() bool { return o.aws.Faults().Hits(fault) > 3 })
			live := o.commit(event("bad", 1))

			_, err := r.Cancel(o.ctx, id)
			require.NoError(t, err)
			next := o.replay(r, 0, ops.ReplaySelection{Groups: []string{"good"}})
			o.awaitReplay(r, next, "done")
			require.Equal(t, map[string]map[string][]uuid.UUID{next.String(): {"good": want["good"]}}, o.copies(15))

			o.aws.Faults().Remove(fault)
			require.Equal(t, live, o.received(1)["bad"])
			o.settled()
			o.eventually("nothing is held", func() bool { return run.metric(t, "window_bytes") == 0 })
			_, err = r.Resume(o.ctx, id)
			require.NoError(t, err)
			require.Zero(t, o.awaitReplay(r, id, "done").Failed)
			require.Equal(t, map[string]map[string][]uuid.UUID{id.String(): {"bad": want["bad"]}}, o.copies(15))
			o.drained()
		})
	}
}

// TestReplayBesideAFullWindow: what a slow replay has loaded is more than the window,
// and the stream reads on beside it.
func TestReplayBesideAFullWindow(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	run := o.start(func(c *relay.Config) { c.Window = 64 << 10 })
	o.exec(`INSERT INTO outbox (id, type, message_group, attributes, body)
		SELECT gen_random_uuid(), 'order.placed', 'g' || i % 50, '{}', '{"d":"' || repeat('x', 2000) || '"}' FROM generate_series(1, 300) i`)
	o.settled()
	r := o.replays()
	id := o.replay(r, 1)
	o.eventually("it replays", func() bool { return run.metric(t, "events_replayed_total") >= 1 })
	require.Greater(t, run.metric(t, "window_bytes"), float64(64<<10))
	o.each(20, "live", "g1")
	o.settled()
	s, err := r.State(o.ctx, id)
	require.NoError(t, err)
	require.Equal(t, "running", s.State)
}

// TestReplayOfWhatIsRefused: what SNS will not take, and a group that it refuses for
// too long, have their error; the rest of the replay goes on, and nothing is parked.
func TestReplayOfWhatIsRefused(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]localaws.Rule{
		"for good": {Effect: localaws.FailEntries, Service: "sns", Group: "bad", Code: "InvalidParameter", SenderFault: true},
		"for now":  {Effect: localaws.FailEntries, Service: "sns", Group: "bad", Code: "InternalError"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutbox(t)
			o.start(soon)
			want := o.each(40, "bad", "good")
			o.received(40)
			o.settled()
			fault := o.aws.Faults().Add(rule)
			r := o.replays()
			id := o.replay(r, 0)
			others := 0
			o.eventually("it is done", func() bool {
				others += len(o.commit(event("other", 1)))
				s, err := r.State(o.ctx, id)
				require.NoError(t, err)
				return s.State == "done"
			})
			s, err := r.State(o.ctx, id)
			require.NoError(t, err)
			require.Equal(t, int64(20), s.Failed)
			failures, err := r.Failures(o.ctx, id, 100)
			require.NoError(t, err)
			require.Len(t, failures, 20)
			for i, f := range failures {
				require.Equal(t, want["bad"][i], f.EventID)
				require.Contains(t, f.Error, rule.Code)
			}
			o.aws.Faults().Remove(fault)
			want["bad"] = o.commit(event("bad", 1))
			got := o.copies(21 + others)
			require.Equal(t, map[string][]uuid.UUID{"good": want["good"]}, got[id.String()])
			require.Equal(t, want["bad"], got[""]["bad"], "a live event of the group goes on")
			o.drained()
			require.Zero(t, o.count(`parked`)+o.count(`parked_groups`))
		})
	}
}

// TestReplayOfWhatIsNotPublished: what was parked by itself and what the ledger has
// lost is published by a replay, and recorded as such; an event that is gone, and one
// of a parked group, have their error.
func TestReplayOfWhatIsNotPublished(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	fault := o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Group: "bad", Code: "InvalidParameter", SenderFault: true})
	run := o.start(soon)
	bad := o.commit(event("bad", 1))
	o.settled()
	o.aws.Faults().Remove(fault)
	good := o.each(3, "good", "gone", "stuck")
	o.received(3)
	o.settled()
	r := o.replays()
	_, err := r.Start(o.ctx, ops.ReplaySelection{Events: bad}, ops.ReplayOptions{})
	require.ErrorIs(t, err, ops.ErrMissing)
	require.ErrorContains(t, err, "1 are parked: --parked replays them")
	o.awaitReplay(r, o.replay(r, 0, ops.ReplaySelection{Parked: true}), "done")
	require.Equal(t, 1, o.count(`parked JOIN ledger USING (day, event_id) WHERE state = 'sent' AND asked_by = 'somebody' AND outcome = 'published' AND message_id <> ''`))

	_, err = o.pool.Exec(o.ctx, `DELETE FROM ledger WHERE event_id = $1`, good["good"][0])
	require.NoError(t, err)
	o.awaitReplay(r, o.replay(r, 0, ops.ReplaySelection{Unpublished: true}), "done")
	require.Equal(t, 1, o.count(`ledger WHERE event_id = $1 AND outcome = 'published' AND sequence_number <> ''`, good["good"][0]))
	require.Len(t, o.copies(2), 2)

	require.NoError(t, run.stop())
	_, err = o.pool.Exec(o.ctx, `INSERT INTO parked_groups (message_group, event_id, detail, failing_since) VALUES ('stuck', $1, 'no', now())`, uuid.New())
	require.NoError(t, err)
	id := o.replay(r, 0)
	_, err = o.pool.Exec(o.ctx, `DELETE FROM outbox WHERE message_group = 'gone'`)
	require.NoError(t, err)
	o.start()
	s := o.awaitReplay(r, id, "done")
	require.Equal(t, []int64{4, 4, 2}, []int64{s.Events, s.Done, s.Failed})
	failures, err := r.Failures(o.ctx, id, 10)
	require.NoError(t, err)
	require.Contains(t, failures[0].Error, "the outbox does not hold it any more")
	require.Contains(t, failures[1].Error, "restock parked send --group 'stuck'")
	require.Len(t, o.copies(2)[id.String()], 2)
	o.drained()
}

// TestReplayForOneConsumer: what was not published yet and is replayed for one consumer
// was not published for the others. It is still parked, or not in the ledger, and a
// replay for all of them brings it.
func TestReplayForOneConsumer(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	fault := o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Group: "bad", Code: "InvalidParameter", SenderFault: true})
	o.start()
	bad, lost := event("bad", 1), event("lost", 1)
	bad.Type, lost.Type = schema.TypeStockReplenished, schema.TypeStockReplenished
	ids := o.commit(bad, lost)
	o.received(1)
	o.settled()
	o.aws.Faults().Remove(fault)
	_, err := o.pool.Exec(o.ctx, `DELETE FROM ledger WHERE event_id = $1`, ids[1])
	require.NoError(t, err)
	ads, known := schema.InterestOf(schema.ConsumerAds, schema.DefaultVIPThreshold)
	require.True(t, known)
	r := o.replays(ops.ReplayConsumer{Interest: ads})
	both := []ops.ReplaySelection{{Parked: true}, {Unpublished: true}}
	want := map[string]map[string][]uuid.UUID{}

	for i, s := range both {
		plan, err := r.Start(o.ctx, s, ops.ReplayOptions{Consumer: schema.ConsumerAds})
		require.NoError(t, err)
		require.Zero(t, o.awaitReplay(r, *plan.ID, "done").Failed)
		want[plan.ID.String()+";consumer=ads"] = map[string][]uuid.UUID{[]string{"bad", "lost"}[i]: ids[i : i+1]}
	}
	require.Equal(t, want, o.copies(2))
	require.Equal(t, 1, o.count(`parked JOIN ledger USING (day, event_id) WHERE state = 'parked' AND outcome = 'parked'`))
	require.Zero(t, o.count(`ledger WHERE outcome = 'published'`))

	for _, s := range both {
		o.awaitReplay(r, o.replay(r, 0, s), "done")
	}
	require.Equal(t, 2, o.count(`ledger WHERE outcome = 'published'`))
	require.Zero(t, o.count(`parked WHERE state <> 'sent'`))
}

// TestReplayAttribute: an event of nine attributes is replayed with ten.
func TestReplayAttribute(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.start(func(c *relay.Config) { c.InFlight = 1 })
	e := event("g", 1)
	for _, name := range strings.Split("abcdefgh", "") {
		e.Attributes[name] = schema.Attribute{Type: "String", Value: name}
	}
	o.commit(e)
	o.received(1)
	o.settled()
	r := o.replays()
	since := time.Now().Add(-time.Hour)
	plan, err := r.Start(o.ctx, ops.ReplaySelection{Since: &since}, ops.ReplayOptions{Force: true})
	require.NoError(t, err)
	out, err := o.sqs.ReceiveMessage(o.ctx, &sqs.ReceiveMessageInput{QueueUrl: &o.queue, WaitTimeSeconds: 20, MessageAttributeNames: []string{"All"}})
	require.NoError(t, err)
	require.Len(t, out.Messages, 1)
	require.Len(t, out.Messages[0].MessageAttributes, 10)
	require.Equal(t, plan.ID.String()+";force", *out.Messages[0].MessageAttributes["replay"].StringValue)
}
