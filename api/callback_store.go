package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

// replenishment is what never changes of one, which is what a signature covers.
type replenishment struct {
	id       uuid.UUID
	sku      string
	quantity int
}

func (s *store) replenishment(ctx context.Context, id uuid.UUID) (replenishment, error) {
	r := replenishment{id: id}
	err := s.attempt(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		return conn.QueryRow(ctx, `SELECT sku, quantity FROM replenishments WHERE id = $1`, id).Scan(&r.sku, &r.quantity)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return r, notFound(sayUnknownReplenishment)
	}
	if err != nil {
		return r, fmt.Errorf("read replenishment %s: %w", id, err)
	}
	return r, nil
}

// cause is the trace context of the event that asked for a replenishment, empty where
// that has none or is past retention.
func (s *store) cause(ctx context.Context, id uuid.UUID) (string, error) {
	var cause string
	err := s.attempt(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		return conn.QueryRow(ctx, `
			SELECT coalesce(o.traceparent, '')
			  FROM replenishments r
			  LEFT JOIN outbox o ON o.day = (r.requested_at AT TIME ZONE 'UTC')::date AND o.id = r.event_id
			 WHERE r.id = $1`, id).Scan(&cause)
	})
	if err != nil {
		return "", fmt.Errorf("read the trace of replenishment %s: %w", id, err)
	}
	return cause, nil
}

// delivery is a callback that was believed.
type delivery struct {
	replenishment

	count int
	event uuid.UUID
	trace traceparent
}

// delivered is what became of a delivery.
type delivered struct {
	outcome string // outcomeDelivered, outcomeRepeated or outcomeConflict
	count   int    // what the replenishment was delivered with
	stock   int64
}

// deliver raises the stock by d, once for its replenishment, in whatever state
// that is: what the factory made is here.
func (s *store) deliver(ctx context.Context, d delivery) (delivered, error) {
	var done delivered
	err := s.attempt(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		return s.transaction(ctx, conn, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			done, err = deliverLocked(ctx, tx, d)
			return err
		})
	})
	var unsure *unsureError
	if errors.As(err, &unsure) {
		done, err = s.findDelivery(ctx, d, unsure)
	}
	if err != nil {
		return delivered{}, fmt.Errorf("deliver replenishment %s: %w", d.id, err)
	}
	return done, nil
}

func deliverLocked(ctx context.Context, tx pgx.Tx, d delivery) (delivered, error) {
	var (
		product string
		done    delivered
		before  *int
	)
	// No key changes. The ads' first row, whose foreign keys lock the replenishment
	// before the product, would else be a deadlock.
	err := tx.QueryRow(ctx, `SELECT name, stock FROM products WHERE sku = $1 FOR NO KEY UPDATE`, d.sku).Scan(&product, &done.stock)
	if err != nil {
		return done, fmt.Errorf("lock the product: %w", err)
	}
	err = tx.QueryRow(ctx, `SELECT delivered_quantity FROM replenishments WHERE id = $1 FOR NO KEY UPDATE`, d.id).Scan(&before)
	switch {
	case err != nil:
		return done, fmt.Errorf("lock the replenishment: %w", err)
	case before != nil && *before == d.count:
		done.outcome, done.count = outcomeRepeated, d.count
		return done, nil
	case before != nil:
		done.outcome, done.count = outcomeConflict, *before
		return done, keepConflict(ctx, tx, d, *before)
	}
	done.outcome, done.count = outcomeDelivered, d.count
	done.stock, err = raiseStock(ctx, tx, d)
	if err != nil {
		return done, err
	}
	event, err := schema.New(d.event, schema.StockReplenished{
		ReplenishmentID: d.id, SKU: d.sku, ProductName: product, Quantity: int64(d.count), Stock: done.stock,
	}, string(d.trace))
	if err != nil {
		return done, err
	}
	return done, schema.Append(ctx, tx, event)
}

func raiseStock(ctx context.Context, tx pgx.Tx, d delivery) (int64, error) {
	var stock int64
	err := tx.QueryRow(ctx, `UPDATE products SET stock = stock + $2 WHERE sku = $1 RETURNING stock`, d.sku, d.count).Scan(&stock)
	if err != nil {
		return 0, fmt.Errorf("raise the stock: %w", err)
	}
	// One that was refused or cancelled stopped being open before.
	_, err = tx.Exec(ctx, `
		UPDATE replenishments
		   SET state = 'delivered', delivered_quantity = $2, delivered_at = now(), closed_at = coalesce(closed_at, now())
		 WHERE id = $1`, d.id, d.count)
	if err != nil {
		return 0, fmt.Errorf("close the replenishment: %w", err)
	}
	return stock, nil
}

// keepConflict keeps each count that was stated once: a factory that sends the
// same callback for ever must not fill a table.
func keepConflict(ctx context.Context, tx pgx.Tx, d delivery, before int) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO callback_conflicts (replenishment_id, delivered_quantity, stated_quantity) VALUES ($1, $2, $3)
		ON CONFLICT (replenishment_id, stated_quantity) DO NOTHING`, d.id, before, d.count)
	if err != nil {
		return fmt.Errorf("keep the conflicting count: %w", err)
	}
	return nil
}

// findDelivery answers for a delivery whose COMMIT got no answer. Where it is
// not found the factory is asked to come back: a callback can be repeated.
func (s *store) findDelivery(ctx context.Context, d delivery, unsure *unsureError) (delivered, error) {
	done := delivered{outcome: outcomeDelivered, count: d.count}
	err := s.lookUp(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `
			SELECT p.stock FROM replenishments r JOIN products p USING (sku)
			 WHERE r.id = $1 AND r.delivered_quantity = $2`, d.id, d.count).Scan(&done.stock)
	})
	s.countAmbiguous("callback", err == nil)
	if err != nil {
		return delivered{}, errors.Join(unsure, err)
	}
	return done, nil
}
