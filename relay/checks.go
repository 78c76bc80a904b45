package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/restock-dev/restock/schema"
)

// check refuses a server that the relay would stall or be of no use on.
func check(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	var level, standbys, version string
	var number int
	err := conn.QueryRow(ctx, `SELECT current_setting('wal_level'), current_setting('synchronous_standby_names'), current_setting('server_version'), current_setting('server_version_num')::int`).
		Scan(&level, &standbys, &version, &number)
	if err != nil {
		return fmt.Errorf("read the server's settings: %w", err)
	}
	old := schema.CheckPostgres(version, number)
	switch {
	case old != nil:
		return refusal("%s", old)
	case level != "logical":
		return refusal("wal_level is %s: set wal_level = logical and restart Postgres", level)
	}
	return checkStandbyNames(standbys, cfg.Slot)
}

// checkAlone refuses a relay of another name beside one whose ledger this is too: it would
// take for published on its own topic what the other has published on another, and hold
// and send what the other has parked.
func checkAlone(ctx context.Context, conn *pgx.Conn, relay string) error {
	var other string
	err := conn.QueryRow(ctx, `SELECT coalesce(min(w.slot), '') FROM watermarks w JOIN pg_replication_slots s ON s.slot_name = w.slot AND s.database = current_database()
		WHERE w.slot <> $1 AND NOT EXISTS (SELECT FROM shards h WHERE h.slot = w.slot AND h.relay = $1)`, relay).Scan(&other)
	if err != nil {
		return fmt.Errorf("look for other relays: %w", err)
	}
	if other != "" {
		return refusal("slot %[1]s is of another relay with the same ledger, and what one publishes the other would pass over: "+
			"give each outbox a database of its own, or, if %[1]s is not wanted any more, SELECT pg_drop_replication_slot('%[1]s')", other)
	}
	return nil
}

// checkTable refuses a table of which a row would end the stream for good, or that could
// not be read where the slot is lost: that would come to light only then, and as if there
// were nothing where policies hide the rows.
func checkTable(ctx context.Context, conn *pgx.Conn, table pgx.Identifier, shard Shard) error {
	var wrong string
	err := conn.QueryRow(ctx, `SELECT coalesce(string_agg(format('%s %s%s', a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN ' NOT NULL' END), ', ' ORDER BY a.attnum), '')
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
		WHERE a.attrelid = $1::regclass AND NOT a.attisdropped AND a.attname IN ('day', 'id', 'seq') AND NOT (a.attnotnull
			AND (a.attname, coalesce(nullif(t.typbasetype, 0), t.oid)) IN (('day', 'date'::regtype), ('id', 'uuid'::regtype), ('seq', 'int8'::regtype), ('seq', 'int4'::regtype)))`,
		table.Sanitize()).Scan(&wrong)
	if err != nil {
		return fmt.Errorf("look at table %s: %w", table.Sanitize(), err)
	}
	if wrong != "" {
		return refusal("table %s has the columns %s, and a row without a day, an id or a seq would stop the relay for good: make them day date, id uuid and seq bigint, NOT NULL each",
			table.Sanitize(), wrong)
	}
	if err := checkGenerated(ctx, conn, table); err != nil {
		return err
	}
	missing, err := missingQuery(ctx, conn, table, shard)
	if err == nil {
		_, err = conn.Exec(ctx, "EXPLAIN "+missing)
	}
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == "42501":
		return refusal("%s, but the relay must read every row of it to find what goes past a slot that is lost: "+
			"GRANT SELECT ON %s and ledger to its role, and where a table has row-level security ALTER ROLE … BYPASSRLS", pg.Message, table.Sanitize())
	case err != nil:
		return fmt.Errorf("look at table %s: %w", table.Sanitize(), err)
	}
	return nil
}

// checkGenerated refuses a needed column that the stream leaves out though the publication
// lists it: each row would end the stream, and be found only by a sweep. From Postgres 18 a
// publication has such columns or does not list them.
// https://www.postgresql.org/docs/18/logical-replication-gencols.html
func checkGenerated(ctx context.Context, conn *pgx.Conn, table pgx.Identifier) error {
	var generated string
	err := conn.QueryRow(ctx, `SELECT coalesce(string_agg(attname, ', ' ORDER BY attnum), '') FROM pg_attribute
		WHERE attrelid = $1::regclass AND attgenerated <> '' AND attname = ANY($2) AND current_setting('server_version_num')::int < 180000`,
		table.Sanitize(), columns[:]).Scan(&generated)
	if err != nil {
		return fmt.Errorf("look at table %s: %w", table.Sanitize(), err)
	}
	if generated != "" {
		return refusal("table %s has the generated columns %s, which this Postgres does not replicate: ALTER COLUMN … DROP EXPRESSION, and give each a DEFAULT, or a value in a trigger BEFORE INSERT",
			table.Sanitize(), generated)
	}
	return nil
}

// checkStandbyNames refuses when commits would wait for this relay, and so for
// SNS. A walsender is a synchronous standby if the list names its application.
// https://www.postgresql.org/docs/15/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES
func checkStandbyNames(names, application string) error {
	listed := strings.FieldsFunc(names, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`,()"`, r) })
	for _, name := range listed {
		if name == "*" || strings.EqualFold(name, application) {
			return refusal("synchronous_standby_names = '%s' names the relay (%s), so every commit would wait for SNS: "+
				"name only real standbys there and reload Postgres", names, application)
		}
	}
	return nil
}
