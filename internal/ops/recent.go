package ops

import (
	"bytes"
	"cmp"
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

	day time.Time
}

// RecentEvents is a part of the events of the outboxes that can be reached.
type RecentEvents struct {
	Page[RecentEvent]

	Unreachable []Unreachable `json:"unreachable,omitempty"`
}

// Recent lists events of the outboxes, the newest first, by the time in their ids: what it
// reads does not grow with the outboxes. Where no database can be reached the error is an
// UnreachableError.
func (t *Tracer) Recent(ctx context.Context, c Cursor) (RecentEvents, error) {
	var day *time.Time
	var id *uuid.UUID
	if err := c.read(&day, &id); err != nil {
		return RecentEvents{}, err
	}
	if len(t.sides) == 0 {
		return RecentEvents{}, &UnreachableError{t.down}
	}
	var all []RecentEvent
	for _, side := range t.sides {
		rows, err := side.pool.Query(ctx, `SELECT $2::text, o.id, o.type, o.message_group, o.seq, o.created_at, coalesce(l.outcome, 'waiting'),
				CASE WHEN l.outcome = 'published' THEN l.published_at END, o.day
			FROM (SELECT day, id, type, message_group, seq, created_at FROM outbox
				WHERE $3::date IS NULL OR day < $3 OR day = $3 AND id < $4 ORDER BY day DESC, id DESC LIMIT $1) o
			LEFT JOIN ledger l ON l.day = o.day AND l.event_id = o.id ORDER BY o.day DESC, o.id DESC`, c.Most+1, side.database, day, id)
		if err != nil {
			return RecentEvents{}, fmt.Errorf("list the newest events of the %s database: %w", side.database, err)
		}
		events, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (e RecentEvent, err error) {
			return e, r.Scan(&e.Database, &e.EventID, &e.Type, &e.Group, &e.Sequence, &e.CommittedAt, &e.State, &e.PublishedAt, &e.day)
		})
		if err != nil {
			return RecentEvents{}, fmt.Errorf("list the newest events of the %s database: %w", side.database, err)
		}
		all = append(all, events...)
	}
	slices.SortFunc(all, func(a, b RecentEvent) int {
		return cmp.Or(b.day.Compare(a.day), bytes.Compare(b.EventID[:], a.EventID[:]))
	})
	return RecentEvents{pageOf(all, c.Most, func(e RecentEvent) []any { return []any{e.day, e.EventID} }), t.down}, nil
}
