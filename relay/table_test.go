package relay_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// TestTableOfAStranger: another table, with its columns in another order and of other
// types where that does not matter, is published, by its stream and by a sweep.
func TestTableOfAStranger(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.strangers(`id uuid NOT NULL, "traceparent" varchar(99), body jsonb, note int[] DEFAULT '{1}', seq int GENERATED ALWAYS AS IDENTITY,
		day date NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date, attributes json, subject varchar, message_group varchar(128), type varchar`)
	ours := func(c *relay.Config) { c.Publication = "theirs" }
	r := o.start(ours)
	first := o.strangersRow("gen_random_uuid()")
	o.eventually("published", func() bool { return o.count(`ledger WHERE outcome = 'published'`) == 1 })
	require.NoError(t, r.stop())
	o.dropSlot()
	second := o.strangersRow("gen_random_uuid()")
	o.start(ours)
	got := o.received(2)["g"]
	require.Equal(t, []string{first, second}, []string{got[0].String(), got[1].String()})
}

// strangers makes the table of somebody else, its publication and its slot.
func (o *outbox) strangers(columns string) {
	o.t.Helper()
	require.NoError(o.t, o.makeStrangers(columns, ""))
}

// makeStrangers runs sql before the slot is made, and returns what refuses that.
func (o *outbox) makeStrangers(columns, sql string) error {
	o.t.Helper()
	o.dropSlot()
	o.exec(`DELETE FROM watermarks; CREATE SCHEMA theirs; CREATE TABLE theirs."The Outbox" (` + columns + `);
		CREATE PUBLICATION theirs FOR TABLE theirs."The Outbox" WITH (publish = 'insert', publish_via_partition_root);
		GRANT USAGE ON SCHEMA theirs TO restock_relay; GRANT SELECT ON theirs."The Outbox" TO restock_relay; ` + sql)
	_, err := relay.CreateSlot(o.ctx, o.pg.DSN(o.database), o.slot, "theirs", relay.RefuseExisting, time.Minute)
	return err
}

func (o *outbox) strangersRow(id string) (made string) {
	o.t.Helper()
	o.one(&made, `INSERT INTO theirs."The Outbox" (id, type, message_group, attributes, body) VALUES (`+id+`, 'x', 'g', '{"a": {"type": "String", "value": "x"}}', '{"a":1}') RETURNING id::text`)
	return made
}

// TestRefusesTable: a table of which one row would stop the relay for good, or that cannot
// be read when the slot is lost, is refused before that.
func TestRefusesTable(t *testing.T) {
	t.Parallel()
	const rest = `, type text, message_group text, subject text, attributes jsonb, body text, traceparent text`
	cases := map[string]struct{ columns, sql, want string }{
		"id is no uuid":    {`day date NOT NULL, id text NOT NULL, seq bigserial` + rest, ``, "has the columns id text NOT NULL"},
		"seq may be null":  {`day date NOT NULL, id uuid NOT NULL, seq bigint` + rest, ``, "has the columns seq bigint,"},
		"day has a time":   {`day timestamp NOT NULL, id uuid NOT NULL, seq bigserial` + rest, ``, "has the columns day timestamp without time zone NOT NULL"},
		"day is generated": {`at timestamp, day date GENERATED ALWAYS AS (at::date) STORED NOT NULL, id uuid NOT NULL, seq bigserial` + rest, ``, "generated"},
		"may not be read":  {`day date NOT NULL, id uuid NOT NULL, seq bigserial` + rest, `REVOKE SELECT ON theirs."The Outbox" FROM restock_relay`, "permission denied for table The Outbox"},
		"rows are hidden":  {`day date NOT NULL, id uuid NOT NULL, seq bigserial` + rest, `ALTER TABLE theirs."The Outbox" ENABLE ROW LEVEL SECURITY`, "BYPASSRLS"},
		"ledger is hidden": {`day date NOT NULL, id uuid NOT NULL, seq bigserial` + rest, `ALTER TABLE ledger ENABLE ROW LEVEL SECURITY`, "BYPASSRLS"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutbox(t)
			err := o.makeStrangers(c.columns, c.sql)
			if err == nil { // an old Postgres says that it publishes a column which it leaves out of the stream
				err = o.start(func(c *relay.Config) { c.Publication = "theirs" }).stopWhenRefused()
			}
			var refused *relay.RefusedError
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, refused, c.want)
		})
	}
}

// TestRowsOfAStranger: what no check of the table has kept out is parked, and holds nothing
// else up.
func TestRowsOfAStranger(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.strangers(`day date NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date, id uuid NOT NULL DEFAULT gen_random_uuid(), seq bigint NOT NULL DEFAULT 1,
		type text, message_group text, subject text, attributes jsonb, body text, traceparent text`)
	o.start(func(c *relay.Config) { c.Publication = "theirs" })
	o.exec(`INSERT INTO theirs."The Outbox" (type) VALUES (NULL)`)
	o.exec(`INSERT INTO theirs."The Outbox" (message_group, attributes, body)
		SELECT string_agg(encode(sha256(i::text::bytea), 'hex') || '도', ''), '{}', '{}' FROM generate_series(1, 10000) i`)
	o.exec(`INSERT INTO theirs."The Outbox" (message_group, attributes, body) VALUES ('g', '{}', '{"data":"' || repeat('x', 2000000) || '"}')`)
	o.exec(`INSERT INTO theirs."The Outbox" (message_group, attributes, body, seq) VALUES ('g', '{}', '{}', -1)`)
	good := o.strangersRow("gen_random_uuid()")
	require.Equal(t, good, o.received(1)["g"][0].String())
	o.eventually("recorded", func() bool { return o.count(`ledger`) == 5 })
	require.Equal(t, 4, o.count(`parked WHERE state = 'parked' AND reason = 'invalid' AND octet_length(detail) < 1000`))
	o.confirmedUpToNow()
}

// TestDayOfAStranger: a day for which the ledger has no partition is named, with the mend.
func TestDayOfAStranger(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.strangers(`day date NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), seq bigint NOT NULL DEFAULT 1,
		type text, message_group text, subject text, attributes jsonb, body text, traceparent text`)
	var l logged
	o.start(l.to, func(c *relay.Config) { c.Publication = "theirs" })
	o.exec(`INSERT INTO theirs."The Outbox" (day, message_group, attributes, body) VALUES ('2020-02-29', 'g', '{}', '{}')`)
	o.eventually("it says so", func() bool { return len(l.with("2020-02-29")) > 0 })
	require.Contains(t, l.with("2020-02-29")[0], "PARTITION OF ledger")
	o.exec(`CREATE TABLE ledger_20200229 PARTITION OF ledger FOR VALUES FROM ('2020-02-29') TO ('2020-03-01')`)
	o.eventually("recorded", func() bool { return o.count(`ledger WHERE day = '2020-02-29'`) == 1 })
	o.confirmedUpToNow()
}

// TestNotUTF8: in a database without an encoding a body may be anything. One that is no
// text is parked at once, and does not wait for others to be accepted.
func TestNotUTF8(t *testing.T) {
	t.Parallel()
	pg := pgtest.NewServer(t, localpg.Config{})
	owner, err := pgx.Connect(t.Context(), pg.DSN("postgres"))
	require.NoError(t, err)
	_, err = owner.Exec(t.Context(), `CREATE DATABASE store TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'`)
	require.NoError(t, err)
	require.NoError(t, owner.Close(t.Context()))
	require.NoError(t, migrate(t.Context(), pg.DSN("store")))
	o := setUp(t, pg, "store")
	o.start()
	o.exec(`INSERT INTO outbox (id, type, message_group, attributes, body) VALUES (gen_random_uuid(), 'x', 'g', '{}', E'{"data":"\xb5\xb5"}')`)
	o.settled()
	require.Equal(t, 1, o.count(`parked WHERE detail LIKE '%body is not UTF-8%'`))
	want := o.commit(event("g", 1))
	require.Equal(t, want, o.received(1)["g"])
}

// forgetful is a publisher of somebody else, which once returns no results.
type forgetful struct {
	relay.Publisher
	once sync.Once
}

func (f *forgetful) Publish(ctx context.Context, events []schema.Event) (results []relay.Result, err error) {
	results, err = f.Publisher.Publish(ctx, events)
	f.once.Do(func() { results = nil })
	return results, err
}

// TestPublisherOfAStranger: one that does not say what became of an event has not
// published it, as far as is known, and does not end the process.
func TestPublisherOfAStranger(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	r := o.start(func(c *relay.Config) { c.Publisher = &forgetful{Publisher: c.Publisher} })
	want := o.each(1, "a")
	require.Equal(t, want, o.received(1))
	o.settled()
	require.Equal(t, 1.0, r.metric(t, "publish_failures_total"))
}
