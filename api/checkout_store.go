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

// maxLooks bounds how often a checkout looks again at stock that keeps changing
// between the decision and the opening of a replenishment.
const maxLooks = 8

// purchase is a checkout as it goes to the database: every id is made before,
// so that a retry carries the same ones.
type purchase struct {
	order    uuid.UUID
	sku      string
	quantity int
	customer *string // nil is anonymous
	placed   schema.Event
	trace    traceparent

	replenishment      uuid.UUID // the ids to use if this checkout opens one
	replenishmentEvent uuid.UUID
}

func newPurchase(req checkoutRequest, trace traceparent) (purchase, error) {
	p := purchase{
		order:              schema.NewID(),
		sku:                req.sku,
		quantity:           req.quantity,
		trace:              trace,
		replenishment:      schema.NewID(),
		replenishmentEvent: schema.NewID(),
	}
	if req.customer != "" {
		p.customer = &req.customer
	}
	var err error
	p.placed, err = schema.New(schema.NewID(), schema.OrderPlaced{
		OrderID:    p.order,
		CustomerID: req.customer,
		Quantity:   int64(req.quantity),
		Lines:      []schema.Line{{SKU: req.sku, Quantity: int64(req.quantity)}},
	}, string(trace))
	return p, err
}

// What the SQL function checkout decides.
const (
	decidedBought    = "bought"
	decidedShort     = "short"
	decidedDepleted  = "depleted"
	decidedUnknown   = "unknown"
	decidedOverLimit = "over-limit"
)

// decision is the outcome of a checkout.
type decision struct {
	outcome       string
	remaining     int64
	replenishment uuid.UUID // of short
	opened        bool      // short, and this checkout opened the replenishment
	maxQuantity   int       // of over-limit
}

// checkout decides p and keeps the decision. It never returns depleted, and
// short always names a replenishment.
func (s *store) checkout(ctx context.Context, p purchase) (decision, error) {
	for range maxLooks {
		d, err := s.decide(ctx, p)
		if err != nil || d.outcome != decidedDepleted {
			return d, err
		}
		d, err = s.open(ctx, p)
		if err != nil || d.outcome != decidedDepleted {
			return d, err
		}
	}
	return decision{}, errUnsettled
}

const sqlCheckout = `SELECT outcome, remaining, replenishment, max_quantity
  FROM checkout($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`

// decide is one round trip and one transaction.
func (s *store) decide(ctx context.Context, p purchase) (decision, error) {
	args := append([]any{p.order, p.sku, p.quantity, p.customer, s.cooldown}, p.placed.AppendArgs()...)
	var d decision
	err := s.attempt(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		var err error
		d, err = scanDecision(conn.QueryRow(ctx, sqlCheckout, args...))
		return committed(err)
	})
	var unsure *unsureError
	if errors.As(err, &unsure) {
		return s.findOrder(ctx, p, unsure)
	}
	if err != nil {
		return decision{}, fmt.Errorf("check out %s: %w", p.order, err)
	}
	return d, nil
}

func scanDecision(row pgx.Row) (decision, error) {
	var (
		d             decision
		remaining     *int64
		replenishment *uuid.UUID
		most          *int
	)
	if err := row.Scan(&d.outcome, &remaining, &replenishment, &most); err != nil {
		return decision{}, err
	}
	if remaining != nil {
		d.remaining = *remaining
	}
	if replenishment != nil {
		d.replenishment = *replenishment
	}
	if most != nil {
		d.maxQuantity = *most
	}
	return d, nil
}

// findOrder answers for a checkout whose COMMIT got no answer. An order that is
// there is a purchase. One that is not may still be on its way, so it is unknown.
func (s *store) findOrder(ctx context.Context, p purchase, unsure *unsureError) (decision, error) {
	d := decision{outcome: decidedBought}
	err := s.lookUp(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT remaining_stock FROM orders WHERE id = $1`, p.order).Scan(&d.remaining)
	})
	s.countAmbiguous("checkout", err == nil)
	if err != nil {
		return decision{}, outcomeUnknown(p.order, errors.Join(unsure, err))
	}
	return d, nil
}

func (s *store) countAmbiguous(operation string, found bool) {
	label := "no"
	if found {
		label = "yes"
	}
	s.metrics.ambiguous.WithLabelValues(operation, label).Inc()
}

// open opens a replenishment for a checkout that found the stock short and none
// open. It looks at both again under the product's lock. Depleted now means:
// look again.
func (s *store) open(ctx context.Context, p purchase) (decision, error) {
	var d decision
	err := s.attempt(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		return s.transaction(ctx, conn, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			d, err = s.openLocked(ctx, tx, p)
			return err
		})
	})
	var unsure *unsureError
	switch {
	case errors.As(err, &unsure):
		d, err = s.findReplenishment(ctx, p, d, unsure)
	case lostOpening(err):
		return decision{outcome: decidedDepleted}, nil
	}
	if err != nil {
		return decision{}, fmt.Errorf("open a replenishment of %s: %w", p.sku, err)
	}
	if d.opened {
		s.metrics.replenishments.Inc()
	}
	return d, nil
}

func (s *store) openLocked(ctx context.Context, tx pgx.Tx, p purchase) (decision, error) {
	var (
		product             schema.ReplenishmentRequested
		reorder, mostAtOnce int
	)
	err := tx.QueryRow(ctx, `
		SELECT sku, name, stock, factory_id, manager_email, reorder_quantity, max_replenishment
		  FROM products WHERE sku = $1 FOR UPDATE`, p.sku).
		Scan(&product.SKU, &product.ProductName, &product.RemainingStock, &product.FactoryID, &product.Requester, &reorder, &mostAtOnce)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return decision{outcome: decidedUnknown}, nil
	case err != nil:
		return decision{}, fmt.Errorf("lock the product: %w", err)
	case product.RemainingStock >= int64(p.quantity):
		return decision{outcome: decidedDepleted}, nil
	}
	d := decision{outcome: decidedShort, remaining: product.RemainingStock}
	standing, err := standingReplenishment(ctx, tx, p.sku, s.cooldown)
	if err != nil {
		return decision{}, err
	}
	if standing != nil {
		d.replenishment = *standing
		return d, nil
	}
	quantity := min(max(p.quantity, reorder), mostAtOnce)
	product.ReplenishmentID = p.replenishment
	product.Quantity = int64(quantity)
	product.CallbackURL = s.signer.callbackURL(p.replenishment, p.sku, quantity)
	d.replenishment, d.opened = p.replenishment, true
	return d, insertReplenishment(ctx, tx, p, product)
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

func insertReplenishment(ctx context.Context, tx pgx.Tx, p purchase, asked schema.ReplenishmentRequested) error {
	event, err := schema.New(p.replenishmentEvent, asked, string(p.trace))
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

// findReplenishment answers for an opening whose COMMIT got no answer. No order
// was placed in any case, so where the replenishment is not found the checkout
// can safely be sent again.
func (s *store) findReplenishment(ctx context.Context, p purchase, d decision, unsure *unsureError) (decision, error) {
	if !d.opened { // nothing was written: the decision stands without its COMMIT
		return d, nil
	}
	err := s.lookUp(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT id FROM replenishments WHERE id = $1`, p.replenishment).Scan(&d.replenishment)
	})
	s.countAmbiguous("replenishment", err == nil)
	if err != nil {
		return decision{}, errors.Join(unsure, err)
	}
	return d, nil
}
