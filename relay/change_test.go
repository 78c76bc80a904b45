package relay_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// TestShardsChangeUnderLoad: while events are committed, the outbox goes from 1 shard to
// 2, to 4 and back, and the command that does it is cut off at each of its steps. SNS is
// given every event, once, each group's in the order of their commits.
func TestShardsChangeUnderLoad(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	c := o.startCrew(5)
	stop := c.load(4, 25)
	nothing := func(string) {}
	o.cutOff(2, nothing, "planned", "publications made", "slots made", "drained", "paused", "left", "handed over", "slot dropped")
	o.cutOff(4, nothing, "slots made", "left", "slot dropped")
	o.cutOff(1, nothing, "paused", "handed over")
	want := stop()
	o.settled()
	require.Equal(t, want, c.seen.order, "each once, in order")
}

// TestShardsChangeAmidDeaths: as before, and meanwhile relays die without having
// recorded what they have published. What comes of that is repeats, which SNS drops.
func TestShardsChangeAmidDeaths(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	c := o.startCrew(6, func(cfg *relay.Config) { cfg.StopTimeout = time.Nanosecond })
	stop := c.load(2, 25)
	dies := 0
	for _, n := range []int{2, 4, 1} {
		o.cutOff(n, func(string) {
			c.replace(dies % len(c.relays))
			dies++
		}, "slots made", "left", "handed over")
	}
	want := stop()
	o.settled()
	got := map[string][]uuid.UUID{}
	for g, ids := range c.seen.order {
		seen := map[uuid.UUID]bool{}
		for _, id := range ids {
			if !seen[id] {
				got[g], seen[id] = append(got[g], id), true
			}
		}
	}
	require.Equal(t, want, got, "each first time in order")
	require.Equal(t, want, o.delivered(eventsIn(want)), "each once, in order")
	o.drained()
}

// TestShardsWaitForTheirRelays: nothing changes while an event from before is not dealt
// with, nor while a relay has a call under way: else the one would be lost, and the other
// could be overtaken.
func TestShardsWaitForTheirRelays(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	begun, answer := make(chan struct{}), make(chan struct{})
	c := o.startCrew(2, func(cfg *relay.Config) {
		cfg.Publisher = &gated{Publisher: cfg.Publisher, begun: begun, answer: answer}
	})
	refused := o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Action: "PublishBatch", Group: "held"})
	want := map[string][]uuid.UUID{"held": o.commit(event("held", 10), event("held", 10))}

	change := o.reshard(2)
	change.Wait = 200 * time.Millisecond
	require.ErrorContains(t, change.Run(o.ctx), "slot "+o.slot+" is at")
	o.aws.Faults().Remove(refused)
	o.settled()

	change = o.reshard(2)
	change.Pause = time.Second
	err := change.Steps(func(_ *pgx.Conn, step string) {
		if step == "drained" {
			want["gated"] = o.commit(event("gated", 10))
			<-begun
		}
	}).Run(o.ctx)
	require.ErrorContains(t, err, "has not left it within 1s")
	require.Equal(t, 1, o.count(`shards WHERE state = 'serving' AND paused_until IS NULL`))
	close(answer)
	want["gated"] = append(want["gated"], o.commit(event("gated", 10))...)
	o.settled()
	o.shards(2)
	require.Equal(t, want, c.seen.order, "each once, in order")
}

// TestShardsPauseEnds: relays that a change has asked to leave go on when it was cut off,
// at once where another one is run, and else when the time is over.
func TestShardsPauseEnds(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.startCrew(2)
	pause := func(lasts time.Duration) {
		o.cutOffAt(2, "paused", func(c *relay.ShardsChange) { c.Pause = lasts })
		o.commit(event("a", 10))
	}
	pause(time.Second)
	o.settled()
	for _, n := range []int{1, 2} { // given up, and gone on with
		pause(time.Hour)
		o.shards(n)
		o.settled()
	}
}

// TestShardsGoneAreNotMeasured: a relay that stands by shows no WAL of a slot that was
// its shard's and is no more.
func TestShardsGoneAreNotMeasured(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	c := o.startCrew(2)
	measured := func(r *running) bool { return r.metric(t, "slot_retained_bytes") > 0 }
	o.shards(2)
	o.eventually("both are measured", func() bool { return measured(c.relays[0]) && measured(c.relays[1]) })
	o.shards(1)
	o.eventually("only the one that relays is", func() bool {
		return measured(c.relays[0]) == (c.relays[0].Ready(o.ctx) == nil) && measured(c.relays[1]) == (c.relays[1].Ready(o.ctx) == nil)
	})
}

// TestShardsWaitForASweep: what a changed publication has kept from a slot is found by its
// relay alone, so the shard is not taken from it before, though it has not noticed yet.
func TestShardsWaitForASweep(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	c := o.startCrew(2, func(cfg *relay.Config) { cfg.HeartbeatEvery = time.Hour })
	stop := c.load(1, 5)
	var missed []uuid.UUID
	err := o.reshard(2).Steps(func(_ *pgx.Conn, step string) {
		if step != "drained" {
			return
		}
		o.exec(`ALTER PUBLICATION restock_outbox SET TABLE outbox WHERE (message_group <> 'missed')`)
		missed = o.commit(event("missed", 10))
		var past string
		o.one(&past, `SELECT pg_current_wal_lsn()::text`)
		o.exec(`ALTER PUBLICATION restock_outbox SET TABLE outbox`)
		o.eventually("promised", func() bool {
			return o.count(`watermarks WHERE slot = $1 AND confirm_lsn > $2::text::pg_lsn`, o.slot, past) == 1
		})
		o.eventually("confirmed", func() bool {
			return o.count(`pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn > $2::text::pg_lsn`, o.slot, past) == 1
		})
	}).Run(o.ctx)
	require.ErrorContains(t, err, "publication restock_outbox was changed")
	o.shards(2)
	want := stop()
	want["missed"] = missed
	o.settled()
	require.Equal(t, want, c.seen.order, "each once, in order")
}

// gated answers for the first event of the group gated only when it may.
type gated struct {
	relay.Publisher
	begun  chan<- struct{}
	answer <-chan struct{}
}

func (g *gated) Publish(ctx context.Context, events []schema.Event) ([]relay.Result, error) {
	if events[0].Group == "gated" {
		select {
		case <-g.answer:
		case g.begun <- struct{}{}:
			<-g.answer
		}
	}
	return g.Publisher.Publish(ctx, events)
}

// TestShardsKeepWhatIsParked: a parked group stays parked when its shard changes hands,
// what comes later waits behind it, and it comes back in order.
func TestShardsKeepWhatIsParked(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	c := o.startCrew(2, func(cfg *relay.Config) { cfg.HoldAfter = 50 * time.Millisecond })
	refused := o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Action: "PublishBatch", Group: "refused"})
	want := map[string][]uuid.UUID{"refused": o.commit(event("refused", 10))}
	o.eventually("parked", func() bool {
		want["other"] = append(want["other"], o.commit(event("other", 10))...)
		return o.count(`parked_groups`) == 1
	})
	o.shards(2)
	want["refused"] = append(want["refused"], o.commit(event("refused", 10), event("refused", 10))...)
	o.settled()
	require.Equal(t, 3, o.count(`parked WHERE state = 'parked'`))
	o.aws.Faults().Remove(refused)
	o.exec(`UPDATE parked_groups SET state = 'sending'`)
	o.eventually("released", func() bool { return o.count(`parked_groups`) == 0 })
	o.exec(`UPDATE parked SET state = 'sending' WHERE state = 'parked'`)
	o.eventually("sent", func() bool { return o.count(`parked WHERE state <> 'sent'`) == 0 })
	require.Equal(t, want, c.seen.order)
}

// TestShardLosesItsSlot: what went past one shard's slot is published by its relay, and
// nothing of the others is.
func TestShardLosesItsSlot(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	c := o.startCrew(2)
	o.shards(2)
	want := o.each(20, "a", "b", "c", "d", "e", "f", "g", "h")
	o.settled()
	for _, r := range c.relays {
		require.NoError(t, r.stop())
	}
	lost := o.slot + "_1_of_2"
	o.eventually("the slot is not active", func() bool {
		return o.count(`pg_replication_slots WHERE active`) == 0 || o.count(`pg_replication_slots WHERE slot_name = $1 AND active`, lost) == 0
	})
	o.exec(`SELECT pg_drop_replication_slot($1)`, lost)
	for g, ids := range o.each(20, "a", "b", "c", "d", "e", "f", "g", "h") {
		want[g] = append(want[g], ids...)
	}
	relays := []*running{o.start(c.change...), o.start(c.change...)}
	o.settled()
	o.eventually("every shard has a relay", func() bool {
		return o.count(`pg_replication_slots WHERE database = current_database() AND active`) == 2
	})
	require.Equal(t, want, c.seen.order)
	mine := 0
	for g, ids := range want {
		if schema.Bucket(g) < 128 {
			mine += len(ids) / 2
		}
	}
	require.NotZero(t, mine)
	swept := relays[0].metric(t, "events_swept_total") + relays[1].metric(t, "events_swept_total")
	require.LessOrEqual(t, swept, float64(mine+20), "of one shard alone")
	o.eventually("one sweep is done", func() bool { return relays[0].metric(t, "sweeps_total")+relays[1].metric(t, "sweeps_total") == 1 })
}

// TestReplayByShards: each shard's relay sends the items of its groups, each once and
// in order, and the replay is done when all have. While it runs the shards stay.
func TestReplayByShards(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	c := o.startCrew(4)
	o.shards(4)
	want := o.each(60, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
	o.received(60)
	o.settled()
	r := o.replays()
	first := o.replay(r, 0)
	s := o.awaitReplay(r, first, "done")
	require.Equal(t, int64(60), s.Done)
	require.Equal(t, map[string]map[string][]uuid.UUID{first.String(): want}, o.copies(60))
	for g, ids := range want {
		require.Equal(t, slices.Concat(ids, ids), c.seen.order[g], "live and replayed, each sent once")
	}
	slow := o.replay(r, 1)
	o.awaitReplay(r, slow, "running")
	err := o.reshard(2).Run(o.ctx)
	require.ErrorContains(t, err, "replay "+slow.String()+" is running")
	require.ErrorAs(t, err, new(*relay.RefusedError))
	_, err = r.Cancel(o.ctx, slow)
	require.NoError(t, err)
	o.shards(2)
	var left ops.ReplayState
	left, err = r.State(o.ctx, slow)
	require.NoError(t, err)
	require.Less(t, left.Done, int64(60))
}

// TestShardsRefused: what cannot go well is refused, with the mend, and changes nothing.
func TestShardsRefused(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.startCrew(2)
	refused := func(n int, says string) {
		t.Helper()
		err := o.reshard(n).Run(o.ctx)
		require.ErrorContains(t, err, says)
		require.ErrorAs(t, err, new(*relay.RefusedError))
		require.Zero(t, o.count(`shards`))
	}
	refused(0, "there may be 1 to 32")
	refused(33, "there may be 1 to 32")
	refused(3, "2 relays run, and 3 shards need one each")
	o.exec(`SELECT pg_create_logical_replication_slot($1 || '_2_of_2', 'pgoutput')`, o.slot)
	refused(2, "is there already")
	o.exec(`SELECT pg_drop_replication_slot($1 || '_2_of_2')`, o.slot)
	o.exec(`ALTER TABLE outbox DISABLE TRIGGER outbox_bucket`)
	refused(2, "ENABLE ALWAYS TRIGGER")
	o.exec(`ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_bucket`)
	var partition string
	o.one(&partition, `SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'outbox'::regclass`)
	o.exec(`ALTER TABLE ` + partition + ` DISABLE TRIGGER outbox_bucket`)
	refused(2, "ENABLE ALWAYS TRIGGER")
	o.exec(`ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_bucket`)
	require.Zero(t, o.count(`pg_trigger WHERE tgname = 'outbox_bucket' AND tgenabled = 'D'`), "mended")
	require.NoError(t, o.reshard(1).Run(o.ctx), "it is one already")
}

// TestShardsGivenUp: a change that was begun is gone on with or given up, and no other
// is begun beside it.
func TestShardsGivenUp(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	c := o.startCrew(4)
	ctx, cancel := context.WithCancel(o.ctx)
	err := o.reshard(2).Steps(func(_ *pgx.Conn, step string) {
		switch step {
		case "slots made":
			require.ErrorContains(t, o.reshard(2).Run(o.ctx), "somebody else")
			cancel()
		}
	}).Run(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, o.reshard(4).Run(o.ctx), "a change to 2 shards is under way")
	require.NoError(t, o.reshard(1).Run(o.ctx))
	o.requireShards(1)
	want := o.each(10, "a", "b", "c")
	o.settled()
	require.Equal(t, want, c.seen.order)
	require.Equal(t, 1.0, sum(c.relays, t, "sessions_total"), "its relay was left alone")
}

func sum(relays []*running, t *testing.T, metric string) (n float64) {
	for _, r := range relays {
		n += r.metric(t, metric)
	}
	return n
}

// TestShardsMakeASlotAnew: a change that was cut off and is gone on with keeps no slot
// that it made and whose publication is another since.
func TestShardsMakeASlotAnew(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.startCrew(2)
	o.cutOffAt(2, "slots made")
	o.exec(`DROP PUBLICATION restock_outbox_2_of_2`)
	var said []string
	change := o.reshard(2)
	change.Say = func(what string) { said = append(said, what) }
	require.NoError(t, change.Run(o.ctx))
	require.Contains(t, said, "making slot "+o.slot+"_2_of_2")
	o.requireShards(2)
}

// TestMigrateKeepsShards: what makes publications and slots makes those of the shards.
func TestMigrateKeepsShards(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	c := o.startCrew(2)
	o.shards(2)
	mend := func() (repaired, made bool) {
		repaired, err := relay.RepairPublication(o.ctx, o.pg.DSN(o.database), o.slot, schema.Publication)
		require.NoError(t, err)
		made, err = o.createSlot(relay.RefuseExisting)
		require.NoError(t, err)
		return repaired, made
	}
	repaired, made := mend()
	require.False(t, repaired || made)
	o.requireShards(2)
	for _, r := range c.relays {
		require.NoError(t, r.stop())
	}
	o.exec(`ALTER PUBLICATION restock_outbox_2_of_2 SET TABLE outbox`) // without its filter
	_ = o.each(4, "a", "b", "c", "d")
	r := o.start()
	s := o.start()
	refusedBy := func(r *running) bool {
		select {
		case <-r.done:
			return strings.Contains(fmt.Sprint(r.stop()), "must publish the rows of outbox WHERE ((bucket >= 128) AND (bucket <= 255))")
		default:
			return false
		}
	}
	o.eventually("one of them refuses", func() bool { return refusedBy(r) || refusedBy(s) })
	repaired, made = mend()
	require.True(t, repaired)
	require.False(t, made)
	o.start(c.change...)
	o.settled()
}

// TestBucketsAgree: Postgres and Go have the same bucket of a group, whatever is in it.
func TestBucketsAgree(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	groups := []string{`\`, `\\`, `\x41`, `\101`, `a'b"c`, "stock-arrival-group", strings.Repeat("x", 128), schema.Group("한글")}
	for i := range 500 {
		groups = append(groups, fmt.Sprintf("customer-%d", i), string(rune('!'+i%94))+fmt.Sprint(i)+`\`)
	}
	rows, err := o.pool.Query(o.ctx, `SELECT bucket_of(g) FROM unnest($1::text[]) WITH ORDINALITY u (g, n) ORDER BY n`, groups)
	require.NoError(t, err)
	buckets, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	require.Equal(t, slices.Collect(func(yield func(int) bool) {
		for _, g := range groups {
			if !yield(schema.Bucket(g)) {
				return
			}
		}
	}), buckets)
	o.commit(event(`\101`, 10))
	o.exec(`INSERT INTO outbox (id, type, message_group, attributes, body) VALUES (gen_random_uuid(), 'x', 'by-hand', '{}', '{}')`)
	require.Equal(t, 1, o.count(`outbox WHERE bucket = $1`, schema.Bucket("by-hand")))
	require.Equal(t, 1, o.count(`outbox WHERE bucket = $1`, schema.Bucket(`\101`)))
}
