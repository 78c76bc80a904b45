package ops

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Skip gives parked events up: they are never published. Why is kept with them. A
// group of which nothing is left parked goes on. It returns the events that it
// skipped; what is being sent is not skipped any more, and is an error, as is more than
// s.Seen. But what the outbox does not hold cannot be sent, and may be skipped meanwhile.
func (p *Parked) Skip(ctx context.Context, s ParkedSelection, why string) ([]uuid.UUID, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("skip what is parked: %w", err)
	}
	if why == "" {
		return nil, fmt.Errorf("skip what is parked: %w", ErrReason)
	}
	var skipped []uuid.UUID
	err := pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error {
		events, groups, err := s.choose(ctx, tx, true)
		if err != nil {
			return err
		}
		if err := refuseSending(ctx, tx, events, groups); err != nil {
			return err
		}
		if len(events) == 0 {
			return ErrNotParked
		}
		if s.Seen > 0 && len(events) > s.Seen {
			return refuse("%d events are parked of it now, and %d were seen: look again", len(events), s.Seen)
		}
		skipped, err = p.giveUp(ctx, tx, events, why)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("skip what is parked: %w", err)
	}
	p.log.Warn().Int("events", len(skipped)).Str("by", p.by).Str("reason", why).Msg("parked events skipped")
	return skipped, nil
}

// refuseSending refuses groups that are being sent, but those of which only events are
// chosen that the outbox does not hold.
func refuseSending(ctx context.Context, tx pgx.Tx, events []chosenParked, groups map[string]bool) error {
	chosen := make(map[string]bool)
	var days []time.Time
	var ids []uuid.UUID
	for _, e := range events {
		if groups[e.Group] {
			chosen[e.Group] = true
			days, ids = append(days, e.Day), append(ids, e.Event)
		}
	}
	for group, sending := range groups {
		if sending && !chosen[group] {
			return refuse("group %s is being sent", group)
		}
	}
	var group *string
	err := tx.QueryRow(ctx, `SELECT min(o.message_group) FROM unnest($1::date[], $2::uuid[]) AS r (day, event_id)
		JOIN outbox o ON o.day = r.day AND o.id = r.event_id`, days, ids).Scan(&group)
	if err == nil && group != nil {
		err = refuse("group %s is being sent", *group)
	}
	return err
}

func (p *Parked) giveUp(ctx context.Context, tx pgx.Tx, events []chosenParked, why string) ([]uuid.UUID, error) {
	var days []time.Time
	var ids []uuid.UUID
	var groups []string
	for _, e := range events {
		days, ids, groups = append(days, e.Day), append(ids, e.Event), append(groups, e.Group)
	}
	_, err := tx.Exec(ctx, `UPDATE parked p SET state = 'skipped', asked_by = $3, asked_at = now(), resolved_at = now(), note = $4
		FROM unnest($1::date[], $2::uuid[]) AS r (day, event_id) WHERE p.day = r.day AND p.event_id = r.event_id`, days, ids, p.by, why)
	if err != nil {
		return nil, err
	}
	// Released by nothing being left to send: only the relay knows what else of the
	// group it has in hand.
	_, err = tx.Exec(ctx, `UPDATE parked_groups g SET state = 'sending', asked_by = $2, asked_at = now()
		WHERE g.message_group = ANY($1) AND g.state = 'parked'
		AND NOT EXISTS (SELECT FROM parked p WHERE p.message_group = g.message_group AND p.state = 'parked' AND p.reason = 'held')`, groups, p.by)
	return ids, err
}
