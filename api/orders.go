package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// placedOrder is an order as it is shown, with items in place of sku and
// remainingStock where it has several products. The customer is not: whoever knows
// an order's id may ask.
type placedOrder struct {
	OrderID        uuid.UUID       `json:"orderId"`
	SKU            *string         `json:"sku,omitempty"`
	Quantity       int             `json:"quantity"`
	RemainingStock *int64          `json:"remainingStock,omitempty"` // right after this order
	Items          []purchasedItem `json:"items,omitempty"`
	CreatedAt      time.Time       `json:"createdAt"`
}

func (a *API) order(c *call) (any, error) {
	id, ok := pathID(c.r)
	if !ok {
		return nil, notFound(sayUnknownOrder)
	}
	c.about("order_id", id)
	return a.store.order(c.r.Context(), id)
}

func (s *store) order(ctx context.Context, id uuid.UUID) (placedOrder, error) {
	o := placedOrder{OrderID: id}
	err := s.attempt(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		err := conn.QueryRow(ctx, `SELECT sku, quantity, remaining_stock, created_at FROM orders WHERE id = $1`, id).
			Scan(&o.SKU, &o.Quantity, &o.RemainingStock, &o.CreatedAt)
		if err != nil || o.SKU != nil {
			return err
		}
		rows, err := conn.Query(ctx, `SELECT sku, quantity, remaining_stock FROM order_lines WHERE order_id = $1 ORDER BY place`, id)
		if err != nil {
			return err
		}
		o.Items, err = pgx.CollectRows(rows, pgx.RowToStructByPos[purchasedItem])
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return o, notFound(sayUnknownOrder)
	}
	if err != nil {
		return o, fmt.Errorf("read order %s: %w", id, err)
	}
	o.CreatedAt = o.CreatedAt.UTC()
	return o, nil
}

// pathID reads the path's id in its one canonical form.
func pathID(r *http.Request) (uuid.UUID, bool) {
	id, err := uuid.Parse(r.PathValue("id"))
	return id, err == nil && id.String() == r.PathValue("id")
}
