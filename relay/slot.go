package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/restock-dev/restock/internal/service"
)

// Existing says what to do with outbox rows that were committed before the first
// slot was made, and that no ledger says anything about.
type Existing int

const (
	// RefuseExisting makes no slot where there are some.
	RefuseExisting Existing = iota
	// PublishExisting has the relay publish them.
	PublishExisting
	// SkipExisting notes them as parked and skipped. They are not published, and are
	// still to be seen, and to be replayed.
	SkipExisting
)

// ExistingError is that there are such rows and nobody said what to do.
type ExistingError struct {
	Slot   string
	Events int
	Oldest time.Time
}

func (e *ExistingError) Error() string {
	return fmt.Sprintf("slot %s does not exist and the ledger is empty, but the outbox holds %d events committed since %s: nothing tells whether they were published",
		e.Slot, e.Events, e.Oldest.UTC().Format(time.RFC3339))
}

// CreateSlot makes the slot if it does not exist or is invalid, and reports whether
// it did; where the outbox is split, the slots of its shards. Its publication must be
// there before it. A database with the slot of another relay is refused. What was
// committed before, and is not in the ledger, is published by the relay when it starts;
// with an empty ledger, existing decides about it. Making a slot waits for every
// transaction that is open in any database of the cluster, and so does looking for such
// rows behind it; after timeout the error names them.
// https://www.postgresql.org/docs/15/functions-admin.html#FUNCTIONS-REPLICATION
func CreateSlot(ctx context.Context, dsn, slot, publication string, existing Existing, timeout time.Duration) (made bool, err error) {
	conn, err := connectOnce(ctx, dsn)
	if err != nil {
		return false, fmt.Errorf("create slot %s: %w", slot, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := checkAlone(ctx, conn, slot); err != nil {
		return false, err
	}
	shards, _, err := readShards(ctx, conn, slot, publication)
	if err != nil {
		return false, err
	}
	for _, shard := range shards {
		one, err := createSlot(ctx, conn, shard, existing, timeout)
		made = made || one
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

func createSlot(ctx context.Context, conn *pgx.Conn, shard Shard, existing Existing, timeout time.Duration) (bool, error) {
	slot := shard.Slot
	held, err := lockOrLeave(ctx, conn, slot, timeout)
	if err != nil || !held {
		return false, err
	}
	defer func() { _ = unlock(context.WithoutCancel(ctx), conn, slot) }()
	state, err := readSlot(ctx, conn, slot)
	if err != nil || state.usable() {
		return false, err
	}
	p, err := readPublication(ctx, conn, shard)
	if err != nil {
		return false, err
	}
	if err := settleExisting(ctx, conn, slot, p.table, existing); err != nil {
		return false, err
	}
	// Rows may come before the slot is there, so the sweep is due before it, and is
	// not due after all where the outbox is still empty then.
	if err := sweepDue(ctx, conn, slot, "restock migrate made the slot"); err != nil {
		return false, err
	}
	if err := makeSlot(ctx, conn, slot, timeout); err != nil {
		return false, err
	}
	if err := sweepFrom(ctx, conn, slot, p.id); err != nil {
		return false, err
	}
	if err := awaitVisible(ctx, conn, slot, timeout); err != nil {
		return true, err
	}
	_, err = conn.Exec(ctx, `UPDATE watermarks SET sweep = NULL WHERE slot = $1 AND NOT EXISTS (SELECT FROM `+p.table.Sanitize()+`)`, slot)
	if err != nil {
		return true, fmt.Errorf("create slot %s: %w", slot, err)
	}
	return true, nil
}

// lockOrLeave takes a slot's lock, unless there is nothing to be done, or the relay that
// has it sees that the slot is gone, makes it and sweeps. One that has nothing to go by
// refuses to, and may be started again and again: then the lock is waited for.
func lockOrLeave(ctx context.Context, conn *pgx.Conn, slot string, timeout time.Duration) (held bool, err error) {
	for end := time.Now().Add(timeout); ; {
		if held, err = tryLock(ctx, conn, slot); held || err != nil {
			return held, err
		}
		state, err := readSlot(ctx, conn, slot)
		if err != nil || state.usable() {
			return false, err
		}
		var heals bool
		err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ledger) OR EXISTS (SELECT FROM watermarks WHERE slot = $1 AND sweep IS NOT NULL)`, slot).Scan(&heals)
		if err != nil || heals {
			return false, err
		}
		if !time.Now().Before(end) {
			return false, fmt.Errorf("create slot %s: a relay has had its lock for %s and does not make it: see its log, stop it and try again", slot, timeout)
		}
		if err := service.Sleep(ctx, visibleEvery); err != nil {
			return false, err
		}
	}
}

// MissingSlot names a slot that CreateSlot would make, "" if there is none. Before the
// first migration there are no shards.
func MissingSlot(ctx context.Context, conn *pgx.Conn, slot string) (string, error) {
	shards := []Shard{{Slot: slot}}
	var split bool
	err := conn.QueryRow(ctx, `SELECT to_regclass('shards') IS NOT NULL`).Scan(&split)
	if err == nil && split {
		shards, _, err = readShards(ctx, conn, slot, "")
	}
	for _, s := range shards {
		if err != nil {
			break
		}
		var state slotState
		if state, err = readSlot(ctx, conn, s.Slot); err == nil && !state.usable() {
			return s.Slot, nil
		}
	}
	return "", err
}

// Unsettled is an *ExistingError where CreateSlot asks what becomes of the events that
// are in the table outbox. Before the first migration there are none.
func Unsettled(ctx context.Context, conn *pgx.Conn, slot string) error {
	var there bool
	err := conn.QueryRow(ctx, `SELECT to_regclass('outbox') IS NOT NULL AND to_regclass('ledger') IS NOT NULL`).Scan(&there)
	switch {
	case err != nil:
		return fmt.Errorf("look for the outbox: %w", err)
	case !there:
		return nil
	}
	return unsettled(ctx, conn, slot, pgx.Identifier{"outbox"})
}

func unsettled(ctx context.Context, conn *pgx.Conn, slot string, table pgx.Identifier) error {
	var events int
	var oldest time.Time
	at, err := committedAt(ctx, conn, table)
	if err == nil {
		err = conn.QueryRow(ctx, `SELECT count(*), coalesce(min(`+at+`), now()) FROM `+table.Sanitize()+` o WHERE NOT EXISTS (SELECT FROM ledger)`).Scan(&events, &oldest)
	}
	switch {
	case err != nil:
		return fmt.Errorf("look at the outbox: %w", err)
	case events > 0:
		return &ExistingError{slot, events, oldest}
	}
	return nil
}

// settleExisting deals with what is in the outbox while the ledger is empty.
func settleExisting(ctx context.Context, conn *pgx.Conn, slot string, table pgx.Identifier, existing Existing) error {
	err := unsettled(ctx, conn, slot, table)
	switch {
	case !errors.As(err, new(*ExistingError)) || existing == RefuseExisting:
		return err
	case existing == PublishExisting:
		return nil
	}
	_, err = conn.Exec(ctx, `WITH rows AS (SELECT day, id, message_group, seq FROM `+table.Sanitize()+`),
		skipped AS (INSERT INTO ledger (day, event_id, outcome) SELECT day, id, 'parked' FROM rows)
		INSERT INTO parked (day, event_id, message_group, seq, reason, detail, state, asked_by, asked_at, resolved_at)
		SELECT day, id, message_group, seq, 'existing', 'committed before slot ' || $1::text || ' was made', 'skipped', current_user, now(), now() FROM rows
		ON CONFLICT (day, event_id) DO NOTHING`, slot)
	if err != nil {
		return fmt.Errorf("skip the events that are there: %w", err)
	}
	return nil
}

// makeSlot makes the slot, in place of one that is there. From Postgres 17 it is
// one that standbys keep too, where they are set up for it (sync_replication_slots).
// https://www.postgresql.org/docs/17/logicaldecoding-explanation.html#LOGICALDECODING-REPLICATION-SLOTS-SYNCHRONIZATION
func makeSlot(ctx context.Context, conn *pgx.Conn, slot string, timeout time.Duration) error {
	if _, err := conn.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`, slot); err != nil {
		return fmt.Errorf("drop slot %s: %w", slot, err)
	}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var version int
		err := tx.QueryRow(ctx, `SELECT current_setting('server_version_num')::int FROM set_config('statement_timeout', $1, true)`,
			fmt.Sprint(timeout.Milliseconds())).Scan(&version)
		if err != nil {
			return err
		}
		create := `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`
		if version >= 170000 {
			create = `SELECT pg_create_logical_replication_slot($1, 'pgoutput', failover => true)`
		}
		_, err = tx.Exec(ctx, create, slot)
		return err
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "57014" {
		return fmt.Errorf("create slot %s: waited %s for transactions that were open before: %s; end them and try again", slot, timeout, blockers(ctx, conn))
	}
	if err != nil {
		return fmt.Errorf("create slot %s: %w", slot, err)
	}
	return nil
}

// visibleEvery is how often it is looked whether what is committed is visible.
const visibleEvery = 10 * time.Millisecond

// awaitVisible returns when whatever the slot has gone past is visible. A commit stands
// in the WAL, where the slot may go past it, before others see it: for as long as a
// synchronous standby takes, if the transaction waits for one. So it waits for every
// transaction of this database that had begun to write when it was called, and names
// them after timeout.
func awaitVisible(ctx context.Context, conn *pgx.Conn, slot string, timeout time.Duration) error {
	open, err := writers(ctx, conn)
	for end := time.Now().Add(timeout); err == nil && len(open) > 0; {
		if !time.Now().Before(end) {
			return fmt.Errorf("slot %s stands, but what it has gone past may not be visible yet: waited %s for transactions that were open then: %s; end them and try again",
				slot, timeout, strings.Join(slices.Sorted(maps.Values(open)), "; "))
		}
		if err = service.Sleep(ctx, visibleEvery); err != nil {
			return err
		}
		var now map[string]string
		now, err = writers(ctx, conn)
		maps.DeleteFunc(open, func(number, _ string) bool { return now[number] == "" })
	}
	if err != nil {
		return fmt.Errorf("slot %s: wait for what is committed: %w", slot, err)
	}
	return nil
}

// writers are the transactions of this database that have a number, and who they are.
// Each holds a lock on its number until others see how it ended.
func writers(ctx context.Context, conn *pgx.Conn) (map[string]string, error) {
	rows, err := conn.Query(ctx, `
		SELECT l.transactionid::text, CASE WHEN p.gid IS NULL THEN format('pid %s (%s)', a.pid, a.usename)
		       ELSE format('%s, prepared at %s', quote_literal(p.gid), p.prepared) END
		  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid LEFT JOIN pg_prepared_xacts p ON p.transaction = l.transactionid
		 WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
		   AND coalesce(p.database, a.datname) = current_database()`)
	if err != nil {
		return nil, err
	}
	open := map[string]string{}
	var number, who string
	_, err = pgx.ForEachRow(rows, []any{&number, &who}, func() error {
		open[number] = who
		return nil
	})
	return open, err
}

// readSlot reads the slot as the server shows it. Why it was invalidated is told
// from Postgres 17 on.
func readSlot(ctx context.Context, conn *pgx.Conn, slot string) (slotState, error) {
	s := slotState{exists: true}
	var status, reason string
	var confirmed *pglogrepl.LSN
	err := conn.QueryRow(ctx, `SELECT coalesce(plugin, ''), coalesce(database, ''), coalesce(wal_status, ''),
			coalesce(to_jsonb(s) ->> 'invalidation_reason', ''), confirmed_flush_lsn::text
		FROM pg_replication_slots s WHERE slot_name = $1`, slot).Scan(&s.plugin, &s.database, &status, &reason, &confirmed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return slotState{}, nil
	case err != nil:
		return slotState{}, fmt.Errorf("read slot %s: %w", slot, err)
	case reason != "":
		s.lost = reason
	case status == "lost":
		s.lost = "it has lost WAL that it needed"
	case s.plugin == "pgoutput" && confirmed == nil:
		s.lost = "it was not made to the end"
	}
	if confirmed != nil {
		s.confirmed = *confirmed
	}
	return s, nil
}

// blockers names the backends with a transaction that has written, oldest first.
func blockers(ctx context.Context, conn *pgx.Conn) string {
	var text *string
	err := conn.QueryRow(ctx, `SELECT string_agg(format('pid %s (%s in %s, %s, open since %s)', pid, usename, datname, state, xact_start), '; ' ORDER BY xact_start)
		FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()`).Scan(&text)
	switch {
	case err != nil:
		return "which ones could not be read: " + err.Error()
	case text == nil:
		return "they have ended since, or are prepared (see pg_prepared_xacts)"
	}
	return *text
}
