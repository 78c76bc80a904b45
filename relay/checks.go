package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// check refuses a database that the relay would lose events on or stall, and
// returns what the slot has confirmed.
func check(ctx context.Context, conn *pgx.Conn, cfg Config) (pglogrepl.LSN, error) {
	var level, standbys string
	err := conn.QueryRow(ctx, `SELECT current_setting('wal_level'), current_setting('synchronous_standby_names')`).Scan(&level, &standbys)
	if err != nil {
		return 0, fmt.Errorf("read the server's settings: %w", err)
	}
	if level != "logical" {
		return 0, refusal("wal_level is %s: set wal_level = logical and restart Postgres", level)
	}
	if err := checkStandbyNames(standbys, cfg.Slot); err != nil {
		return 0, err
	}
	if err := checkPublication(ctx, conn, cfg.Publication); err != nil {
		return 0, err
	}
	return checkSlot(ctx, conn, cfg)
}

// checkStandbyNames refuses when commits would wait for this relay, and so for
// SNS. A walsender is a synchronous standby if the list names its application.
// https://www.postgresql.org/docs/15/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES
func checkStandbyNames(names, application string) error {
	listed := strings.FieldsFunc(names, func(r rune) bool { return strings.ContainsRune(`,() "`, r) })
	for _, name := range listed {
		if name == "*" || strings.EqualFold(name, application) {
			return refusal("synchronous_standby_names = '%s' names the relay (%s), so every commit would wait for SNS: "+
				"name only real standbys there and reload Postgres", names, application)
		}
	}
	return nil
}

// checkPublication wants exactly one table, published by name, inserts only, as
// its root.
func checkPublication(ctx context.Context, conn *pgx.Conn, publication string) error {
	mend := fmt.Sprintf("as the owner run: DROP PUBLICATION IF EXISTS %[1]s; CREATE PUBLICATION %[1]s FOR TABLE outbox "+
		"WITH (publish = 'insert', publish_via_partition_root = true); a slot made before that must be made again",
		pgx.Identifier{publication}.Sanitize())
	var all, insert, update, del, truncate, root bool
	err := conn.QueryRow(ctx, `SELECT puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot
		FROM pg_publication WHERE pubname = $1`, publication).Scan(&all, &insert, &update, &del, &truncate, &root)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return refusal("publication %s does not exist: run restock migrate, or %s", publication, mend)
	case err != nil:
		return fmt.Errorf("read publication %s: %w", publication, err)
	case all || !insert || update || del || truncate || !root:
		return refusal("publication %s must have one table, publish = 'insert' and publish_via_partition_root: %s", publication, mend)
	}
	rows, err := conn.Query(ctx, `SELECT schemaname || '.' || tablename, attnames::text[] FROM pg_publication_tables WHERE pubname = $1`, publication)
	if err != nil {
		return fmt.Errorf("read publication %s: %w", publication, err)
	}
	type published struct {
		Name    string
		Columns []string
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[published])
	if err != nil {
		return fmt.Errorf("read publication %s: %w", publication, err)
	}
	if len(tables) != 1 {
		return refusal("publication %s has %d tables, not one: %s", publication, len(tables), mend)
	}
	for _, name := range columns {
		if !slices.Contains(tables[0].Columns, name) {
			return refusal("publication %s does not publish column %q of %s, which the relay needs: %s", publication, name, tables[0].Name, mend)
		}
	}
	return nil
}

// checkSlot refuses a slot that is not there or not whole. It is never made
// anew here: what was committed meanwhile would be missed without a word.
func checkSlot(ctx context.Context, conn *pgx.Conn, cfg Config) (pglogrepl.LSN, error) {
	var plugin, database, current, status string
	var confirmed *string
	err := conn.QueryRow(ctx, `SELECT coalesce(plugin, ''), coalesce(database, ''), current_database(), coalesce(wal_status, ''), confirmed_flush_lsn::text
		FROM pg_replication_slots WHERE slot_name = $1`, cfg.Slot).Scan(&plugin, &database, &current, &status, &confirmed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, refusal("replication slot %s does not exist: run restock migrate; "+
			"if it did exist, events committed since it was lost are not in SNS", cfg.Slot)
	case err != nil:
		return 0, fmt.Errorf("read slot %s: %w", cfg.Slot, err)
	case plugin != "pgoutput" || database != current:
		return 0, refusal("replication slot %s is for plugin %q and database %q, not pgoutput and %q: choose another name", cfg.Slot, plugin, database, current)
	case status == "lost" || confirmed == nil:
		return 0, refusal("replication slot %s has lost WAL that it needed (wal_status %s): "+
			"events committed since are not in SNS; drop it with SELECT pg_drop_replication_slot('%s') and run restock migrate", cfg.Slot, status, cfg.Slot)
	}
	lsn, err := pglogrepl.ParseLSN(*confirmed)
	if err != nil {
		return 0, fmt.Errorf("read slot %s: %w", cfg.Slot, err)
	}
	return lsn, nil
}
