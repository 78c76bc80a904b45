package ops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
)

// Replenishment is one order to the factory.
type Replenishment struct {
	ID           uuid.UUID  `json:"id"`
	SKU          string     `json:"sku"`
	Quantity     int        `json:"quantity"`
	State        string     `json:"state"`
	EventID      uuid.UUID  `json:"eventId"` // that asks the factory
	ProductionID string     `json:"productionId,omitempty"`
	Refusal      string     `json:"refusal,omitempty"`
	Delivered    int        `json:"delivered,omitempty"` // units
	RequestedAt  time.Time  `json:"requestedAt"`
	AcceptedAt   *time.Time `json:"acceptedAt,omitempty"`
	DeliveredAt  *time.Time `json:"deliveredAt,omitempty"`
	ClosedAt     *time.Time `json:"closedAt,omitempty"`
}

const replenishmentColumns = `r.id, r.sku, r.quantity, r.state, r.event_id, coalesce(r.production_id, ''), coalesce(r.refusal, ''), coalesce(r.delivered_quantity, 0),
	r.requested_at, r.accepted_at, r.delivered_at, r.closed_at`

// ErrNoReplenishment is that there is none of an id.
var ErrNoReplenishment = errors.New("no replenishment has this id")

func readReplenishment(ctx context.Context, db *pgxpool.Pool, id uuid.UUID) (Replenishment, error) {
	rows, err := db.Query(ctx, `SELECT `+replenishmentColumns+` FROM replenishments r WHERE id = $1`, id)
	if err != nil {
		return Replenishment{}, fmt.Errorf("read replenishment %s: %w", id, err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Replenishment])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return r, fmt.Errorf("%s: %w", id, ErrNoReplenishment)
	case err != nil:
		return r, fmt.Errorf("read replenishment %s: %w", id, err)
	}
	return r, nil
}

// ReplenishmentAct is what a person did with one.
type ReplenishmentAct struct {
	Act          string    `json:"act"`
	Was          string    `json:"was"` // its state before
	ProductionID string    `json:"productionId,omitempty"`
	By           string    `json:"by"`
	Reason       string    `json:"reason"`
	At           time.Time `json:"at"`
}

func readActs(ctx context.Context, db *pgxpool.Pool, id uuid.UUID) ([]ReplenishmentAct, error) {
	rows, err := db.Query(ctx, `SELECT act, was, coalesce(production_id, ''), asked_by, reason, asked_at FROM replenishment_acts WHERE replenishment_id = $1 ORDER BY id`, id)
	if err != nil {
		return nil, fmt.Errorf("read what was done with replenishment %s: %w", id, err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ReplenishmentAct])
	if err != nil {
		return nil, fmt.Errorf("read what was done with replenishment %s: %w", id, err)
	}
	return all, nil
}

// Replenishments are those of a store, for one who looks after them. It is safe for
// concurrent use.
type Replenishments struct {
	db    *pgxpool.Pool
	queue *queue
	by    string
	log   zerolog.Logger
}

// NewReplenishments makes a Replenishments on the store, as schema.RoleMaintenance.
// client and factoryQueueURL are needed to retry, and may be left out else. by is who
// asks, and is kept with what was done.
func NewReplenishments(store *pgxpool.Pool, client *SQS, factoryQueueURL, by string, log zerolog.Logger) *Replenishments {
	return &Replenishments{store, &queue{client, factoryQueueURL}, by, log}
}

// OpenReplenishment is one that is waited for, with how far it has come.
type OpenReplenishment struct {
	Replenishment

	Factory string `json:"factory"` // the state of its event in the factory's inbox, empty: not received
	Error   string `json:"error,omitempty"`
	Acts    int    `json:"acts"` // what people did with it
}

// List lists the replenishments that are open for at least as long, the oldest first.
func (r *Replenishments) List(ctx context.Context, openFor time.Duration, c Cursor) (Page[OpenReplenishment], error) {
	var since *time.Time
	var after *uuid.UUID
	if err := c.read(&since, &after); err != nil {
		return Page[OpenReplenishment]{}, err
	}
	rows, err := r.db.Query(ctx, `SELECT `+replenishmentColumns+`, coalesce(i.state, ''), coalesce(i.last_error, ''),
			(SELECT count(*) FROM replenishment_acts a WHERE a.replenishment_id = r.id)
		FROM replenishments r LEFT JOIN LATERAL (SELECT state, last_error FROM inbox i WHERE i.day = (r.requested_at AT TIME ZONE 'UTC')::date
			AND i.consumer = 'factory' AND i.event_id = r.event_id ORDER BY updated_at DESC LIMIT 1) i ON true
		WHERE r.state IN ('requested', 'accepted') AND r.requested_at <= now() - $1::interval
			AND ($2::timestamptz IS NULL OR (r.requested_at, r.id) > ($2, $3)) ORDER BY r.requested_at, r.id LIMIT $4`, openFor, since, after, c.Most+1)
	if err != nil {
		return Page[OpenReplenishment]{}, fmt.Errorf("list the open replenishments: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o OpenReplenishment, err error) {
		err = row.Scan(&o.ID, &o.SKU, &o.Quantity, &o.State, &o.EventID, &o.ProductionID, &o.Refusal, &o.Delivered,
			&o.RequestedAt, &o.AcceptedAt, &o.DeliveredAt, &o.ClosedAt, &o.Factory, &o.Error, &o.Acts)
		return o, err
	})
	if err != nil {
		return Page[OpenReplenishment]{}, fmt.Errorf("list the open replenishments: %w", err)
	}
	return pageOf(all, c.Most, func(o OpenReplenishment) []any { return []any{o.RequestedAt, o.ID} }), nil
}

// Cancel gives an open replenishment up, which lets its product ask again. The factory
// is told nothing: should it deliver all the same, that still raises the stock, once.
func (r *Replenishments) Cancel(ctx context.Context, id uuid.UUID, reason string) error {
	err := pgx.BeginFunc(ctx, r.db, func(tx pgx.Tx) error {
		if _, err := r.act(ctx, tx, id, "cancel", reason); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE replenishments SET state = 'cancelled', closed_at = now() WHERE id = $1`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("cancel replenishment %s: %w", id, err)
	}
	r.log.Warn().Stringer("replenishment_id", id).Str("by", r.by).Str("reason", reason).Msg("replenishment cancelled")
	return nil
}

// openOne is what an act changes.
type openOne struct {
	state       string
	event       uuid.UUID
	requestedAt time.Time
}

// act locks an open replenishment and notes what is done with it.
func (r *Replenishments) act(ctx context.Context, tx pgx.Tx, id uuid.UUID, act, reason string) (openOne, error) {
	var o openOne
	var production *string
	if reason == "" {
		return o, ErrReason
	}
	err := tx.QueryRow(ctx, `SELECT state, event_id, requested_at, production_id FROM replenishments WHERE id = $1 FOR UPDATE`, id).
		Scan(&o.state, &o.event, &o.requestedAt, &production)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return o, ErrNoReplenishment
	case err != nil:
		return o, err
	case o.state != "requested" && o.state != "accepted":
		return o, refuse("it is %s, and not open any more: the next checkout that fails opens another", o.state)
	}
	_, err = tx.Exec(ctx, `INSERT INTO replenishment_acts (replenishment_id, act, was, production_id, asked_by, reason) VALUES ($1, $2, $3, $4, $5, $6)`,
		id, act, o.state, production, r.by, reason)
	return o, err
}
