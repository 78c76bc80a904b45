package api

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Sizes of a page of products.
const (
	defaultPage = 100
	maxPage     = 1000
)

// offer is a product as it is shown.
type offer struct {
	SKU              string `json:"sku"`
	Name             string `json:"name"`
	Stock            int64  `json:"stock"`
	MaxOrderQuantity int    `json:"maxOrderQuantity"`
	// ReplenishmentID is the open replenishment, null where there is none.
	ReplenishmentID *uuid.UUID `json:"replenishmentId"`
}

// offers is a page of products in the order of their SKUs.
type offers struct {
	Products []offer `json:"products"`
	// Next is the after of the next page, null on the last one.
	Next *string `json:"next"`
}

func (a *API) product(c *call) (any, error) {
	sku := c.r.PathValue("sku")
	if checkSKU("sku", sku) != nil { // no product can have it
		return nil, unknownProduct()
	}
	return a.store.product(c.r.Context(), sku)
}

func (a *API) products(c *call) (any, error) {
	query := c.r.URL.Query()
	limit, err := pageSize(query)
	if err != nil {
		return nil, err
	}
	after := query.Get("after")
	if after != "" {
		if err := checkSKU("after", after); err != nil {
			return nil, err
		}
	}
	// One more than asked tells whether there is a next page.
	found, err := a.store.products(c.r.Context(), after, limit+1)
	if err != nil {
		return nil, err
	}
	page := offers{Products: found}
	if len(found) > limit {
		page.Products = found[:limit]
		page.Next = &found[limit-1].SKU
	}
	return page, nil
}

func pageSize(query url.Values) (int, error) {
	if !query.Has("limit") {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(query.Get("limit"))
	if err != nil || n < 1 || n > maxPage {
		return 0, invalidField("limit", sayNotInteger, 1, maxPage)
	}
	return n, nil
}

const sqlOffers = `
	SELECT p.sku, p.name, p.stock, p.max_order_quantity, r.id
	  FROM products p LEFT JOIN replenishments r ON r.sku = p.sku AND r.state IN ('requested', 'accepted')`

func scanOffer(row pgx.CollectableRow) (offer, error) {
	var o offer
	err := row.Scan(&o.SKU, &o.Name, &o.Stock, &o.MaxOrderQuantity, &o.ReplenishmentID)
	return o, err
}

func (s *store) product(ctx context.Context, sku string) (offer, error) {
	var o offer
	err := s.attempt(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		rows, err := conn.Query(ctx, sqlOffers+` WHERE p.sku = $1`, sku)
		if err != nil {
			return err
		}
		o, err = pgx.CollectExactlyOneRow(rows, scanOffer)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return o, unknownProduct()
	}
	if err != nil {
		return o, fmt.Errorf("read product: %w", err)
	}
	return o, nil
}

func (s *store) products(ctx context.Context, after string, limit int) ([]offer, error) {
	var page []offer
	err := s.attempt(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		rows, err := conn.Query(ctx, sqlOffers+` WHERE p.sku > $1 ORDER BY p.sku LIMIT $2`, after, limit)
		if err != nil {
			return err
		}
		page, err = pgx.CollectRows(rows, scanOffer)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read products: %w", err)
	}
	return page, nil
}
