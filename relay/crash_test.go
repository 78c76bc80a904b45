package relay_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/relay"
)

// TestFastStop: with SNS refusing everything and events waiting, a fast stop of
// Postgres ends, in far less than the minute that a walsender with unconfirmed
// data would hold it up for, and the relay goes on by itself when both are back.
func TestFastStop(t *testing.T) {
	t.Parallel()
	pg := pgtest.NewServer(t, localpg.Config{})
	o := newOutboxOn(t, pg)
	accept := o.refuseAll()
	r := o.start()
	want := o.each(50, "a", "b", "c")
	o.eventually("publishing fails", func() bool { return r.metric(t, "publish_failures_total") > 0 })
	o.eventually("all is read", func() bool { return r.metric(t, "events_read_total") == 50 })

	o.pool.Reset()
	ctx, cancel := context.WithTimeout(o.ctx, 5*time.Second)
	defer cancel()
	require.NoError(t, pg.StopMode(ctx, localpg.Fast))
	require.Error(t, r.Ready(o.ctx))

	require.NoError(t, pg.Start(o.ctx))
	o.eventually("relaying again", func() bool { return r.Ready(o.ctx) == nil })
	accept()
	require.Equal(t, want, o.received(50))
	o.settled()
	o.drained()
}

// TestSlotGoesBack: the server crashes, and its slot comes back at the position
// of the last checkpoint. What was published since is found in the ledger and not
// sent again, however long ago it was. When a slot is written to disk is the
// server's business, so the test keeps what a checkpoint wrote and puts it back.
func TestSlotGoesBack(t *testing.T) {
	t.Parallel()
	pg := pgtest.NewServer(t, localpg.Config{Settings: map[string]string{"wal_keep_size": "1GB"}})
	o := newOutboxOn(t, pg)
	_, err := o.pool.Exec(o.ctx, `CHECKPOINT`)
	require.NoError(t, err)
	var data string
	o.one(&data, `SHOW data_directory`)
	state := filepath.Join(data, "pg_replslot", o.slot, "state")
	old, err := os.ReadFile(state)
	require.NoError(t, err)

	r := o.start()
	want := o.each(30, "a", "b")
	require.Equal(t, want, o.received(30))
	o.settled()
	o.confirmedUpToNow()
	require.NoError(t, r.stop())
	require.NoError(t, pg.Kill())
	require.NoError(t, os.WriteFile(state, old, 0o600))
	require.NoError(t, pg.Start(o.ctx))
	o.pool.Reset()
	o.forgetRepeats()

	r = o.start()
	more := o.each(10, "a", "b")
	require.Equal(t, more, o.received(10))
	o.settled()
	o.drained()
	require.Equal(t, 30.0, r.metric(t, "events_skipped_total"))
	require.Equal(t, 10.0, r.metric(t, "events_published_total"))
}

// TestKilledUnderLoad kills Postgres again and again while events are committed
// and published: every committed one arrives, in order.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	pg := pgtest.NewServer(t, localpg.Config{Fsync: true})
	o := newOutboxOn(t, pg)
	r := o.start()
	for range 3 {
		read := r.metric(t, "events_read_total")
		o.each(40, "a", "b", "c")
		o.eventually("some of it is read", func() bool { return r.metric(t, "events_read_total") > read })
		require.NoError(t, pg.Kill())
		require.NoError(t, pg.Start(o.ctx))
		o.pool.Reset()
	}
	o.each(5, "a", "b", "c")
	o.settled()
	require.Equal(t, 125, o.count(`ledger`))
	got := o.received(125)
	o.drained()
	for g, ids := range got {
		rows, err := o.pool.Query(o.ctx, `SELECT id FROM outbox WHERE message_group = $1 ORDER BY seq`, g)
		require.NoError(t, err)
		for _, id := range ids {
			require.True(t, rows.Next())
			var want [16]byte
			require.NoError(t, rows.Scan(&want))
			require.Equal(t, want, [16]byte(id))
		}
		rows.Close()
	}
}

// TestLedgerOutOfReach: the ledger refuses what was published. Nothing is
// confirmed until it takes it, and nothing is published twice.
func TestLedgerOutOfReach(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	_, err := o.pool.Exec(o.ctx, `REVOKE INSERT ON ledger FROM restock_relay`)
	require.NoError(t, err)
	r := o.start()
	o.eventually("relaying", func() bool { return r.Ready(o.ctx) == nil })
	id := o.commit(event("a", 1))
	require.Equal(t, id, o.received(1)["a"])
	var committed string
	var since time.Time
	o.one(&committed, `SELECT pg_current_wal_lsn()::text`)
	o.eventually("the ledger was tried", func() bool { return r.metric(t, "ledger_failures_total") > 3 })
	o.one(&since, `SELECT clock_timestamp()`)
	o.eventually("two more statuses", func() bool {
		return o.count(`pg_stat_replication WHERE application_name = $1 AND reply_time > $2::timestamptz + interval '1500 ms'`, o.slot, since) == 1
	})
	require.Equal(t, 1, o.count(`pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn < $2::text::pg_lsn`, o.slot, committed),
		"confirmed what the ledger does not hold")
	require.Positive(t, r.PublishLag())

	_, err = o.pool.Exec(o.ctx, `GRANT INSERT ON ledger TO restock_relay`)
	require.NoError(t, err)
	o.settled()
	o.confirmedUpToNow()
	o.drained()
	o.eventually("no lag", func() bool { return r.PublishLag() == 0 })
	require.Equal(t, 1.0, r.metric(t, "events_published_total"))
}

// TestLedgerHoldsItAlready: another relay, which was frozen and woke up late, has
// recorded what this one publishes. Its row stays, and the others are recorded.
func TestLedgerHoldsItAlready(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	accept := o.refuseAll()
	r := o.start()
	ids := o.commit(event("a", 1), event("b", 1), event("c", 1))
	o.eventually("publishing was tried", func() bool { return r.metric(t, "publish_failures_total") > 0 })
	_, err := o.pool.Exec(o.ctx, `INSERT INTO ledger (day, event_id, outcome, message_id) SELECT day, id, 'published', 'theirs' FROM outbox WHERE id = $1`, ids[1])
	require.NoError(t, err)
	accept()
	o.settled()
	o.confirmedUpToNow()
	require.Equal(t, 1, o.count(`ledger WHERE message_id = 'theirs'`))
	require.Equal(t, 3, o.count(`ledger`))
}

// TestLedgerOnReadOnlyServer: after a failover the connections on which the ledger is to be
// written lead to a server that only reads, as a name does that is looked up too early. What
// was published is recorded as soon as a new connection leads elsewhere, and does not wait
// for the old ones to reach their age.
func TestLedgerOnReadOnlyServer(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	r := o.start(func(c *relay.Config) { c.HeartbeatEvery = time.Hour })
	o.eventually("relaying", func() bool { return r.Ready(o.ctx) == nil })
	setting := func(act string) { o.exec(`ALTER ROLE restock_relay IN DATABASE "` + o.database + `" ` + act) }
	end := func(part string) {
		o.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1`, o.slot+part)
	}
	setting(`SET default_transaction_read_only = on`)
	end("_ledger")
	want := o.commit(event("a", 1))
	require.Equal(t, want, o.received(1)["a"])
	o.eventually("the ledger was tried", func() bool { return r.metric(t, "ledger_failures_total") > 3 })
	end("") // the stream: from here on nothing but the ledger is tried
	o.eventually("interrupted", func() bool { return r.Ready(o.ctx) != nil })
	tried := r.metric(t, "ledger_failures_total")
	o.eventually("the ledger was tried again", func() bool { return r.metric(t, "ledger_failures_total") > tried+3 })
	setting(`RESET default_transaction_read_only`)
	o.settled()
	o.eventually("relaying again", func() bool { return r.Ready(o.ctx) == nil })
	o.drained()
}

// TestStaysConnectedWhilePaused: with the window full and nothing going out, the
// reader reads nothing, and Postgres still hears from it for several times the
// time after which it would let go.
func TestStaysConnectedWhilePaused(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	accept := o.refuseAll()
	// Long enough that a machine which stands still for a moment is not taken for dead.
	r := o.start(func(c *relay.Config) { c.Window, c.SenderTimeout = 8<<10, 8*time.Second })
	want := map[string][]uuid.UUID{}
	for range 120 { // more than the sockets hold
		want["a"] = append(want["a"], o.commit(event("a", 100<<10))...)
	}
	o.eventually("the window is full", func() bool { return r.metric(t, "window_bytes") > 4<<10 })
	var since time.Time
	o.one(&since, `SELECT clock_timestamp()`)
	o.eventually("statuses go on", func() bool {
		return o.count(`pg_stat_replication WHERE application_name = $1 AND reply_time > $2::timestamptz + interval '20 s'`, o.slot, since) == 1
	})
	require.Equal(t, 1.0, r.metric(t, "sessions_total"))
	require.Less(t, r.metric(t, "events_read_total"), 50.0)
	accept()
	require.Equal(t, want, o.received(120))
	o.drained()
}

// TestIdle: the slot of an outbox without traffic moves past what others write,
// and the heartbeats of a minute are far less than 64 KiB of WAL.
func TestIdle(t *testing.T) {
	t.Parallel()
	o := newOutboxOn(t, pgtest.NewServer(t, localpg.Config{}))
	r := o.start(func(c *relay.Config) { c.HeartbeatEvery = 100 * time.Millisecond })
	_, err := o.pool.Exec(o.ctx, `CREATE TABLE others AS SELECT i FROM generate_series(1, 100000) i`)
	require.NoError(t, err)
	o.confirmedUpToNow()
	require.Zero(t, r.PublishLag())

	_, err = o.pool.Exec(o.ctx, `CHECKPOINT`)
	require.NoError(t, err)
	var from string
	o.one(&from, `SELECT pg_current_wal_lsn()::text`)
	// Six heartbeats are a minute's worth. Each writes more than 72 bytes, so the
	// slot is past six when it has moved by so much.
	o.eventually("six heartbeats", func() bool {
		return o.count(`pg_stat_replication WHERE application_name = $1 AND replay_lsn > $2::text::pg_lsn + 6 * 72`, o.slot, from) == 1
	})
	var bytes int
	o.one(&bytes, `SELECT pg_current_wal_lsn() - $1::text::pg_lsn`, from)
	require.Less(t, bytes, 64<<10)
}
