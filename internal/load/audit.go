package load

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Audit is what the database says after a run.
type Audit struct {
	Orders    int  `json:"orders"`    // that were answered with 200
	Missing   int  `json:"missing"`   // of them are not there
	Doubled   int  `json:"doubled"`   // more than one for a checkout of the run, answered or not
	Eventless int  `json:"eventless"` // orders since the beginning of the run without their event
	Conserved bool `json:"conserved"` // sold and left is initial and delivered, of every product, and nothing else is sold
}

// OK tells whether all is as promised.
func (a Audit) OK() bool { return a.Missing == 0 && a.Doubled == 0 && a.Eventless == 0 && a.Conserved }

// Since is the database's clock, for an audit after what follows.
func Since(ctx context.Context, conn *pgx.Conn) (now time.Time, err error) {
	if err = conn.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		err = fmt.Errorf("read the database's clock: %w", err)
	}
	return now, err
}

// Look audits the orders that a run was told of, and those of its customers. Whoever else
// buys is audited too.
func Look(ctx context.Context, conn *pgx.Conn, since time.Time, customers string, orders []uuid.UUID) (Audit, error) {
	a := Audit{Orders: len(orders)}
	there := 0
	// An order that two answers name is that of one of them.
	names := slices.Clone(orders)
	slices.SortFunc(names, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	for some := range slices.Chunk(slices.Compact(names), 10_000) {
		var n int
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM orders WHERE id = ANY($1)`, some).Scan(&n); err != nil {
			return a, fmt.Errorf("look for the orders: %w", err)
		}
		there += n
	}
	a.Missing = len(orders) - there
	err := conn.QueryRow(ctx, `SELECT count(*) - count(DISTINCT customer_id) FROM orders WHERE created_at >= $1 AND starts_with(customer_id, $2)`,
		since, customers).Scan(&a.Doubled)
	if err != nil {
		return a, fmt.Errorf("look for a second order of a checkout: %w", err)
	}
	// Stock and lines in one snapshot, so that others may go on buying.
	err = conn.QueryRow(ctx, `SELECT coalesce(bool_and(coalesce(p.stock + coalesce(o.sold, 0) = p.initial_stock + coalesce(r.delivered, 0), false)), true)
		FROM products p FULL JOIN (SELECT sku, sum(quantity) AS sold FROM all_order_lines GROUP BY 1) o USING (sku)
		LEFT JOIN (SELECT sku, sum(delivered_quantity) AS delivered FROM replenishments GROUP BY 1) r USING (sku)`).Scan(&a.Conserved)
	if err != nil {
		return a, fmt.Errorf("add up the stock: %w", err)
	}
	err = conn.QueryRow(ctx, `SELECT count(*) FROM orders o WHERE o.created_at >= $1 AND NOT EXISTS (
		SELECT FROM (SELECT (body::jsonb -> 'data' ->> 'orderId')::uuid AS id FROM outbox WHERE type = 'order.placed' AND created_at >= $1 AND day >= ($1 AT TIME ZONE 'UTC')::date) e
		 WHERE e.id = o.id)`, since).Scan(&a.Eventless)
	if err != nil {
		return a, fmt.Errorf("hold orders against their events: %w", err)
	}
	return a, nil
}
