package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

// purchase is a checkout as it goes to the database: every id is made before,
// so that a retry carries the same ones.
type purchase struct {
	checkoutRequest

	order  uuid.UUID
	placed schema.Event
	// Of placed, made by the request and not by the one goroutine that all wait for:
	attributes string // as JSON
	bucket     int16

	trace  traceparent
	locale locale
	key    *key // nil is none
}

// buyer is null where the customer is anonymous.
func (p *purchase) buyer() pgtype.Text {
	return pgtype.Text{String: p.customer, Valid: p.customer != ""}
}

func newPurchase(req checkoutRequest, trace traceparent) (*purchase, error) {
	p := &purchase{checkoutRequest: req, order: schema.NewID(), trace: trace}
	placed := schema.OrderPlaced{OrderID: p.order, CustomerID: req.customer, Quantity: int64(req.units())}
	for _, l := range req.lines {
		placed.Lines = append(placed.Lines, schema.Line{SKU: l.sku, Quantity: int64(l.quantity)})
	}
	var err error
	if p.placed, err = schema.New(schema.NewID(), placed, string(trace)); err != nil {
		return nil, err
	}
	p.attributes, p.bucket = p.placed.AttributesJSON(), int16(schema.Bucket(p.placed.Group))
	return p, nil
}

// isScalar tells whether the SQL function checkout_alone can decide p, which takes less
// than checkout_batch does for a single one.
func (p *purchase) isScalar() bool { return p.key == nil && len(p.lines) == 1 }

// What the SQL functions checkout_alone and checkout_batch decide.
const (
	decidedBought     = "bought"
	decidedShort      = "short"
	decidedDepleted   = "depleted"
	decidedUnknown    = "unknown"
	decidedOverLimit  = "over-limit"
	decidedRepeated   = "repeated"
	decidedMismatch   = "mismatch"
	decidedInProgress = "in-progress"
)

// decision is the outcome of a checkout.
type decision struct {
	outcome string
	lines   []lineDecision // as those of the purchase; of bought, short and depleted
	fault   int            // the line that is unknown or over its limit
	limit   int            // of over-limit
	answer  *keptAnswer    // that is kept under the purchase's key
}

// lineDecision is what a decision says of one line.
type lineDecision struct {
	remaining     int64
	short         bool
	replenishment uuid.UUID // of a line that is short; of depleted it may be missing
}

const sqlCheckout = `SELECT outcome, remaining, replenishment, max_quantity
  FROM checkout_alone($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`

// decide is one round trip and one transaction.
func (s *store) decide(ctx context.Context, p *purchase) (decision, error) {
	args := []any{
		p.order, p.lines[0].sku, p.lines[0].quantity, p.buyer(), s.cooldown,
		p.placed.ID, p.placed.Type, p.placed.Group, p.bucket, p.attributes, p.placed.Body, string(p.trace),
	}
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
		outcome       string
		remaining     pgtype.Int8
		replenishment pgtype.UUID
		most          pgtype.Int4
	)
	if err := row.Scan(&outcome, &remaining, &replenishment, &most); err != nil {
		return decision{}, err
	}
	line := lineDecision{remaining: remaining.Int64, short: outcome == decidedShort || outcome == decidedDepleted, replenishment: replenishment.Bytes}
	return decision{outcome: outcome, lines: []lineDecision{line}, limit: int(most.Int32)}, nil
}

// findOrder answers for a checkout whose COMMIT got no answer. An order that is
// there is a purchase. One that is not may still be on its way, so it is unknown.
func (s *store) findOrder(ctx context.Context, p *purchase, unsure *unsureError) (decision, error) {
	var line lineDecision
	err := s.lookUp(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT remaining_stock FROM orders WHERE id = $1`, p.order).Scan(&line.remaining)
	})
	s.countAmbiguous("checkout", err == nil)
	if err != nil {
		return decision{}, outcomeUnknown(p.order, errors.Join(unsure, err))
	}
	return decision{outcome: decidedBought, lines: []lineDecision{line}}, nil
}

func (s *store) countAmbiguous(operation string, found bool) {
	label := "no"
	if found {
		label = "yes"
	}
	s.metrics.ambiguous.WithLabelValues(operation, label).Inc()
}
