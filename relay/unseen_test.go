package relay_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// standBy is a synchronous standby that says what it has written, and that it has
// applied nothing, until the test ends.
func (o *outbox) standBy() {
	o.t.Helper()
	pc, err := pgconn.ParseConfig(o.pg.DSN("postgres"))
	require.NoError(o.t, err)
	pc.RuntimeParams["replication"], pc.RuntimeParams["application_name"] = "true", "standby"
	conn, err := pgconn.ConnectConfig(o.ctx, pc)
	require.NoError(o.t, err)
	server, err := pglogrepl.IdentifySystem(o.ctx, conn)
	require.NoError(o.t, err)
	_, err = pglogrepl.CreateReplicationSlot(o.ctx, conn, "standby", "", pglogrepl.CreateReplicationSlotOptions{Temporary: true, Mode: pglogrepl.PhysicalReplication})
	require.NoError(o.t, err)
	require.NoError(o.t, pglogrepl.StartReplication(o.ctx, conn, "standby", server.XLogPos, pglogrepl.StartReplicationOptions{Mode: pglogrepl.PhysicalReplication}))
	receive, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	o.t.Cleanup(func() { stop(); <-stopped })
	go func() {
		defer close(stopped)
		defer conn.Close(context.Background())
		status := pglogrepl.StandbyStatusUpdate{WALWritePosition: server.XLogPos, WALFlushPosition: server.XLogPos, WALApplyPosition: 1}
		for pglogrepl.SendStandbyStatusUpdate(receive, conn, status) == nil {
			message, err := conn.ReceiveMessage(receive)
			m, ok := message.(*pgproto3.CopyData)
			if err != nil || !ok {
				return
			}
			if m.Data[0] != pglogrepl.XLogDataByteID {
				continue
			}
			data, err := pglogrepl.ParseXLogData(m.Data[1:])
			if err != nil {
				return
			}
			written := data.WALStart + pglogrepl.LSN(len(data.WALData))
			status.WALWritePosition, status.WALFlushPosition = written, written
		}
	}()
	o.synchronous("standby")
	o.eventually("the standby is synchronous", func() bool {
		return o.count(`pg_stat_replication WHERE application_name = 'standby' AND sync_state = 'sync'`) == 1
	})
}

// synchronous says which standbys a transaction waits for.
func (o *outbox) synchronous(standbys string) {
	o.t.Helper()
	o.exec(`ALTER SYSTEM SET synchronous_standby_names = '` + standbys + `'`)
	o.exec(`SELECT pg_reload_conf()`)
}

func (o *outbox) connect() *pgx.Conn {
	o.t.Helper()
	c, err := pgx.Connect(o.ctx, o.pg.DSN(o.database))
	require.NoError(o.t, err)
	o.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// whileSlotIsMade calls within while made makes a slot that waits for no transaction
// any more but those that have begun.
func (o *outbox) whileSlotIsMade(made, within func()) {
	o.t.Helper()
	exec := func(c *pgx.Conn, sql string) {
		_, err := c.Exec(o.ctx, sql)
		require.NoError(o.t, err)
	}
	slotWaitsFor := func(c *pgx.Conn) {
		o.eventually("the slot waits for it", func() bool {
			return o.count(`pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_create_logical_replication_slot%' AND $1::int = ANY (pg_blocking_pids(pid))`, c.PgConn().PID()) == 1
		})
	}
	// It waits twice for those that are open, and brings what is committed after that.
	first, second := o.connect(), o.connect()
	exec(first, `BEGIN; SELECT pg_current_xact_id()`)
	made()
	slotWaitsFor(first)
	exec(second, `BEGIN; SELECT pg_current_xact_id()`)
	exec(first, `COMMIT`)
	slotWaitsFor(second)
	within()
	exec(second, `COMMIT`)
}

// commitUnseen commits an event while made makes a slot. The slot goes past it, and
// nobody sees it before show is called: its transaction waits for a standby.
func (o *outbox) commitUnseen(e schema.Event, made func()) (show func()) {
	o.t.Helper()
	o.standBy()
	unseen, committed := o.connect(), make(chan error, 1)
	o.whileSlotIsMade(made, func() {
		_, err := unseen.Exec(o.ctx, `SET synchronous_commit = remote_apply`)
		require.NoError(o.t, err)
		go func() { committed <- schema.Append(o.ctx, unseen, e) }()
		o.eventually("it waits for the standby", func() bool {
			return o.count(`pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $1::int`, unseen.PgConn().PID()) == 1
		})
	})
	return func() {
		o.t.Helper()
		o.synchronous("")
		require.NoError(o.t, <-committed)
	}
}

// waitsForUnseen tells whether somebody waits until all that is committed is visible.
func (o *outbox) waitsForUnseen() bool {
	return o.count(`pg_stat_activity WHERE query LIKE '%pg_prepared_xacts%' AND pid <> pg_backend_pid()`) == 1
}

// TestCommittedAndNotSeenYet: what is committed before the slot, so that the slot does
// not bring it, and becomes visible only after the slot is made, is swept. A relay that
// ends while it waits for that leaves the sweep to the next.
func TestCommittedAndNotSeenYet(t *testing.T) {
	t.Parallel()
	o := newOutboxOn(t, pgtest.NewServer(t, localpg.Config{}))
	o.published(2, "a", "b")
	o.dropSlot()
	e := event("unseen", 1)
	var r *running
	show := o.commitUnseen(e, func() { r = o.start() })
	o.eventually("it waits, or streams", func() bool { return o.waitsForUnseen() || r.Ready(o.ctx) == nil })
	require.NoError(t, r.stop())
	require.Equal(t, 1, o.count(`watermarks WHERE sweep = 'the slot does not exist'`))

	r = o.start()
	o.eventually("the next waits", func() bool {
		err := r.Ready(o.ctx)
		return err != nil && err.Error() == "sweeping" && o.waitsForUnseen()
	})
	show()
	require.Equal(t, map[string][]uuid.UUID{"unseen": {e.ID}}, o.received(1))
	o.settled()
	o.drained()
}

// TestFirstEventNotSeenYet: the outbox of a new slot only looks empty.
func TestFirstEventNotSeenYet(t *testing.T) {
	t.Parallel()
	o := newOutboxOn(t, pgtest.NewServer(t, localpg.Config{}))
	o.dropSlot()
	e := event("unseen", 1)
	created := make(chan error, 1)
	show := o.commitUnseen(e, func() {
		go func() {
			_, err := o.createSlot(relay.RefuseExisting)
			created <- err
		}()
	})
	o.eventually("it waits, or is done", func() bool { return o.waitsForUnseen() || len(created) == 1 })
	show()
	require.NoError(t, <-created)
	o.heals("restock migrate made the slot", map[string][]uuid.UUID{"unseen": {e.ID}})
}

// TestSweptAndBroughtBySlot: what is committed between slot and snapshot comes by both.
// It is refused when the sweep has it, so that the stream brings it before the ledger
// holds it: it is published once all the same, and what the stream brings of its group
// follows it.
func TestSweptAndBroughtBySlot(t *testing.T) {
	t.Parallel()
	o := newOutboxOn(t, pgtest.NewServer(t, localpg.Config{}))
	o.published(2, "a", "b")
	o.dropSlot()
	accept := o.refuse("bad")
	var r *running
	open := o.connect()
	o.whileSlotIsMade(func() { r = o.start() }, func() {
		_, err := open.Exec(o.ctx, `BEGIN; SELECT pg_current_xact_id()`)
		require.NoError(t, err)
	})
	o.eventually("the snapshot waits for what is open", o.waitsForUnseen)
	bad := o.each(3, "bad")["bad"]
	_, err := open.Exec(o.ctx, `ROLLBACK`)
	require.NoError(t, err)
	o.eventually("streaming", func() bool { return r.Ready(o.ctx) == nil })
	require.Equal(t, 3.0, r.metric(t, "events_swept_total"))
	bad = append(bad, o.each(3, "bad")["bad"]...)
	live := o.each(2, "live")
	require.Equal(t, live, o.received(2))
	require.Equal(t, 3.0, r.metric(t, "events_skipped_total"))
	accept()
	require.Equal(t, map[string][]uuid.UUID{"bad": bad}, o.received(6))
	o.settled()
	o.drained()
	require.Equal(t, 2.0+6.0, r.metric(t, "events_published_total"), "each once")
}
