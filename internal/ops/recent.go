package ops

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// RecentEvent is one of the newest events of an outbox.
type RecentEvent struct {
	Database    string     `json:"database"`
	EventID     uuid.UUID  `json:"eventId"`
	Type        string     `json:"type"`
	Group       string     `json:"group"`
	Sequence    int64      `json:"sequence"`
	CommittedAt time.Time  `json:"committedAt"`
	State       string     `json:"state"` // waiting, published or parked
	PublishedAt *time.Time `json:"publishedAt,omitempty"`
}

// Recent lists the newest events of the outboxes, the newest first, by the time in their
// ids: what it reads does not grow with the outboxes.
func (t *Tracer) Recent(ctx context.Context, most int) ([]RecentEvent, error) {
	all := []RecentEvent{}
	for _, side := range t.sides {
		rows, err := side.pool.Query(ctx, `SELECT $2::text, o.id, o.type, o.message_group, o.seq, o.created_at, coalesce(l.outcome, 'waiting'),
				CASE WHEN l.outcome = 'published' THEN l.published_at END
			FROM (SELECT day, id, type, message_group, seq, created_at FROM outbox ORDER BY day DESC, id DESC LIMIT $1) o
			LEFT JOIN ledger l ON l.day = o.day AND l.event_id = o.id ORDER BY o.day DESC, o.id DESC`, most, side.database)
		if err != nil {
			return nil, fmt.Errorf("list the newest events of the %s database: %w", side.database, err)
		}
		events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RecentEvent])
		if err != nil {
			return nil, fmt.Errorf("list the newest events of the %s database: %w", side.database, err)
		}
		all = append(all, events...)
	}
	slices.SortStableFunc(all, func(a, b RecentEvent) int { return b.CommittedAt.Compare(a.CommittedAt) })
	return all[:min(most, len(all))], nil
}
