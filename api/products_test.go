package api_test

import (
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestProduct(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	got := s.send("GET", "/products/"+donut, "")
	require.JSONEq(t, `{"sku":"CP-502101","name":"도너츠","stock":1,"maxOrderQuantity":1000,"replenishmentId":null}`, got.raw)

	s.buy(donut, 1)
	id := s.buy(donut, 1).str("replenishmentId")
	require.Equal(t, id, s.send("GET", "/products/"+donut, "").str("replenishmentId"))

	for _, target := range []string{"/products/nope", "/products/%00", "/products/%ff", "/products/" + string(make([]byte, 0)) + "%20", "/products/a%2Fb"} {
		got := s.send("GET", target, "")
		require.Equal(t, http.StatusNotFound, got.status, target)
		require.Equal(t, "unknown-product", got.str("type"), target)
	}
	s.exec(`UPDATE products SET name = 'slash' WHERE sku = $1`, cream)
	s.exec(`INSERT INTO products SELECT 'a/b', name, stock, initial_stock, max_order_quantity, reorder_quantity, max_replenishment, factory_id, manager_email FROM products WHERE sku = $1`, cream)
	require.Equal(t, "a/b", s.send("GET", "/products/a%2Fb", "").str("sku"))
}

func TestProducts(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
		SELECT 'x' || to_char(n, 'FM0000'), 'x', 1, 1, 1, 'f', 'm@x' FROM generate_series(1, 250) n`)
	seen := map[string]bool{}
	after, pages := "", 0
	for {
		got := s.send("GET", "/products?limit=100&after="+after, "")
		require.Equal(t, http.StatusOK, got.status, got.raw)
		for _, p := range got.body["products"].([]any) {
			seen[p.(map[string]any)["sku"].(string)] = true
		}
		pages++
		if got.body["next"] == nil {
			break
		}
		after = got.str("next")
	}
	require.Equal(t, 3, pages)
	require.Len(t, seen, 252)
	require.Len(t, s.send("GET", "/products", "").body["products"], 100, "the default")
	require.Len(t, s.send("GET", "/products?limit=1000", "").body["products"], 252)
	require.Empty(t, s.send("GET", "/products?after=z", "").body["products"])
	require.NotNil(t, s.send("GET", "/products?after=z", "").body["products"], "an empty list, not null")

	for target, field := range map[string]string{
		"/products?limit=0": "limit", "/products?limit=1001": "limit", "/products?limit=": "limit", "/products?limit=x": "limit",
		"/products?after=%00": "after", "/products?after=%ff": "after",
	} {
		got := s.send("GET", target, "")
		require.Equal(t, http.StatusUnprocessableEntity, got.status, target)
		require.Equal(t, field, got.str("field"), target)
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	bought := s.checkout(`{"sku":"CP-502102","quantity":3,"customerId":"c"}`)
	got := s.send("GET", "/orders/"+bought.str("orderId"), "")
	require.Equal(t, http.StatusOK, got.status, got.raw)
	require.Equal(t, bought.str("orderId"), got.str("orderId"))
	require.Equal(t, cream, got.str("sku"))
	require.Equal(t, 3, got.num("quantity"))
	require.Equal(t, 497, got.num("remainingStock"))
	require.NotContains(t, got.raw, "customer")
	for _, id := range []string{uuid.NewString(), "1", "%00", "{" + uuid.NewString() + "}"} {
		got := s.send("GET", "/orders/"+id, "")
		require.Equal(t, http.StatusNotFound, got.status, id)
		require.Equal(t, "not-found", got.str("type"), id)
	}
}
