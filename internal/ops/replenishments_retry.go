package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/schema"
)

// Retry asks the factory once more for an open replenishment, by the very event that
// asked before: the same Idempotency-Key, the same callback.
//
// A factory that honours the key makes nothing twice. One that ignores it may make it
// twice; the stock still rises once, because the first callback closes the
// replenishment and the second changes nothing. So one that is accepted, and was never
// delivered, becomes requested again, and what the factory answers now is what counts.
//
// It commits before it sends. Where that was cut off, the replenishment is requested
// and waits: run it again.
func (r *Replenishments) Retry(ctx context.Context, id uuid.UUID, reason string) error {
	var l *letter
	var redrive schema.Redrive
	err := pgx.BeginFunc(ctx, r.db, func(tx pgx.Tx) error {
		replayed, err := lockFactory(ctx, tx, id)
		if err != nil {
			return err
		}
		o, err := r.act(ctx, tx, id, "retry", reason)
		if err != nil {
			return err
		}
		redrive = schema.Redrive{ID: uuid.New(), EventID: o.event, Day: utcDay(o.requestedAt)}
		if l, err = readLetter(ctx, tx, redrive, replayed); err != nil {
			return err
		}
		if !replayed {
			err = again(ctx, tx, redrive)
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE replenishments SET state = 'requested', production_id = NULL, accepted_at = NULL WHERE id = $1`, id)
		return err
	})
	if err == nil {
		err = r.queue.send(ctx, l, redrive.DeduplicationID())
	}
	if err != nil {
		return fmt.Errorf("retry replenishment %s: %w", id, err)
	}
	r.log.Warn().Stringer("replenishment_id", id).Stringer("event_id", redrive.EventID).Str("by", r.by).Str("reason", reason).Msg("replenishment asked for again")
	return nil
}

// lockFactory holds the factory's consumer off, unless it is at it, and tells whether it
// handled the event as one of a replay. The inbox is locked before the replenishment, as
// the consumer does.
func lockFactory(ctx context.Context, tx pgx.Tx, id uuid.UUID) (replayed bool, err error) {
	var busy time.Duration
	err = tx.QueryRow(ctx, `SELECT coalesce(max(lease_until) - now(), interval '0'), coalesce(bool_or(state = 'done' AND replay_id <> $3), false) FROM (
		SELECT replay_id, state, lease_until FROM inbox
		WHERE consumer = $2 AND (day, event_id) = (SELECT (requested_at AT TIME ZONE 'UTC')::date, event_id FROM replenishments WHERE id = $1)
		FOR UPDATE) AS rows`, id, schema.ConsumerFactory, uuid.Nil).Scan(&busy, &replayed)
	switch {
	case err != nil:
		return false, fmt.Errorf("look into the inbox of %s: %w", schema.ConsumerFactory, err)
	case busy > 0:
		return false, refuse("the factory is being asked at this moment: try again in %s", busy.Round(time.Second))
	}
	return replayed, nil
}

// again lets the factory's consumer handle the event once more.
func again(ctx context.Context, tx pgx.Tx, d schema.Redrive) error {
	_, err := tx.Exec(ctx, `UPDATE inbox SET state = 'failed', attempt = 0, redrive_id = $5, updated_at = now()
		WHERE day = $1 AND consumer = $2 AND event_id = $3 AND replay_id = $4 AND state <> 'claimed'`, d.Day, schema.ConsumerFactory, d.EventID, uuid.Nil, d.ID)
	if err != nil {
		return fmt.Errorf("revive event %s in the inbox of %s: %w", d.EventID, schema.ConsumerFactory, err)
	}
	return nil
}

// readLetter makes the message of an event, in the envelope in which SNS delivers it
// to the factory's queue. What was handled as one of a replay goes as another that is
// forced: the inbox lets it through under no other name.
func readLetter(ctx context.Context, tx pgx.Tx, d schema.Redrive, replayed bool) (*letter, error) {
	day, event := d.Day, d.EventID
	var group, subject, body, outcome string
	var skipped bool
	var seq int64
	var attributes map[string]schema.Attribute
	err := tx.QueryRow(ctx, `SELECT o.message_group, coalesce(o.subject, ''), o.body, o.seq, o.attributes, coalesce(l.outcome, ''),
			EXISTS (SELECT FROM parked p WHERE p.day = o.day AND p.event_id = o.id AND p.state = 'skipped')
		FROM outbox o LEFT JOIN ledger l ON l.day = o.day AND l.event_id = o.id WHERE o.day = $1 AND o.id = $2`, day, event).
		Scan(&group, &subject, &body, &seq, &attributes, &outcome, &skipped)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, refuse("its event %s is past retention: cancel it, and the next checkout that fails opens another", event)
	case err != nil:
		return nil, fmt.Errorf("look into the outbox: %w", err)
	case outcome == "parked" && skipped:
		return nil, refuse("its event %s was skipped: cancel it, and the next checkout that fails opens another", event)
	case outcome == "parked":
		return nil, refuse("its event is parked: restock parked send %s", event)
	case outcome == "":
		return nil, refuse("its event %s is not published yet: see restock status, and restock reconcile", event)
	}
	if body, err = schema.WithSequence(body, seq); err != nil {
		return nil, fmt.Errorf("its event %s cannot be read: %w", event, err)
	}
	if replayed {
		again := schema.Replay{ID: d.ID, Consumer: schema.ConsumerFactory, Force: true}
		attributes[schema.ReplayAttribute] = schema.Attribute{Type: "String", Value: again.String()}
	}
	text, err := json.Marshal(map[string]any{
		"Type": "Notification", "MessageId": uuid.NewString(), "Subject": subject, "Message": body,
		"Timestamp": time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), "MessageAttributes": envelopeAttributes(attributes),
	})
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", event, err)
	}
	return &letter{group: group, body: string(text)}, nil
}

// envelopeAttributes are attributes as they stand in SNS's envelope.
func envelopeAttributes(attributes map[string]schema.Attribute) map[string]any {
	all := make(map[string]any, len(attributes))
	for name, a := range attributes {
		all[name] = map[string]string{"Type": a.Type, "Value": a.Value}
	}
	return all
}
