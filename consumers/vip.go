package consumers

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/internal/tracing"
	"github.com/restock-dev/restock/schema"
)

// VIPConfig is what the VIP handler needs.
type VIPConfig struct {
	// Threshold is how many units, of all lines of one order together, make its
	// customer VIP. It is to be the one that the queue's filter has: a lower one
	// there only costs work, a higher one hides orders from this handler. Default
	// schema.DefaultVIPThreshold.
	Threshold int64
}

// VIP is the handler of order.placed: an order of enough units makes its customer
// VIP. It needs a worker whose inbox is in the customers database.
//
// The promotion, the inbox row and the customer.promoted event commit in one
// transaction, so a customer is promoted once and one event tells of it, however
// often an order arrives and however many arrive at once. An unknown customer is
// made, as VIP. One that is VIP already is left as it is, and nothing is told. An
// order without a customer, or of too few units, is acknowledged and ignored.
// Nobody is ever demoted.
type VIP struct{ threshold int64 }

// NewVIP makes the handler.
func NewVIP(cfg VIPConfig) (*VIP, error) {
	setDefault(&cfg.Threshold, schema.DefaultVIPThreshold)
	if cfg.Threshold < 1 {
		return nil, fmt.Errorf("VIP threshold %d: at least 1 unit is needed", cfg.Threshold)
	}
	return &VIP{threshold: cfg.Threshold}, nil
}

// Longest is nothing: it calls nobody.
func (v *VIP) Longest() time.Duration { return 0 }

// Handle decides whether d's order is one that promotes. Whether its customer is
// still to be promoted is decided in the transaction that records it.
func (v *VIP) Handle(ctx context.Context, d Delivery) (Effect, error) {
	order, ok := d.Payload.(schema.OrderPlaced)
	switch {
	case !ok:
		return Effect{}, Permanent(fmt.Errorf("%s is no event for vip", d.Event.Type))
	case order.Quantity < v.threshold:
		return Effect{Reference: fmt.Sprintf("ignored: %d units, and %d make VIP", order.Quantity, v.threshold)}, nil
	case order.CustomerID == "":
		return Effect{Reference: "ignored: the order has no customer"}, nil
	}
	// Made here, so that each try of the record appends the same event.
	told, err := schema.New(schema.NewID(), schema.CustomerPromoted{
		CustomerID: order.CustomerID, OrderID: order.OrderID, Quantity: order.Quantity,
	}, tracing.Current(ctx, d.Event.Traceparent))
	if err != nil {
		return Effect{}, Permanent(fmt.Errorf("tell of the promotion: %w", err))
	}
	p := &promotion{order: order, told: told}
	return Effect{Record: p.record, Found: p.found}, nil
}

// promotion is one order's, and what came of it.
type promotion struct {
	order schema.OrderPlaced
	told  schema.Event
	done  bool // by the last try of the record
}

// record promotes the customer unless somebody has already. The customer's row is
// what two orders at once meet at: the second waits for the first to commit and
// then sees a VIP.
func (p *promotion) record(ctx context.Context, tx pgx.Tx) error {
	tag, err := tx.Exec(ctx, `
		INSERT INTO customers AS c (id, type, promoted_at, promoted_by_order)
		VALUES ($1, 'vip', now(), $2)
		ON CONFLICT (id) DO UPDATE
		   SET type = 'vip', promoted_at = now(), promoted_by_order = $2
		 WHERE c.type = 'normal'`, p.order.CustomerID, p.order.OrderID)
	if err != nil {
		return fmt.Errorf("promote customer: %w", err)
	}
	p.done = tag.RowsAffected() == 1
	if !p.done {
		return nil
	}
	return schema.Append(ctx, tx, p.told)
}

// found refers to the event that tells of the promotion.
func (p *promotion) found() string {
	if p.done {
		return p.told.ID.String()
	}
	return "superseded: the customer is VIP already"
}
