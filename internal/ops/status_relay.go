package ops

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// States of a relay, as the database shows them.
const (
	RelayActive   = "active"   // one streams
	RelaySweeping = "sweeping" // one publishes what had gone past the slot
	RelayStarting = "starting" // one holds the lock and does not stream yet
	RelayNone     = "none"     // nobody relays
)

// RelayStatus is one database's outbox and whoever publishes it. Where it is split into
// shards, or they are being changed, what is said of the slot is of all slots together:
// the worst of each, and Shards has them one by one.
type RelayStatus struct {
	Database string `json:"database"`
	// Error is why it could not be asked, or not wholly: what follows it is 0 then.
	Error    string `json:"error,omitempty"`
	Slot     string `json:"slot"`
	State    string `json:"state"`
	Standbys int    `json:"standbys"`
	Sweep    string `json:"sweep,omitempty"` // why rows may have gone past the slot; published when that is done

	SlotState string `json:"slotState"` // reserved, extended, unreserved, lost, missing
	Confirmed string `json:"confirmed"` // the slot's position
	Restart   string `json:"restart"`   // from where on WAL is kept for it
	// LagBytes is the WAL that the slot has not confirmed, RetainedBytes what is kept for it.
	LagBytes      int64 `json:"lagBytes"`
	RetainedBytes int64 `json:"retainedBytes"`
	// LeftBytes may be written until the slot is lost, which at the present rate of WAL
	// takes LeftSeconds. Null is unbounded.
	LeftBytes         *int64   `json:"leftBytes"`
	LeftSeconds       *float64 `json:"leftSeconds"`
	WALBytesPerSecond float64  `json:"walBytesPerSecond"`

	// LagSeconds is the age of the oldest event that is committed and neither published
	// nor parked, by the start of its transaction; 0 where there is none.
	LagSeconds      float64 `json:"lagSeconds"`
	Unpublished     int64   `json:"unpublished"`
	EventsPerSecond float64 `json:"eventsPerSecond"` // published, over the last minute
	// DrainSeconds is how long the unpublished ones take at that rate. Null is: for ever.
	DrainSeconds *float64 `json:"drainSeconds"`
	// QuietSeconds is for how long the relay has recorded nothing, null where it never has.
	QuietSeconds *float64 `json:"quietSeconds"`

	Shards []ShardStatus `json:"shards,omitempty"`

	ParkedEvents  int64 `json:"parkedEvents"`
	ParkedGroups  int64 `json:"parkedGroups"`
	PartitionDays int   `json:"partitionDays"` // made ahead, today not counted
	// Replenishments are of the store alone.
	Replenishments *ReplenishmentStatus `json:"replenishments,omitempty"`
}

// ReplenishmentStatus counts the open ones.
type ReplenishmentStatus struct {
	Open          int64   `json:"open"`
	Overdue       int64   `json:"overdue"`
	OldestSeconds float64 `json:"oldestSeconds"`
}

// statusTimeout bounds each question, and with it what looking costs.
const statusTimeout = 20 * time.Second

// relay asks one database. Its questions stand alone: where one fails the rest of the
// answers are there all the same.
func (s *Status) relay(ctx context.Context, d StatusDatabase) RelayStatus {
	r := RelayStatus{Database: d.Name}
	if err := s.down[d.Pool]; err != nil {
		r.Error = err.Error()
		return r
	}
	for _, ask := range []func(context.Context, pgx.Tx, *RelayStatus) error{
		s.askSlot, s.askStored, s.askReplenishments, s.askUnpublished,
	} {
		if err := s.inTx(ctx, d, func(ctx context.Context, tx pgx.Tx) error { return ask(ctx, tx, &r) }); err != nil {
			r.Error = Unable(err)
			return r
		}
	}
	return r
}

// inTx asks in a transaction that plans for large tables: for a day that was never
// analyzed the planner would choose row by row.
func (s *Status) inTx(ctx context.Context, d StatusDatabase, ask func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	err := pgx.BeginTxFunc(ctx, d.Pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('enable_nestloop', 'off', true), set_config('jit', 'off', true),
			set_config('plan_cache_mode', 'force_custom_plan', true)`); err != nil {
			return err
		}
		return ask(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("ask the %s database: %w", d.Name, err)
	}
	return nil
}

func (s *Status) sampleWAL(ctx context.Context, d StatusDatabase) error {
	return s.inTx(ctx, d, func(ctx context.Context, tx pgx.Tx) error {
		var wal int64
		if err := tx.QueryRow(ctx, `SELECT pg_current_wal_lsn() - '0/0'`).Scan(&wal); err != nil {
			return err
		}
		s.wal[d.Name].Measure(time.Now(), wal)
		return nil
	})
}

// askStored asks for what is parked and for the partitions.
func (s *Status) askStored(ctx context.Context, tx pgx.Tx, r *RelayStatus) error {
	return tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM parked WHERE state IN ('parked', 'sending')), (SELECT count(*) FROM parked_groups),
		(SELECT coalesce(max(to_date(right(c.relname, 8), 'YYYYMMDD')) - (now() AT TIME ZONE 'UTC')::date, -1)
			FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			WHERE i.inhparent = 'outbox'::regclass AND c.relname ~ '^outbox_[0-9]{8}$')`).
		Scan(&r.ParkedEvents, &r.ParkedGroups, &r.PartitionDays)
}

// askReplenishments asks the store. The customers database has none.
func (s *Status) askReplenishments(ctx context.Context, tx pgx.Tx, r *RelayStatus) error {
	var there bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass('replenishments') IS NOT NULL`).Scan(&there); err != nil || !there {
		return err
	}
	var of ReplenishmentStatus
	err := tx.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE requested_at < now() - $1::interval),
			coalesce(extract(epoch FROM now() - min(requested_at)), 0)::float8
		FROM replenishments WHERE state IN ('requested', 'accepted')`, s.cfg.Limits.Overdue).Scan(&of.Open, &of.Overdue, &of.OldestSeconds)
	if err != nil {
		return err
	}
	r.Replenishments = &of
	return nil
}

// published tells, at a fraction of what it costs to name them, whether all events of a
// day are in the ledger.
func published(ctx context.Context, tx pgx.Tx, day time.Time) (bool, error) {
	committed, err := sumDay(ctx, tx, "outbox", day)
	if err != nil {
		return false, err
	}
	recorded, err := sumDay(ctx, tx, "ledger", day)
	return committed == recorded, err
}

// askUnpublished holds the outbox against the ledger, day by day. A day that is over
// and wholly published stays so, and is not asked for again. Two days are always
// open: a transaction may begin before midnight and commit after.
func (s *Status) askUnpublished(ctx context.Context, tx pgx.Tx, r *RelayStatus) error {
	rows, err := tx.Query(ctx, `SELECT day, day >= today - 1 FROM (
			SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day, (now() AT TIME ZONE 'UTC')::date AS today
			FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			WHERE i.inhparent = 'outbox'::regclass AND c.relname ~ '^outbox_[0-9]{8}$') d
		WHERE day <= today ORDER BY day`)
	if err != nil {
		return err
	}
	type outboxDay struct {
		Day  time.Time
		Open bool
	}
	days, err := pgx.CollectRows(rows, pgx.RowToStructByPos[outboxDay])
	if err != nil {
		return err
	}
	clean := s.clean[r.Database]
	var open []time.Time
	for _, d := range days {
		key := d.Day.Format(time.DateOnly)
		if clean[key] {
			continue
		}
		if !d.Open {
			same, err := published(ctx, tx, d.Day)
			if err != nil {
				return err
			}
			if same {
				clean[key] = true
				continue
			}
		}
		var n int64
		var age float64
		err := tx.QueryRow(ctx, `SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(o.created_at)), 0)::float8 FROM outbox o
			WHERE o.day = $1 AND NOT EXISTS (SELECT FROM ledger l WHERE l.day = $1 AND l.event_id = o.id)`, d.Day).Scan(&n, &age)
		if err != nil {
			return fmt.Errorf("hold the outbox of %s against the ledger: %w", key, err)
		}
		r.Unpublished += n
		r.LagSeconds = max(r.LagSeconds, age)
		open = append(open, d.Day)
	}
	var published int64
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM ledger WHERE day = ANY($1::date[]) AND outcome = 'published'
		AND published_at > now() - interval '1 minute'`, open).Scan(&published); err != nil {
		return err
	}
	r.EventsPerSecond = float64(published) / 60
	if r.EventsPerSecond > 0 || r.Unpublished == 0 {
		seconds := 0.0
		if r.Unpublished > 0 {
			seconds = float64(r.Unpublished) / r.EventsPerSecond
		}
		r.DrainSeconds = &seconds
	}
	return nil
}
