package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/schema"
)

const password = "only-for-this-run"

// store makes a database with an outbox.
func store(ctx context.Context, pg *localpg.Server, name string) error {
	if err := pg.CreateDatabase(ctx, name, ""); err != nil {
		return err
	}
	if _, err := schema.MigrateStore(ctx, pg.DSN(name)); err != nil {
		return err
	}
	return execute(ctx, pg.DSN(name), "ALTER ROLE "+schema.RoleRelay+" PASSWORD '"+password+"'")
}

func execute(ctx context.Context, dsn string, statements ...string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

func ask[T any](ctx context.Context, dsn, sql string, args ...any) (v T, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return v, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, sql, args...).Scan(&v)
	return v, err
}

// backlog is rows that wait behind a slot, which contenders get copies of.
type backlog struct {
	pg       *localpg.Server
	database string
	slot     string
	rows     int
	end      string // position where the last transaction begins
}

// newBacklog makes a slot and commits rows behind it, perTransaction at a time: each an
// order.placed of 300 bytes, over 5,000 groups, with ids that grow as UUIDv7 do. Slots of
// other databases, which nobody needs any more, are dropped: a new one begins with the
// catalog that the oldest of all holds, and would look older than its own publication.
func newBacklog(ctx context.Context, pg *localpg.Server, database, slot string, rows, perTransaction int) (*backlog, error) {
	b := &backlog{pg: pg, database: database, slot: slot, rows: rows}
	load := func(transactions int) string {
		return fmt.Sprintf(loadSQL, transactions, perTransaction)
	}
	dsn := pg.DSN(database)
	err := execute(ctx, dsn, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database <> current_database()",
		"CREATE SEQUENCE IF NOT EXISTS bench_ids", "SELECT pg_create_logical_replication_slot('"+slot+"', 'pgoutput')",
		"SET synchronous_commit = off", load(rows/perTransaction-1), "CHECKPOINT")
	if err != nil {
		return nil, err
	}
	if b.end, err = ask[string](ctx, dsn, "SELECT pg_current_wal_lsn()::text"); err != nil {
		return nil, err
	}
	return b, execute(ctx, dsn, load(1))
}

const loadSQL = `DO $$
	DECLARE
		today date := (now() AT TIME ZONE 'UTC')::date;
	BEGIN
		FOR i IN 0..%d - 1 LOOP
			INSERT INTO outbox (day, id, type, message_group, attributes, body, traceparent)
			SELECT today, id, 'order.placed', 'customer-' || n %% 5000,
				jsonb_build_object('eventType', jsonb_build_object('type', 'String', 'value', 'order.placed'),
					'eventId', jsonb_build_object('type', 'String', 'value', id::text),
					'quantity', jsonb_build_object('type', 'Number', 'value', '3'),
					'traceparent', jsonb_build_object('type', 'String', 'value', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01')),
				'{"time":"2026-01-01T00:00:00Z","specversion":"1.0","id":"' || id || '","type":"order.placed","data":{"text":"' || repeat('x', 150) || '"}}',
				'00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
			FROM (
				SELECT (lpad(to_hex(n), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid AS id, n
				FROM (SELECT nextval('bench_ids') AS n FROM generate_series(1, %d)) numbers) s;
			COMMIT;
		END LOOP;
	END $$`

// copy makes a slot of the given name that stands where the backlog begins, in place of
// one that there may be, and empties the ledger.
func (b *backlog) copy(ctx context.Context, name string) error {
	return execute(ctx, b.pg.DSN(b.database),
		"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '"+name+"'",
		"TRUNCATE ledger, watermarks",
		"SELECT pg_copy_logical_replication_slot('"+b.slot+"', '"+name+"')")
}
