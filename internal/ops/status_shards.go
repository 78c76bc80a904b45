package ops

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/schema"
)

// What the table shards says of a shard.
const (
	ShardServing = "serving" // a relay is to publish it
	ShardComing  = "coming"  // it is to be served, once a change of the shards ends
	ShardLeaving = "leaving" // it was served before a change that has not ended
)

// ShardStatus is one slot of an outbox. Its fields are as RelayStatus has them.
type ShardStatus struct {
	Slot          string   `json:"slot"`
	Place         string   `json:"place"`   // serving, coming or leaving
	Buckets       string   `json:"buckets"` // first and last, of 0 to 255
	State         string   `json:"state"`
	Sweep         string   `json:"sweep,omitempty"`
	SlotState     string   `json:"slotState"`
	Confirmed     string   `json:"confirmed"`
	Restart       string   `json:"restart"`
	LagBytes      int64    `json:"lagBytes"`
	RetainedBytes int64    `json:"retainedBytes"`
	LeftBytes     *int64   `json:"leftBytes"`
	LeftSeconds   *float64 `json:"leftSeconds"`

	relay  string // the slot that its relays are started with
	quiet  *float64
	locked bool
}

// askSlot asks for the slots and for who holds them. A slot of another name than the
// database's own is known by the table shards, or by its relay's watermark.
func (s *Status) askSlot(ctx context.Context, tx pgx.Tx, r *RelayStatus) error {
	now := schema.SlotSample{At: time.Now()}
	if err := tx.QueryRow(ctx, `SELECT pg_current_wal_lsn() - '0/0'`).Scan(&now.WAL); err != nil {
		return err
	}
	shards, err := listShards(ctx, tx)
	if err != nil {
		return err
	}
	held := 0
	for i := range shards {
		o, err := s.askShard(ctx, tx, &shards[i], s.wal[r.Database], now)
		if err != nil {
			return err
		}
		r.WALBytesPerSecond = o.Rate
		if shards[i].locked {
			held++
		}
	}
	var relays int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = left($1 || '_guard', 63)`,
		shards[0].relay).Scan(&relays); err != nil {
		return err
	}
	r.Standbys = max(0, relays-held)
	r.sumUp(shards)
	return nil
}

// listShards lists all slots that are known of, those being served first.
func listShards(ctx context.Context, tx pgx.Tx) ([]ShardStatus, error) {
	rows, err := tx.Query(ctx, `SELECT slot, relay, state, first_bucket || '-' || last_bucket FROM shards
		ORDER BY array_position(ARRAY['serving', 'coming', 'leaving'], state), relay, first_bucket`)
	if err != nil {
		return nil, err
	}
	shards, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s ShardStatus, err error) {
		return s, row.Scan(&s.Slot, &s.relay, &s.Place, &s.Buckets)
	})
	if err != nil || len(shards) > 0 {
		return shards, err
	}
	var database string
	one := ShardStatus{Place: ShardServing, Buckets: fmt.Sprintf("0-%d", schema.Buckets-1)}
	err = tx.QueryRow(ctx, `SELECT current_database(), coalesce((SELECT slot FROM watermarks ORDER BY recorded_at DESC LIMIT 1), '')`).Scan(&database, &one.Slot)
	if one.Slot == "" {
		one.Slot = schema.SlotName(database)
	}
	one.relay = one.Slot
	return []ShardStatus{one}, err
}

// askShard asks for a slot. All that are asked for at one moment share now, so that budget
// measures that moment once.
func (s *Status) askShard(ctx context.Context, tx pgx.Tx, r *ShardStatus, budget *schema.WALBudget, now schema.SlotSample) (schema.SlotOutlook, error) {
	var streaming bool
	err := tx.QueryRow(ctx, `SELECT coalesce(s.active, false), coalesce(s.wal_status, CASE WHEN s.slot_name IS NULL THEN 'missing' ELSE 'lost' END),
			coalesce(s.confirmed_flush_lsn, '0/0')::text, coalesce(s.restart_lsn, '0/0')::text,
			coalesce(s.confirmed_flush_lsn - '0/0', 0), coalesce(s.restart_lsn - '0/0', 0), s.safe_wal_size,
			coalesce(w.sweep, ''), extract(epoch FROM clock_timestamp() - w.recorded_at)::float8,
			EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
				WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
				AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('restock:relay:' || $1, 0))
		FROM (SELECT) AS one
		LEFT JOIN pg_replication_slots s ON s.slot_name = $1
		LEFT JOIN watermarks w ON w.slot = $1`, r.Slot).
		Scan(&streaming, &r.SlotState, &r.Confirmed, &r.Restart, &now.Confirmed, &now.Restart, &now.Safe, &r.Sweep, &r.quiet, &r.locked)
	if err != nil {
		return schema.SlotOutlook{}, err
	}
	switch {
	case streaming:
		r.State = RelayActive
	case r.locked && r.Sweep != "":
		r.State = RelaySweeping
	case r.locked:
		r.State = RelayStarting
	default:
		r.State = RelayNone
	}
	now.Status = r.SlotState
	o := budget.Foresee(now)
	r.LagBytes, r.RetainedBytes = o.Lag, o.Retained
	if !math.IsInf(o.Bytes, 1) {
		bytes := int64(o.Bytes)
		r.LeftBytes = &bytes
	}
	if o.Left != schema.Forever {
		seconds := o.Left.Seconds()
		r.LeftSeconds = &seconds
	}
	return o, nil
}

// Worse ones come first.
var (
	relayStates = []string{RelayNone, RelayStarting, RelaySweeping, RelayActive}
	slotStates  = []string{"missing", "lost", "unreserved", "extended", "reserved"}
)

// worse is the one of two that comes first in order.
func worse(order []string, a, b string) string {
	if slices.Index(order, a) <= slices.Index(order, b) {
		return a
	}
	return b
}

// sumUp takes the worst of each: of what relays do, among the shards that are served; of
// the WAL that is kept, among all.
func (s *RelayStatus) sumUp(shards []ShardStatus) {
	first := shards[0]
	s.Slot, s.State, s.SlotState, s.Sweep, s.QuietSeconds = first.Slot, first.State, first.SlotState, first.Sweep, first.quiet
	s.Confirmed, s.Restart, s.LagBytes, s.RetainedBytes, s.LeftBytes, s.LeftSeconds = first.Confirmed, first.Restart, first.LagBytes, first.RetainedBytes, first.LeftBytes, first.LeftSeconds
	if len(shards) == 1 {
		return
	}
	s.Slot, s.Shards = first.relay, shards
	for _, shard := range shards[1:] {
		s.SlotState = worse(slotStates, s.SlotState, shard.SlotState)
		if shard.RetainedBytes > s.RetainedBytes {
			s.RetainedBytes, s.Restart = shard.RetainedBytes, shard.Restart
		}
		s.LeftBytes, s.LeftSeconds = least(s.LeftBytes, shard.LeftBytes), least(s.LeftSeconds, shard.LeftSeconds)
		if shard.Place != ShardServing {
			continue
		}
		s.State = worse(relayStates, s.State, shard.State)
		if shard.LagBytes > s.LagBytes {
			s.LagBytes, s.Confirmed = shard.LagBytes, shard.Confirmed
		}
		if s.Sweep == "" {
			s.Sweep = shard.Sweep
		}
		s.QuietSeconds = least(s.QuietSeconds, shard.quiet)
	}
}

// least is the lesser of two, where nil is none.
func least[T int64 | float64](a, b *T) *T {
	if a == nil || b != nil && *b < *a {
		return b
	}
	return a
}
