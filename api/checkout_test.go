package api_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/api"
	"github.com/restock-dev/restock/schema"
)

// The story of the shop: the last donut, the failure, the production order.
func TestCheckout(t *testing.T) {
	t.Parallel()
	s := newShop(t)

	bought := s.send("POST", "/checkout", "")
	require.Equal(t, http.StatusOK, bought.status, bought.raw)
	require.Equal(t, "application/json", bought.header.Get("Content-Type"))
	require.Equal(t, "구매 완료! 남은 재고: 0", bought.str("message"))
	require.Equal(t, donut, bought.str("sku"))
	require.Equal(t, 1, bought.num("quantity"))
	require.Equal(t, 0, bought.num("remainingStock"))
	order, err := uuid.Parse(bought.str("orderId"))
	require.NoError(t, err)

	failed := s.send("POST", "/checkout", "")
	require.Equal(t, http.StatusConflict, failed.status, failed.raw)
	require.Equal(t, "application/problem+json", failed.header.Get("Content-Type"))
	require.Equal(t, "out-of-stock", failed.str("type"))
	require.Equal(t, "구매 실패! 남은 재고: 0", failed.str("message"))
	require.Equal(t, 0, failed.num("remainingStock"))
	replenishment, err := uuid.Parse(failed.str("replenishmentId"))
	require.NoError(t, err)

	again := s.buy(donut, 5)
	require.Equal(t, http.StatusConflict, again.status)
	require.Equal(t, replenishment.String(), again.str("replenishmentId"), "one is open: no other is opened")

	s.requireConserved()
	require.Equal(t, 1, s.events(schema.TypeOrderPlaced))
	require.Equal(t, 1, s.events(schema.TypeReplenishmentRequested))
	require.Equal(t, 10, one[int](s, `SELECT quantity FROM replenishments WHERE id = $1`, replenishment), "the reorder quantity")
	require.Equal(t, 1, one[int](s, `SELECT quantity FROM orders WHERE id = $1`, order))
	require.Equal(t, 1, s.counted("restock_api_replenishments_opened_total"))
	require.Equal(t, 2, s.counted("restock_api_checkouts_total", "short"))
}

// Nine attributes, to the letter of the contract with the existing Lambda.
func TestReplenishmentEvent(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`UPDATE products SET stock = 0, initial_stock = 0 WHERE sku = $1`, donut)
	trace := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	failed := s.checkout(`{}`, "traceparent", trace)
	require.Equal(t, http.StatusConflict, failed.status)
	id := uuid.MustParse(failed.str("replenishmentId"))

	event := one[uuid.UUID](s, `SELECT id FROM outbox`)
	require.Equal(t, event, one[uuid.UUID](s, `SELECT event_id FROM replenishments`))
	require.Equal(t, "도너츠 재고 부족", one[string](s, `SELECT subject FROM outbox`))
	require.Equal(t, donut, one[string](s, `SELECT message_group FROM outbox`))
	attributes := one[map[string]schema.Attribute](s, `SELECT attributes FROM outbox`)
	got := map[string]string{}
	for name, a := range attributes {
		require.Equal(t, "String", a.Type)
		got[name] = a.Value
	}
	require.Equal(t, map[string]string{
		"groupId": "stock-arrival-group", "productId": donut, "productCnt": "10", "factoryId": "FF-500293",
		"requester": "manager@example.com", "callbackUrl": s.api.CallbackURL(id, donut, 10),
		"eventType": "replenishment.requested", "eventId": event.String(), "traceparent": trace,
	}, got)
	require.True(t, strings.HasPrefix(got["callbackUrl"], publicly+"/stock-increase/"+id.String()+"?sig="))

	body, err := schema.Decode([]byte(one[string](s, `SELECT body FROM outbox`)))
	require.NoError(t, err)
	payload, err := body.Payload()
	require.NoError(t, err)
	require.Equal(t, schema.ReplenishmentRequested{
		ReplenishmentID: id, SKU: donut, ProductName: "도너츠", Quantity: 10, RemainingStock: 0,
		FactoryID: "FF-500293", Requester: "manager@example.com", CallbackURL: got["callbackUrl"],
	}, payload)
}

func TestOrderEvent(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`ALTER TABLE outbox DISABLE TRIGGER outbox_bucket`) // so that it is the checkout that gives the bucket
	named := s.checkout(`{"sku":"CP-502102","quantity":120,"customerId":"손님 1"}`)
	require.Equal(t, http.StatusOK, named.status, named.raw)
	body, err := schema.Decode([]byte(one[string](s, `SELECT body FROM outbox`)))
	require.NoError(t, err)
	payload, err := body.Payload()
	require.NoError(t, err)
	require.Equal(t, schema.OrderPlaced{
		OrderID: uuid.MustParse(named.str("orderId")), CustomerID: "손님 1", Quantity: 120,
		Lines: []schema.Line{{SKU: cream, Quantity: 120}},
	}, payload)
	require.Equal(t, schema.Group("손님 1"), one[string](s, `SELECT message_group FROM outbox`))
	require.True(t, one[bool](s, `SELECT bucket = bucket_of(message_group) FROM outbox`))
	require.Equal(t, schema.Attribute{Type: "Number", Value: "120"}, one[map[string]schema.Attribute](s, `SELECT attributes FROM outbox`)["quantity"])
	require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`, one[string](s, `SELECT traceparent FROM outbox`), "made here, where the caller has none")
	require.Equal(t, "손님 1", one[string](s, `SELECT customer_id FROM orders`))

	require.Equal(t, http.StatusOK, s.buy(cream, 1).status)
	require.Equal(t, 1, one[int](s, `SELECT count(*) FROM orders WHERE customer_id IS NULL`), "anonymous")
}

func TestReplenishmentQuantity(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`UPDATE products SET stock = 0, initial_stock = 0`)
	for _, c := range []struct {
		rule            string
		asked, quantity int
	}{
		{"the reorder quantity at least", 1, 10},
		{"what was asked where that is more", 50, 50},
		{"never more than the product's limit", 1000, 100},
	} {
		id := s.buy(donut, c.asked).str("replenishmentId")
		require.Equal(t, c.quantity, one[int](s, `SELECT quantity FROM replenishments WHERE id = $1`, id), c.rule)
		s.exec(`UPDATE replenishments SET state = 'cancelled', closed_at = now() WHERE id = $1`, id)
	}
}

// What follows a refusal by the factory, and a cancellation by an operator.
func TestCooldown(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`UPDATE products SET stock = 0, initial_stock = 0 WHERE sku = $1`, donut)
	first := s.buy(donut, 1).str("replenishmentId")

	s.exec(`UPDATE replenishments SET state = 'refused', refusal = 'no', closed_at = now()`)
	require.Equal(t, first, s.buy(donut, 1).str("replenishmentId"), "within the cool-down")
	require.Equal(t, 1, s.events(schema.TypeReplenishmentRequested))

	s.exec(`UPDATE replenishments SET closed_at = now() - interval '5 minutes 1 second'`)
	second := s.buy(donut, 1).str("replenishmentId")
	require.NotEqual(t, first, second, "after the cool-down")
	require.Equal(t, second, s.buy(donut, 1).str("replenishmentId"))

	s.exec(`UPDATE replenishments SET state = 'cancelled', closed_at = now() WHERE id = $1`, second)
	third := s.buy(donut, 1).str("replenishmentId")
	require.NotContains(t, []string{first, second}, third, "cancelled frees the product at once")
	require.Equal(t, 3, s.events(schema.TypeReplenishmentRequested))
	s.requireConserved()
}

func TestBodiesThatMeanTheDefaults(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`UPDATE products SET stock = 100, initial_stock = 100`)
	for name, send := range map[string]func() answer{
		"none": func() answer { return s.send("POST", "/checkout", "") },
		"none, a form": func() answer {
			return s.send("POST", "/checkout", "", "Content-Type", "application/x-www-form-urlencoded")
		},
		"white space, text":      func() answer { return s.send("POST", "/checkout", " \r\n\t ", "Content-Type", "text/plain") },
		"empty object":           func() answer { return s.checkout(`{}`) },
		"object and white space": func() answer { return s.checkout(" {\n}\n") },
		"charset": func() answer {
			return s.send("POST", "/checkout", `{}`, "Content-Type", "application/json; charset=utf-8")
		},
		"upper case":                 func() answer { return s.send("POST", "/checkout", `{}`, "Content-Type", "Application/JSON") },
		"the defaults by their name": func() answer { return s.checkout(`{"sku":"CP-502101","quantity":1}`) },
	} {
		got := send()
		require.Equal(t, http.StatusOK, got.status, "%s: %s", name, got.raw)
		require.Equal(t, donut, got.str("sku"), name)
		require.Equal(t, 1, got.num("quantity"), name)
	}
}

func TestCheckoutBadInput(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	long := strings.Repeat("x", 200)
	for _, c := range []struct {
		name, body string
		status     int
		kind       string
		field      string
	}{
		{"malformed", `{"sku":`, 400, "malformed-body", ""},
		{"not JSON", `sku=CP-502101`, 400, "malformed-body", ""},
		{"malformed and unknown", `{"nope":1`, 400, "malformed-body", ""},
		{"trailing object", `{}{}`, 400, "malformed-body", ""},
		{"trailing garbage", `{} x`, 400, "malformed-body", ""},
		{"byte order mark", "\ufeff{}", 400, "malformed-body", ""},
		{"NUL byte", "{\"sku\":\"a\x00b\"}", 400, "malformed-body", ""},
		{"NUL after the object", "{}\x00", 400, "malformed-body", ""},
		{"invalid UTF-8", "{\"sku\":\"a\xffb\"}", 400, "malformed-body", ""},
		{"invalid UTF-8 in a name", "{\"\xff\":1}", 400, "malformed-body", ""},
		{"half a surrogate pair", `{"customerId":"\ud800"}`, 400, "malformed-body", ""},
		{"surrogates the wrong way round", `{"customerId":"\ude00\ud83d"}`, 400, "malformed-body", ""},
		{"array", `[]`, 422, "invalid-value", ""},
		{"null", `null`, 422, "invalid-value", ""},
		{"string", `"CP-502101"`, 422, "invalid-value", ""},
		{"number", `1`, 422, "invalid-value", ""},
		{"unknown field", `{"sku":"CP-502101","colour":"pink"}`, 422, "invalid-value", "colour"},
		{"other case", `{"SKU":"CP-502101"}`, 422, "invalid-value", "SKU"},
		{"other case beside the right one", `{"quantity":1,"Quantity":2}`, 422, "invalid-value", "Quantity"},
		{"twice", `{"quantity":1,"quantity":2}`, 422, "invalid-value", "quantity"},
		{"twice, once escaped", `{"quantity":1,"quantit\u0079":2}`, 422, "invalid-value", "quantity"},
		{"unknown field of great length", `{"` + long + `":1}`, 422, "invalid-value", long[:64] + "…"},
		{"deep nonsense", `{"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, 422, "invalid-value", "x"},
		{"quantity 0", `{"quantity":0}`, 422, "invalid-value", "quantity"},
		{"quantity -0", `{"quantity":-0}`, 422, "invalid-value", "quantity"},
		{"quantity negative", `{"quantity":-1}`, 422, "invalid-value", "quantity"},
		{"quantity fractional", `{"quantity":1.5}`, 422, "invalid-value", "quantity"},
		{"quantity 1.0", `{"quantity":1.0}`, 422, "invalid-value", "quantity"},
		{"quantity 1e3", `{"quantity":1e3}`, 422, "invalid-value", "quantity"},
		{"quantity string", `{"quantity":"1"}`, 422, "invalid-value", "quantity"},
		{"quantity true", `{"quantity":true}`, 422, "invalid-value", "quantity"},
		{"quantity null", `{"quantity":null}`, 422, "invalid-value", "quantity"},
		{"quantity array", `{"quantity":[1]}`, 422, "invalid-value", "quantity"},
		{"quantity too big", `{"quantity":1000001}`, 422, "invalid-value", "quantity"},
		{"quantity huge", `{"quantity":99999999999999999999999999}`, 422, "invalid-value", "quantity"},
		{"quantity wraps 32 bits", `{"quantity":4294967297}`, 422, "invalid-value", "quantity"},
		{"over the product's limit", `{"quantity":1001}`, 422, "order-limit", "quantity"},
		{"sku empty", `{"sku":""}`, 422, "invalid-value", "sku"},
		{"sku number", `{"sku":1}`, 422, "invalid-value", "sku"},
		{"sku null", `{"sku":null}`, 422, "invalid-value", "sku"},
		{"sku too long", `{"sku":"` + long[:65] + `"}`, 422, "invalid-value", "sku"},
		{"sku too long in bytes", `{"sku":"` + strings.Repeat("도", 22) + `"}`, 422, "invalid-value", "sku"},
		{"sku with NUL", `{"sku":"a\u0000b"}`, 422, "invalid-value", "sku"},
		{"sku with a line feed", `{"sku":"a\nb"}`, 422, "invalid-value", "sku"},
		{"customer empty", `{"customerId":""}`, 422, "invalid-value", "customerId"},
		{"customer null", `{"customerId":null}`, 422, "invalid-value", "customerId"},
		{"customer object", `{"customerId":{}}`, 422, "invalid-value", "customerId"},
		{"customer too long", `{"customerId":"` + long[:129] + `"}`, 422, "invalid-value", "customerId"},
		{"customer with NUL", `{"customerId":"\u0000"}`, 422, "invalid-value", "customerId"},
		{"customer with a C1 control", `{"customerId":"a\u0085b"}`, 422, "invalid-value", "customerId"},
		{"customer with U+FFFE, which SNS refuses", `{"customerId":"a\ufffe"}`, 422, "invalid-value", "customerId"},
		{"customer with U+FFFF", `{"customerId":"a\uffff"}`, 422, "invalid-value", "customerId"},
		{"unknown product", `{"sku":"CP-000000"}`, 404, "unknown-product", ""},
		{"unknown product, more than any limit", `{"sku":"CP-000000","quantity":1000000}`, 404, "unknown-product", ""},
		{"64 KiB and one byte", `{"sku":"` + strings.Repeat("x", 64<<10-9) + `"}`, 413, "body-too-large", ""},
		{"white space without end", strings.Repeat(" ", 64<<10+1), 413, "body-too-large", ""},
	} {
		got := s.checkout(c.body)
		require.Equal(t, c.status, got.status, "%s: %s", c.name, got.raw)
		require.Equal(t, c.kind, got.str("type"), c.name)
		require.Equal(t, c.field, got.str("field"), c.name)
		if c.status == 422 && c.field != "" && c.kind == "invalid-value" {
			require.Contains(t, got.str("detail"), c.field, c.name)
		}
	}
	s.requireNothingWritten()
	require.Equal(t, 0, s.counted("restock_api_checkouts_total", "bought"))
	require.NotContains(t, s.log.String(), `"level":"error"`)
}

func TestTheLargestThatIsTaken(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	sku := strings.Repeat("도", 21) + "x" // 64 bytes
	s.exec(`INSERT INTO products (sku, name, stock, initial_stock, max_order_quantity, reorder_quantity, factory_id, manager_email)
		VALUES ($1, 'x', 1000000, 1000000, 1000000, 1, 'f', 'm@x')`, sku)
	got := s.checkout(`{"sku":"` + sku + `","quantity":1000000,"customerId":"` + strings.Repeat("손", 127) + `\ud83c\udf69"}`)
	require.Equal(t, http.StatusOK, got.status, got.raw)
	require.Equal(t, strings.Repeat("손", 127)+"🍩", one[string](s, `SELECT customer_id FROM orders`))
	body := `{"quantity":1}`
	got = s.checkout(body + strings.Repeat(" ", 64<<10-len(body)))
	require.Equal(t, http.StatusOK, got.status, got.raw)
}

func TestContentType(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/json,text/plain", "text/json", ";"} {
		got := s.send("POST", "/checkout", `{}`, "Content-Type", contentType)
		require.Equal(t, http.StatusUnsupportedMediaType, got.status, contentType)
		require.Equal(t, "unsupported-media-type", got.str("type"))
	}
	s.requireNothingWritten()
}

// TestContentEncoding: a body that is encoded is not read, and it is said how one is. One
// that is said to be as it is, is.
func TestContentEncoding(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write([]byte(`{"quantity":1}`))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	for _, encoding := range []string{"gzip", "GZIP", "identity, gzip", "br"} {
		got := s.checkout(zipped.String(), "Content-Encoding", encoding)
		require.Equal(t, http.StatusUnsupportedMediaType, got.status, got.raw)
		require.Equal(t, "unsupported-media-type", got.str("type"))
		require.Contains(t, got.str("message"), "Content-Encoding")
		require.Equal(t, "identity", got.header.Get("Accept-Encoding"))
	}
	s.requireNothingWritten()
	require.Equal(t, http.StatusOK, s.checkout(`{"quantity":1}`, "Content-Encoding", "Identity").status)
	require.Equal(t, "out-of-stock", s.checkout(" ", "Content-Encoding", "gzip").str("type"), "there is nothing to be read")
}

func TestMethodsAndPaths(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for target, allow := range map[string]string{
		"/checkout": "POST", "/stock-increase/x": "POST", "/orders/x": "GET, HEAD", "/products": "GET, HEAD", "/products/x": "GET, HEAD",
		"/healthz": "GET, HEAD", "/openapi.json": "GET, HEAD",
	} {
		got := s.send("DELETE", target, "")
		require.Equal(t, http.StatusMethodNotAllowed, got.status, target)
		require.Equal(t, allow, got.header.Get("Allow"), target)
		require.Equal(t, "method-not-allowed", got.str("type"))
	}
	for _, target := range []string{"/", "/nope", "/checkout/", "//checkout", "/x/../checkout", "/products/", "/products/a/b", "/orders", "/stock-increase/"} {
		got := s.send("POST", target, "")
		require.Equal(t, http.StatusNotFound, got.status, target)
		require.Equal(t, "not-found", got.str("type"), target)
	}
	require.Equal(t, http.StatusOK, s.send("HEAD", "/products", "").status)
	s.requireNothingWritten()
}

func TestLanguages(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for accept, english := range map[string]bool{
		"": false, "ko": false, "fr": false, "*": false, "ko-KR,ko;q=0.9,en;q=0.8": false, "complete nonsense;;": false, strings.Repeat("en,", 1000): false,
		"en": true, "en-GB,en;q=0.9": true, "en;q=0.9,ko;q=0.1": true, "fr, en;q=0.5": true,
	} {
		got := s.checkout(`{"quantity":0}`, "Accept-Language", accept)
		want, text := "ko", "정수"
		if english {
			want, text = "en", "integer"
		}
		require.Equal(t, want, got.header.Get("Content-Language"), accept)
		require.Contains(t, got.str("message"), text, accept)
		require.Equal(t, "Accept-Language", got.header.Get("Vary"))
	}
	require.Equal(t, "Purchased! Stock left: 0", s.checkout(`{}`, "Accept-Language", "en").str("message"))
	require.Equal(t, "Purchase failed! Stock left: 0", s.checkout(`{}`, "Accept-Language", "en").str("message"))
}

// One log line for each request, with the ids to find everything else by.
func TestRequestLog(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	bought := s.checkout(`{}`, "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
	require.Len(t, lines, 1)
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &line))
	require.Equal(t, "debug", line["level"])
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", line["trace_id"])
	require.Equal(t, bought.str("orderId"), line["order_id"])
	require.Equal(t, one[string](s, `SELECT id::text FROM outbox`), line["event_id"])
	require.EqualValues(t, 200, line["status"])
	require.Equal(t, "/checkout", line["route"])

	s.buy(donut, 1)
	require.NotContains(t, s.log.String(), "example.com", "neither mail addresses nor callback addresses")
}

func TestNoDefaultProduct(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *api.Config) { c.DefaultSKU = "" })
	got := s.checkout(`{}`)
	require.Equal(t, http.StatusUnprocessableEntity, got.status)
	require.Equal(t, "sku", got.str("field"))
	require.Equal(t, http.StatusOK, s.buy(donut, 1).status)
}
