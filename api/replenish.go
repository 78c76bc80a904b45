package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

// opening is a replenishment to be opened for a checkout that found a product short
// and none open. Its ids are made before the transaction.
type opening struct {
	id, event uuid.UUID
	sku       string
	asked     int
	trace     traceparent
}

// open opens a replenishment, if under the product's lock one is still due. It says
// nothing of the checkout, which is decided again after it.
func (s *store) open(ctx context.Context, o opening) error {
	opened := false
	err := s.attempt(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		return s.transaction(ctx, conn, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			opened, err = s.openLocked(ctx, tx, o)
			return err
		})
	})
	var unsure *unsureError
	switch {
	case errors.As(err, &unsure) && opened:
		err = s.findReplenishment(ctx, o, unsure)
	case errors.As(err, &unsure): // nothing was written
		err = nil
	case lostOpening(err):
		opened, err = false, nil
	}
	if err != nil {
		return fmt.Errorf("open a replenishment of %s: %w", o.sku, err)
	}
	if opened {
		s.metrics.replenishments.Inc()
	}
	return nil
}

func (s *store) openLocked(ctx context.Context, tx pgx.Tx, o opening) (bool, error) {
	var (
		product             schema.ReplenishmentRequested
		reorder, mostAtOnce int
	)
	err := tx.QueryRow(ctx, `
		SELECT sku, name, stock, factory_id, manager_email, reorder_quantity, max_replenishment
		  FROM products WHERE sku = $1 FOR UPDATE`, o.sku).
		Scan(&product.SKU, &product.ProductName, &product.RemainingStock, &product.FactoryID, &product.Requester, &reorder, &mostAtOnce)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("lock the product: %w", err)
	case product.RemainingStock >= int64(o.asked):
		return false, nil
	}
	standing, err := standingReplenishment(ctx, tx, o.sku, s.cooldown)
	if err != nil || standing != nil {
		return false, err
	}
	quantity := min(max(o.asked, reorder), mostAtOnce)
	product.ReplenishmentID = o.id
	product.Quantity = int64(quantity)
	product.CallbackURL = s.signer.callbackURL(o.id, o.sku, quantity)
	return true, insertReplenishment(ctx, tx, o, product)
}

// standingReplenishment is the one that a failing checkout is told of, nil
// where a new one is due.
func standingReplenishment(ctx context.Context, tx pgx.Tx, sku string, cooldown time.Duration) (*uuid.UUID, error) {
	var id *uuid.UUID
	if err := tx.QueryRow(ctx, `SELECT standing_replenishment($1, $2)`, sku, cooldown).Scan(&id); err != nil {
		return nil, fmt.Errorf("look for an open replenishment: %w", err)
	}
	return id, nil
}

func insertReplenishment(ctx context.Context, tx pgx.Tx, o opening, asked schema.ReplenishmentRequested) error {
	event, err := schema.New(o.event, asked, string(o.trace))
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO replenishments (id, sku, quantity, event_id) VALUES ($1, $2, $3, $4)`,
		asked.ReplenishmentID, asked.SKU, asked.Quantity, event.ID)
	if err != nil {
		return fmt.Errorf("insert the replenishment: %w", err)
	}
	return schema.Append(ctx, tx, event)
}

// lostOpening tells that somebody else opened one first. Under the product's
// lock that can only be an operator's hand.
func lostOpening(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505" && pg.ConstraintName == "replenishments_open"
}

// findReplenishment looks for an opening whose COMMIT got no answer. No order was
// placed in any case, so where it is not found the checkout can safely be sent again.
func (s *store) findReplenishment(ctx context.Context, o opening, unsure *unsureError) error {
	err := s.lookUp(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT FROM replenishments WHERE id = $1`, o.id).Scan()
	})
	s.countAmbiguous("replenishment", err == nil)
	if err != nil {
		return errors.Join(unsure, err)
	}
	return nil
}
