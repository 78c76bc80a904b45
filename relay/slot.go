package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// CreateSlot makes the slot if it does not exist and reports whether it did. Its
// publication must be there before it. Making a slot waits for every transaction
// that is open in any database of the cluster; after timeout the error names the
// ones it waited for.
// https://www.postgresql.org/docs/15/functions-admin.html#FUNCTIONS-REPLICATION
func CreateSlot(ctx context.Context, dsn, slot string, timeout time.Duration) (bool, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return false, fmt.Errorf("create slot %s: %w", slot, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if exists, err := slotExists(ctx, conn, slot); err != nil || exists {
		return false, err
	}
	if _, err := conn.Exec(ctx, `SELECT set_config('statement_timeout', $1, false)`, fmt.Sprint(timeout.Milliseconds())); err != nil {
		return false, fmt.Errorf("create slot %s: %w", slot, err)
	}
	_, err = conn.Exec(ctx, `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, slot)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "57014" {
		return false, fmt.Errorf("create slot %s: waited %s for transactions that were open before: %s; end them and try again", slot, timeout, blockers(ctx, conn))
	}
	if err != nil {
		return false, fmt.Errorf("create slot %s: %w", slot, err)
	}
	return true, nil
}

// Unpublished counts the outbox rows that are in no ledger, and returns the time
// of the oldest. A slot made after they were committed never brings them.
func Unpublished(ctx context.Context, dsn string) (rows int, oldest time.Time, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, oldest, fmt.Errorf("count unpublished events: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, `SELECT count(*), coalesce(min(o.created_at), now()) FROM outbox o
		WHERE NOT EXISTS (SELECT FROM ledger l WHERE l.day = o.day AND l.event_id = o.id)`).Scan(&rows, &oldest)
	if err != nil {
		return 0, oldest, fmt.Errorf("count unpublished events: %w", err)
	}
	return rows, oldest, nil
}

// SlotExists tells whether there is a slot of that name.
func SlotExists(ctx context.Context, dsn, slot string) (bool, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return false, fmt.Errorf("look for slot %s: %w", slot, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return slotExists(ctx, conn, slot)
}

func slotExists(ctx context.Context, conn *pgx.Conn, slot string) (exists bool, err error) {
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)`, slot).Scan(&exists)
	if err != nil {
		return false, fmt.Errorf("look for slot %s: %w", slot, err)
	}
	return exists, nil
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
