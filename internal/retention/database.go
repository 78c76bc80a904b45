package retention

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// tables are those that have a partition for each day. The outbox is first.
var tables = []string{outbox, "ledger", "parked", "inbox", "effects"}

const outbox = "outbox"

// database is one under work, on one connection.
type database struct {
	name       string
	conn       *pgx.Conn
	today      time.Time // the UTC day, by its own clock
	partitions []*partition
	stuck      map[string]string // by table, the partition that could not be removed
}

func open(ctx context.Context, cfg Database, how Config) (*database, error) {
	pc, err := pgx.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"application_name": "restock_maintain",
		"lock_timeout":     strconv.FormatInt(how.LockTimeout.Milliseconds(), 10),
		"datestyle":        "ISO", // the bounds of partitions are read
		// A large day takes its time, and a session waits while another database is asked.
		"statement_timeout":                   "0",
		"idle_in_transaction_session_timeout": "0",
		"idle_session_timeout":                "0",
		// A day that was never analyzed looks like a few rows, and its outbox would be
		// held against its ledger row by row by row.
		"enable_nestloop": "off",
		"plan_cache_mode": "force_custom_plan",
		"jit":             "off",
		// Nobody waits for this, so one processor is enough.
		"max_parallel_workers_per_gather": "0",
	} {
		pc.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, pc)
	if err != nil {
		return nil, err
	}
	d := &database{name: cfg.Name, conn: conn, stuck: map[string]string{}}
	if err := d.begin(ctx, how.DryRun); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// close ends the session. The lock goes before, because a session ends a little later
// than its client.
func (d *database) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = d.conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`) // a session that is gone holds nothing
	d.conn.Close(ctx)
}

func (d *database) begin(ctx context.Context, dryRun bool) error {
	// Postgres 17 and newer have a time-out of transactions, too.
	if _, err := d.conn.Exec(ctx, `SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'`); err != nil {
		return fmt.Errorf("set time-outs: %w", err)
	}
	var missing, foreign int
	err := d.conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE c.oid IS NULL), count(*) FILTER (WHERE NOT pg_has_role(c.relowner, 'USAGE'))
		FROM unnest($1::text[]) t (name) LEFT JOIN pg_class c ON c.oid = to_regclass('public.' || t.name)`, tables).Scan(&missing, &foreign)
	switch {
	case err != nil:
		return fmt.Errorf("look for the tables: %w", err)
	case missing > 0:
		return fmt.Errorf("%w: tables are missing: run restock migrate", ErrUnfit)
	case foreign > 0 && !dryRun:
		return fmt.Errorf("%w: %s does not own the tables, and nobody else can detach a partition: connect as the owner, like restock migrate",
			ErrUnfit, d.conn.Config().User)
	}
	if !dryRun {
		var free bool
		if err := d.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended('restock:maintain', 0))`).Scan(&free); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		if !free {
			return ErrBusy
		}
	}
	return d.list(ctx)
}

// list reads which partitions there are. Only those are known that are made as
// ensure_partitions makes them: by their name, and for the one day that it says.
func (d *database) list(ctx context.Context) error {
	if err := d.conn.QueryRow(ctx, `SELECT (now() AT TIME ZONE 'UTC')::date`).Scan(&d.today); err != nil {
		return fmt.Errorf("read the day: %w", err)
	}
	rows, err := d.conn.Query(ctx, `SELECT t.name, c.relname::text, coalesce(pg_get_expr(c.relpartbound, c.oid), ''), coalesce(i.inhdetachpending, false),
			coalesce(obj_description(c.oid, 'pg_class'), '') = $2
		FROM unnest($1::text[]) t (name)
		JOIN pg_class c ON c.relname ~ ('^' || t.name || '_[0-9]{8}$') AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
		LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
		WHERE i.inhparent IS NULL OR i.inhparent = to_regclass('public.' || t.name)`, tables, mark)
	if err != nil {
		return fmt.Errorf("list partitions: %w", err)
	}
	var table, name, bounds string
	var detaching, marked bool
	_, err = pgx.ForEachRow(rows, []any{&table, &name, &bounds, &detaching, &marked}, func() error {
		if p, ok := parsePartition(table, name, bounds); ok {
			p.db, p.marked = d, marked
			if detaching {
				p.state = pending
			}
			d.partitions = append(d.partitions, p)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list partitions: %w", err)
	}
	return nil
}

func (d *database) find(table string, day time.Time) *partition {
	for _, p := range d.partitions {
		if p.table == table && p.day.Equal(day) {
			return p
		}
	}
	return nil
}

func (d *database) forget(gone *partition) {
	for i, p := range d.partitions {
		if p == gone {
			d.partitions = append(d.partitions[:i:i], d.partitions[i+1:]...)
			return
		}
	}
}

// itemsAtOnce bounds one delete of a replay's items. Of ten million at once the relay's slot
// would have to read all the changes before it came to the next event.
const itemsAtOnce = 10_000

// forgetReplays deletes the items of replays that have long been over. Their rows
// stay: who replayed what, and what came of it.
func (d *database) forgetReplays(ctx context.Context, dryRun bool) error {
	if dryRun {
		return nil
	}
	// Its first place by the index: the session has no nested loops, and EXISTS would read all.
	rows, err := d.conn.Query(ctx, `SELECT id FROM public.replays r WHERE ended_at < now() - make_interval(days => $1)
		AND (SELECT place FROM public.replay_items i WHERE i.replay_id = r.id ORDER BY place LIMIT 1) IS NOT NULL`, RecordDays)
	if err != nil {
		return fmt.Errorf("look for old replays: %w", err)
	}
	old, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("look for old replays: %w", err)
	}
	for _, id := range old {
		if err := d.forgetReplay(ctx, id); err != nil {
			return fmt.Errorf("delete the items of replay %s: %w", id, err)
		}
	}
	return nil
}

// forgetReplay deletes the items of a replay, unless it was resumed meanwhile.
func (d *database) forgetReplay(ctx context.Context, id uuid.UUID) error {
	var done, events int64
	err := pgx.BeginFunc(ctx, d.conn, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT done, events FROM public.replays WHERE id = $1 AND ended_at IS NOT NULL FOR UPDATE`, id).Scan(&done, &events)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		// First the item by which a cancelled replay would go on: without it none is resumed.
		return d.forgetItems(ctx, id, done, min(done+itemsAtOnce, events))
	})
	for _, rest := range [][2]int64{{done + itemsAtOnce, events}, {0, done}} {
		for behind := rest[0]; err == nil && behind < rest[1]; behind += itemsAtOnce {
			err = d.forgetItems(ctx, id, behind, min(behind+itemsAtOnce, rest[1]))
		}
	}
	return err
}

// forgetItems deletes the items of a replay behind a place and up to another.
func (d *database) forgetItems(ctx context.Context, replay uuid.UUID, behind, upTo int64) error {
	_, err := d.conn.Exec(ctx, `DELETE FROM public.replay_items WHERE replay_id = $1 AND place > $2 AND place <= $3`, replay, behind, upTo)
	return err
}

// keysAtOnce bounds one delete of idempotency keys, and so how long it holds anything.
const keysAtOnce = 10_000

// forgetKeys deletes idempotency keys that are past their time, where the database has
// any. A checkout with such a key finds its row or does not, and waits for neither.
func (d *database) forgetKeys(ctx context.Context, dryRun bool) error {
	var there bool
	if err := d.conn.QueryRow(ctx, `SELECT to_regclass('public.idempotency_keys') IS NOT NULL`).Scan(&there); err != nil {
		return fmt.Errorf("look for idempotency keys: %w", err)
	}
	for there && !dryRun {
		done, err := d.conn.Exec(ctx, `DELETE FROM public.idempotency_keys WHERE ctid = ANY (ARRAY(
			SELECT ctid FROM public.idempotency_keys WHERE created_at < now() - make_interval(hours => $1) ORDER BY created_at LIMIT $2))`, KeyHours, keysAtOnce)
		if err != nil {
			return fmt.Errorf("delete old idempotency keys: %w", err)
		}
		there = done.RowsAffected() == keysAtOnce
	}
	return nil
}

// inTx runs do in a transaction.
func (d *database) inTx(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, d.conn, do)
}
