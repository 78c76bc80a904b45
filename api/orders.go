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

// placedOrder is an order as it is shown. The customer is not: whoever knows an order's
// id may ask.
type placedOrder struct {
	OrderID        uuid.UUID `json:"orderId"`
	SKU            string    `json:"sku"`
	Quantity       int       `json:"quantity"`
	RemainingStock int64     `json:"remainingStock"` // right after this order
	CreatedAt      time.Time `json:"createdAt"`
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
		return conn.QueryRow(ctx, `SELECT sku, quantity, remaining_stock, created_at FROM orders WHERE id = $1`, id).
			Scan(&o.SKU, &o.Quantity, &o.RemainingStock, &o.CreatedAt)
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
