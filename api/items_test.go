package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
)

func TestItems(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`UPDATE products SET stock = 100, initial_stock = 100`)
	got := s.checkout(`{"items":[{"sku":"CP-502102","quantity":2},{"sku":"CP-502101"},{"sku":"CP-502102","quantity":3}],"customerId":"c-1"}`)
	require.Equal(t, http.StatusOK, got.status, got.raw)
	id := uuid.MustParse(got.str("orderId"))
	items := `[{"sku":"CP-502102","quantity":5,"remainingStock":95},{"sku":"CP-502101","quantity":1,"remainingStock":99}]`
	require.Equal(t, `{"message":"구매 완료! 상품 2종","orderId":"`+id.String()+`","quantity":6,"items":`+items+"}\n", got.raw)
	require.Contains(t, s.send("GET", "/orders/"+id.String(), "").raw, `"quantity":6,"items":`+items)

	body, err := schema.Decode([]byte(one[string](s, `SELECT body FROM outbox`)))
	require.NoError(t, err)
	payload, err := body.Payload()
	require.NoError(t, err)
	require.Equal(t, schema.OrderPlaced{
		OrderID: id, CustomerID: "c-1", Quantity: 6, Lines: []schema.Line{{SKU: cream, Quantity: 5}, {SKU: donut, Quantity: 1}},
	}, payload)

	// Of one product it is kept, and shown later, as any order of one.
	got = s.checkout(`{"items":[{"sku":"CP-502101","quantity":4}]}`)
	require.Equal(t, `{"message":"구매 완료! 상품 1종","orderId":"`+got.str("orderId")+`","quantity":4,"items":[{"sku":"CP-502101","quantity":4,"remainingStock":95}]}`+"\n", got.raw)
	require.Equal(t, 95, s.send("GET", "/orders/"+got.str("orderId"), "").num("remainingStock"))
	s.requireConserved()
}

// All or nothing, and a replenishment for each product that is short.
func TestItemsOutOfStock(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email) VALUES ('A', 'a', 0, 0, 1, 'f', 'm@x'), ('B', 'b', 9, 9, 1, 'f', 'm@x')`)
	body := `{"items":[{"sku":"B","quantity":10},{"sku":"CP-502102","quantity":500},{"sku":"A","quantity":2}]}`
	got := s.checkout(body, "Accept-Language", "en")
	require.Equal(t, http.StatusConflict, got.status, got.raw)
	require.Equal(t, "Purchase failed! Products short of stock: 2", got.str("message"))
	open := func(sku string) string {
		return one[string](s, `SELECT id::text FROM replenishments WHERE sku = $1 AND closed_at IS NULL`, sku)
	}
	require.Contains(t, got.raw, `"shortages":[{"sku":"B","requested":10,"remaining":9,"replenishmentId":"`+open("B")+`"},{"sku":"A","requested":2,"remaining":0,"replenishmentId":"`+open("A")+`"}]`)
	require.Equal(t, 10, one[int](s, `SELECT quantity FROM replenishments WHERE sku = 'B'`))
	require.Equal(t, 500, s.stock(cream), "nothing was taken")
	again := s.checkout(body, "Accept-Language", "en")
	require.Equal(t, got.body["shortages"], again.body["shortages"])
	require.Equal(t, 2, s.events(schema.TypeReplenishmentRequested))
	require.Equal(t, 0, s.events(schema.TypeOrderPlaced))
	s.requireConserved()
}

func TestItemsBadInput(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	many := strings.TrimSuffix(strings.Repeat(`{"sku":"CP-502102"},`, 51), ",")
	for _, c := range []struct {
		name, body  string
		status      int
		kind, field string
	}{
		{"none", `{"items":[]}`, 422, "invalid-value", "items"},
		{"51", `{"items":[` + many + `]}`, 422, "invalid-value", "items"},
		{"null", `{"items":null}`, 422, "invalid-value", "items"},
		{"an object", `{"items":{}}`, 422, "invalid-value", "items"},
		{"a string", `{"items":"[]"}`, 422, "invalid-value", "items"},
		{"beside a sku", `{"sku":"CP-502101","items":[{"sku":"CP-502101"}]}`, 422, "invalid-value", "sku"},
		{"beside a quantity", `{"quantity":1,"items":[{"sku":"CP-502101"}]}`, 422, "invalid-value", "quantity"},
		{"an item that is none", `{"items":[1]}`, 422, "invalid-value", "items[0]"},
		{"no default product here", `{"items":[{"sku":"CP-502102"},{}]}`, 422, "invalid-value", "items[1].sku"},
		{"quantity 0", `{"items":[{"sku":"CP-502102","quantity":0}]}`, 422, "invalid-value", "items[0].quantity"},
		{"unknown field", `{"items":[{"sku":"CP-502102","colour":"pink"}]}`, 422, "invalid-value", "items[0].colour"},
		{"twice", `{"items":[{"sku":"CP-502102","sku":"CP-502101"}]}`, 422, "invalid-value", "items[0].sku"},
		{"customer of an item", `{"items":[{"sku":"CP-502102","customerId":"c"}]}`, 422, "invalid-value", "items[0].customerId"},
		{"too many together", `{"items":[{"sku":"CP-502102","quantity":1000000},{"sku":"CP-502102","quantity":1}]}`, 422, "invalid-value", "items[1].quantity"},
		{"over the product's limit together", `{"items":[{"sku":"CP-502101","quantity":1},{"sku":"CP-502102","quantity":999},{"sku":"CP-502102","quantity":2}]}`, 422, "order-limit", "items[1].quantity"},
		{"unknown product", `{"items":[{"sku":"CP-502102"},{"sku":"CP-000000"}]}`, 404, "unknown-product", "items[1].sku"},
		{"unknown product before all else", `{"items":[{"sku":"CP-502102","quantity":5000},{"sku":"CP-502101","quantity":900},{"sku":"CP-000000"}]}`, 404, "unknown-product", "items[2].sku"},
	} {
		got := s.checkout(c.body)
		require.Equal(t, c.status, got.status, "%s: %s", c.name, got.raw)
		require.Equal(t, c.kind, got.str("type"), c.name)
		require.Equal(t, c.field, got.str("field"), c.name)
		if c.kind == "invalid-value" {
			require.Contains(t, got.str("detail"), c.field, c.name)
		}
	}
	together := s.checkout(`{"items":[{"sku":"CP-502102","quantity":1000000},{"sku":"CP-502102"}]}`, "Accept-Language", "en")
	require.Equal(t, "items[1].quantity: all quantities of this product together are more than 1000000.", together.str("detail"), "1 alone is no mistake")
	s.requireNothingWritten()
}

func TestFiftyItems(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email) SELECT 'P-' || n, 'p', 5, 5, 1, 'f', 'm@x' FROM generate_series(1, 50) n`)
	var items []string
	for n := 50; n > 0; n-- {
		items = append(items, fmt.Sprintf(`{"sku":"P-%d","quantity":2}`, n))
	}
	got := s.checkout(`{"items":[` + strings.Join(items, ",") + `]}`)
	require.Equal(t, http.StatusOK, got.status, got.raw)
	require.Equal(t, 100, got.num("quantity"))
	require.Equal(t, 50, one[int](s, `SELECT count(*) FROM order_lines WHERE remaining_stock = 3`))
	s.requireConserved()
}
