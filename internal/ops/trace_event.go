package ops

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

// events reads events of an outbox that meet a condition, each with its way.
func (t *Tracer) events(ctx context.Context, side *traceSide, condition string, args ...any) ([]TracedEvent, error) {
	rows, err := side.pool.Query(ctx, `SELECT o.day, o.id, o.type, o.message_group, o.seq, coalesce(o.traceparent, ''), o.created_at, o.body,
			l.published_at, coalesce(l.message_id, ''), coalesce(l.sequence_number, ''), coalesce(l.outcome, '')
		FROM outbox o LEFT JOIN ledger l ON l.day = o.day AND l.event_id = o.id WHERE `+condition+` ORDER BY o.seq`, args...)
	if err != nil {
		return nil, fmt.Errorf("look into the outbox: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (TracedEvent, error) {
		e := TracedEvent{Database: side.database, Consumers: []TracedConsumer{}}
		var traceparent, body, outcome string
		var at *time.Time
		var p Publication
		err := r.Scan(&e.day, &e.EventID, &e.Type, &e.Group, &e.Sequence, &traceparent, &e.CommittedAt, &body, &at, &p.MessageID, &p.SequenceNumber, &outcome)
		e.TraceID, e.body, e.CommittedAt = schema.TraceID(traceparent), []byte(body), e.CommittedAt.UTC()
		if outcome == "published" {
			p.At = at.UTC()
			e.Published = &p
		}
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("look into the outbox: %w", err)
	}
	for i := range all {
		if err := t.complete(ctx, side, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// complete adds whether the event is or was parked, and what the consumers did.
func (t *Tracer) complete(ctx context.Context, side *traceSide, e *TracedEvent) error {
	rows, err := side.pool.Query(ctx, `SELECT `+parkedColumns+` FROM parked p LEFT JOIN outbox o ON o.day = p.day AND o.id = p.event_id
		WHERE p.day = $1 AND p.event_id = $2`, e.day, e.EventID)
	if err != nil {
		return fmt.Errorf("look whether it is parked: %w", err)
	}
	parked, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ParkedEvent])
	if err != nil {
		return fmt.Errorf("look whether it is parked: %w", err)
	}
	if len(parked) > 0 {
		e.Parked = &parked[0]
	}
	envelope, _ := schema.Decode(e.body) // a body that cannot be read is wanted by nobody
	for _, in := range schema.Interests(t.vipThreshold) {
		if (in.Consumer == schema.ConsumerMarketing) != (side.database == CustomersDatabase) {
			continue
		}
		inbox, database := t.inboxOf(in.Consumer)
		if inbox == nil {
			if named(t.down, database) != nil && in.Wants(envelope) {
				e.Consumers = append(e.Consumers, TracedConsumer{Consumer: in.Consumer, State: StateUnknown})
			}
			continue
		}
		found, err := handled(ctx, inbox, in.Consumer, e.day, e.EventID)
		if err != nil {
			return err
		}
		if len(found) == 0 && in.Wants(envelope) {
			found = []TracedConsumer{{Consumer: in.Consumer}}
		}
		e.Consumers = append(e.Consumers, found...)
	}
	return nil
}

// inboxOf is the database with a consumer's inbox, nil where it is not at hand, and its
// name.
func (t *Tracer) inboxOf(consumer string) (*pgxpool.Pool, string) {
	if consumer == schema.ConsumerVIP || consumer == schema.ConsumerMarketing {
		return t.customers, CustomersDatabase
	}
	return t.store, StoreDatabase
}

// handled is what a consumer did with an event, and with each replay of it.
func handled(ctx context.Context, inbox *pgxpool.Pool, consumer string, day time.Time, event uuid.UUID) ([]TracedConsumer, error) {
	rows, err := inbox.Query(ctx, `SELECT nullif(replay_id, $4), state, attempt, first_attempt_at, updated_at, coalesce(last_error, ''), coalesce(effect, '')
		FROM inbox WHERE day = $1 AND consumer = $2 AND event_id = $3 ORDER BY first_attempt_at, replay_id`, day, consumer, event, uuid.Nil)
	if err != nil {
		return nil, fmt.Errorf("look into the inbox of %s: %w", consumer, err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (TracedConsumer, error) {
		c := TracedConsumer{Consumer: consumer}
		err := r.Scan(&c.ReplayID, &c.State, &c.Attempts, &c.FirstAt, &c.LastAt, &c.LastError, &c.Effect)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("look into the inbox of %s: %w", consumer, err)
	}
	for i := range all {
		id := identity{event: event}
		if all[i].ReplayID != nil {
			id.replay = *all[i].ReplayID
		}
		b := books{interest: schema.Interest{Consumer: consumer}, inbox: inbox}
		if all[i].Calls, err = b.effects(ctx, id); err != nil {
			return nil, err
		}
	}
	return all, nil
}
