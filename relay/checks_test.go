package relay_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// TestRefuses: a set-up on which events would be lost or the database stalled is
// refused, with the mend.
func TestRefuses(t *testing.T) {
	t.Parallel()
	const good = `DROP PUBLICATION restock_outbox; CREATE PUBLICATION restock_outbox FOR TABLE outbox WITH `
	cases := map[string]struct{ sql, want string }{
		"no publication":     {`DROP PUBLICATION restock_outbox`, "publication restock_outbox does not exist: run restock migrate"},
		"all tables":         {`DROP PUBLICATION restock_outbox; CREATE PUBLICATION restock_outbox FOR ALL TABLES WITH (publish = 'insert', publish_via_partition_root)`, "must have one table"},
		"updates too":        {good + `(publish = 'insert, update', publish_via_partition_root)`, "publish = 'insert'"},
		"partitions":         {good + `(publish = 'insert')`, "publish_via_partition_root"},
		"another table too":  {`ALTER PUBLICATION restock_outbox ADD TABLE ledger`, "has 2 tables, not one"},
		"another table":      {`DROP PUBLICATION restock_outbox; CREATE PUBLICATION restock_outbox FOR TABLE ledger WITH (publish = 'insert', publish_via_partition_root)`, `does not publish column "id" of public.ledger`},
		"a column is hidden": {`DROP PUBLICATION restock_outbox; CREATE PUBLICATION restock_outbox FOR TABLE outbox (day, id, seq, type, message_group, attributes, body, traceparent, created_at) WITH (publish = 'insert', publish_via_partition_root)`, `does not publish column "subject"`},
		"no slot":            {`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()`, "the slot does not exist, and the ledger is empty, so that nothing tells what is published: run restock migrate"},
		"slot of another plugin": {`SELECT pg_drop_replication_slot(slot_name), pg_create_logical_replication_slot(slot_name, 'test_decoding')
			FROM pg_replication_slots WHERE database = current_database()`, "not pgoutput"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutbox(t)
			_, err := o.pool.Exec(o.ctx, c.sql)
			require.NoError(t, err)
			err = o.start().stopWhenRefused()
			var refused *relay.RefusedError
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// stopWhenRefused waits for Run to return by itself.
func (r *running) stopWhenRefused() error {
	<-r.done
	return r.stop()
}

// TestRefusesToBeASynchronousStandby: at the start, and when the server is told
// so later.
func TestRefusesToBeASynchronousStandby(t *testing.T) {
	t.Parallel()
	o := newOutboxOn(t, pgtest.NewServer(t, localpg.Config{}))
	r := o.start(func(c *relay.Config) { c.HeartbeatEvery = 20 * time.Millisecond })
	o.eventually("relaying", func() bool { return r.Ready(o.ctx) == nil })
	for _, sql := range []string{`ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (elsewhere, RESTOCK_STORE)'`, `SELECT pg_reload_conf()`} {
		// Whoever commits now waits for the relay, so this may not.
		_, err := o.pool.Exec(o.ctx, sql)
		require.NoError(t, err)
	}
	require.ErrorContains(t, r.stopWhenRefused(), "synchronous_standby_names = 'ANY 1 (elsewhere, RESTOCK_STORE)' names the relay")
	require.ErrorContains(t, o.start().stopWhenRefused(), "name only real standbys there and reload Postgres")
}

func TestRefusesWALLevel(t *testing.T) {
	t.Parallel()
	pg := pgtest.NewServer(t, localpg.Config{Settings: map[string]string{"wal_level": "replica"}})
	require.NoError(t, pg.CreateDatabase(t.Context(), "store", ""))
	require.NoError(t, migrate(t.Context(), pg.DSN("store")))
	o := &outbox{t: t, ctx: t.Context(), pg: pg, database: "store", slot: "restock_store"}
	o.createTopic()
	require.ErrorContains(t, o.start().stopWhenRefused(), "wal_level is replica: set wal_level = logical and restart Postgres")
}

func TestConfig(t *testing.T) {
	good := relay.Config{DSN: "postgres://localhost/x", Slot: "s", Publication: "p", Publisher: &relay.SNS{}}
	cases := map[string]struct {
		change func(*relay.Config)
		want   string
	}{
		"no slot":        {func(c *relay.Config) { c.Slot = "" }, "are needed"},
		"no publisher":   {func(c *relay.Config) { c.Publisher = nil }, "are needed"},
		"negative":       {func(c *relay.Config) { c.Window = -1 }, "below 0"},
		"hasty":          {func(c *relay.Config) { c.SenderTimeout = time.Millisecond }, "below 1 s"},
		"no such scheme": {func(c *relay.Config) { c.DSN = "host" }, "database address"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			_, err := relay.New(cfg)
			require.ErrorContains(t, err, c.want)
		})
	}
	for _, arn := range []string{"", "events.fifo", "arn:aws:sns:eu-west-1:1:events"} {
		_, err := relay.NewSNS(relay.SNSConfig{TopicARN: arn})
		require.ErrorContains(t, err, "not the ARN of a FIFO topic", arn)
	}
}

// TestNotMigratedYet: a relay that is started before restock migrate waits for it, and says so.
func TestNotMigratedYet(t *testing.T) {
	t.Parallel()
	cfg := relay.Config{
		DSN: pgtest.NewDatabase(t, pgtest.Template{Name: "empty"}).DSN, Slot: "s", Publication: "p", Publisher: &relay.SNS{},
	}
	var said logged
	said.to(&cfg)
	r, err := relay.New(cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	require.Eventually(t, func() bool { return len(said.with("restock migrate")) > 0 }, patience, time.Millisecond)
	stop()
	require.NoError(t, <-ended)
}

// TestOnceOnly: a relay is run once, and a registry takes one of a name: neither is a relay
// that tries for ever, nor a panic.
func TestOnceOnly(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	cfg := relay.Config{DSN: "postgres://localhost/x", Slot: "s", Publication: "p", Publisher: &relay.SNS{}, Metrics: reg}
	r, err := relay.New(cfg)
	require.NoError(t, err)
	_, err = relay.New(cfg)
	require.ErrorContains(t, err, "register the metrics of slot s")
	cfg.Slot = "other"
	other, err := relay.New(cfg)
	require.NoError(t, err)

	ended, end := context.WithCancel(t.Context())
	end()
	require.NoError(t, r.Run(ended))
	require.NoError(t, other.Run(ended))
	require.ErrorContains(t, r.Run(ended), "make another with New")
}

// TestSlotCreationWaitsForWhoRefuses: a relay that finds neither slot nor ledger refuses to
// run, and has the slot's lock until it has found that out. The slot is made all the same.
func TestSlotCreationWaitsForWhoRefuses(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.dropSlot()
	o.exec(`DELETE FROM watermarks`)
	create := func(timeout time.Duration) (bool, error) {
		return relay.CreateSlot(o.ctx, o.pg.DSN(o.database), o.slot, schema.Publication, relay.RefuseExisting, timeout)
	}
	refusing := o.connect()
	_, err := refusing.Exec(o.ctx, `SELECT pg_advisory_lock(hashtextextended('restock:relay:' || $1, 0))`, o.slot)
	require.NoError(t, err)
	_, err = create(time.Nanosecond)
	require.ErrorContains(t, err, "a relay has had its lock")

	type result struct {
		made bool
		err  error
	}
	created := make(chan result, 1)
	go func() {
		made, err := create(time.Minute)
		created <- result{made, err}
	}()
	o.eventually("it has found the lock taken, or is done", func() bool {
		return len(created) == 1 || o.count(`pg_stat_activity WHERE datname = current_database() AND query LIKE '%FROM ledger) OR EXISTS%' AND pid <> pg_backend_pid()`) == 1
	})
	require.NoError(t, refusing.Close(o.ctx))
	require.Equal(t, result{true, nil}, <-created)
	require.Equal(t, 1, o.count(`pg_replication_slots WHERE slot_name = $1`, o.slot))
}

// TestSlotOfAnotherTable: what CreateSlot asks of an outbox it asks of the one that is
// published, whatever its name is, and what is in it before the slot is published.
func TestSlotOfAnotherTable(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	before := o.each(2, "a")
	o.dropSlot()
	o.exec(`CREATE SCHEMA shop; ALTER TABLE outbox SET SCHEMA shop; ALTER TABLE shop.outbox RENAME TO "our events"; ALTER TABLE shop."our events" DROP COLUMN created_at CASCADE`)
	o.exec(`GRANT USAGE ON SCHEMA shop TO restock_relay; CREATE TABLE outbox ()`)
	var there *relay.ExistingError
	_, err := o.createSlot(relay.RefuseExisting)
	require.ErrorAs(t, err, &there)
	require.Equal(t, 2, there.Events)
	_, err = o.createSlot(relay.PublishExisting)
	require.NoError(t, err)
	o.start()
	require.Equal(t, before, o.received(2))
}

// TestSlotCreationNamesWhatBlocksIt: a transaction that has written and stays
// open keeps a slot from being made; the error says which.
func TestSlotCreationNamesWhatBlocksIt(t *testing.T) {
	t.Parallel()
	pg := pgtest.NewServer(t, localpg.Config{})
	o := newOutboxOn(t, pg)
	made, err := relay.CreateSlot(o.ctx, pg.DSN("store"), o.slot, schema.Publication, relay.RefuseExisting, time.Minute)
	require.NoError(t, err)
	require.False(t, made, "it is there already")
	o.dropSlot()

	require.NoError(t, pg.CreateDatabase(o.ctx, "elsewhere", ""))
	blocker, err := pgx.Connect(o.ctx, pg.DSN("elsewhere"))
	require.NoError(t, err)
	defer blocker.Close(context.Background())
	tx, err := blocker.Begin(o.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(o.ctx, `CREATE TABLE held_open ()`)
	require.NoError(t, err)
	_, err = relay.CreateSlot(o.ctx, pg.DSN("store"), "another", schema.Publication, relay.RefuseExisting, 300*time.Millisecond)
	require.ErrorContains(t, err, "in elsewhere, idle in transaction")
	require.ErrorContains(t, err, "end them and try again")
	require.NoError(t, tx.Rollback(o.ctx))
	made, err = relay.CreateSlot(o.ctx, pg.DSN("store"), "another", schema.Publication, relay.RefuseExisting, time.Minute)
	require.NoError(t, err)
	require.True(t, made)
	require.Equal(t, 0, o.count(`pg_replication_slots WHERE slot_name = 'another' AND NOT (plugin = 'pgoutput')`))
}

// TestRefusesAnotherRelay: one ledger says of one topic what was published. A second relay
// on another topic would pass over what the first has published and it has not.
func TestRefusesAnotherRelay(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	var refused *relay.RefusedError
	_, err := relay.CreateSlot(o.ctx, o.pg.DSN(o.database), "another_"+o.database, schema.Publication, relay.RefuseExisting, time.Minute)
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "slot "+o.slot+" is of another relay with the same ledger")

	o.exec(`SELECT pg_create_logical_replication_slot('another_' || current_database(), 'pgoutput')`)
	require.ErrorAs(t, o.start(func(c *relay.Config) { c.Slot = "another_" + o.database }).stopWhenRefused(), &refused)
	o.start()
	want := o.each(1, "a")
	require.Equal(t, want, o.received(1))
}
