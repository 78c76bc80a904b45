package schema_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/restock-dev/restock/schema"
)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// stamp does what the database does when an event is appended.
func stamp(e schema.Event) string {
	return `{"time":"2026-11-22T23:59:59.999999Z",` + e.Body[1:]
}

func genID(t *rapid.T, label string) uuid.UUID {
	return uuid.UUID(rapid.SliceOfN(rapid.ByteMin(1), 16, 16).Draw(t, label))
}

func genPayload(t *rapid.T) schema.Payload {
	text := rapid.StringN(1, 40, 200)
	customer := text.Filter(func(s string) bool { return !strings.ContainsRune(s, 0) })
	units := rapid.Int64Range(1, 1_000_000)
	switch rapid.IntRange(0, 3).Draw(t, "type") {
	case 0:
		q := units.Draw(t, "quantity")
		return schema.OrderPlaced{
			OrderID: genID(t, "order"), CustomerID: rapid.OneOf(rapid.Just(""), customer).Draw(t, "customer"), Quantity: q,
			Lines: []schema.Line{{SKU: text.Draw(t, "sku"), Quantity: q}},
		}
	case 1:
		return schema.ReplenishmentRequested{
			ReplenishmentID: genID(t, "replenishment"), SKU: text.Draw(t, "sku"), ProductName: text.Draw(t, "name"),
			Quantity: units.Draw(t, "quantity"), RemainingStock: rapid.Int64Min(0).Draw(t, "stock"),
			FactoryID: text.Draw(t, "factory"), Requester: text.Draw(t, "requester"), CallbackURL: text.Draw(t, "url"),
		}
	case 2:
		return schema.StockReplenished{
			ReplenishmentID: genID(t, "replenishment"), SKU: text.Draw(t, "sku"), ProductName: text.Draw(t, "name"),
			Quantity: units.Draw(t, "quantity"), Stock: units.Draw(t, "stock"),
		}
	default:
		return schema.CustomerPromoted{CustomerID: customer.Draw(t, "customer"), OrderID: genID(t, "order"), Quantity: units.Draw(t, "quantity")}
	}
}

func TestEventRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id, p, seq := schema.NewID(), genPayload(t), rapid.Int64Min(0).Draw(t, "seq")
		e, err := schema.New(id, p, traceparent)
		require.NoError(t, err)
		body, err := schema.WithSequence(stamp(e), seq)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(body, `{"sequence":"`))

		got, err := schema.Decode([]byte(body))
		require.NoError(t, err)
		payload, err := got.Payload()
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(p, payload))
		require.Equal(t, id, got.ID)
		require.Equal(t, seq, got.Seq())
		require.Equal(t, p.EventType(), got.Type)
		require.Equal(t, traceparent, got.Traceparent)
		require.Equal(t, "2026-11-22", got.Day().Format(time.DateOnly))
	})
}

// TestAttributes holds the SNS message to the letter: an existing Lambda reads it.
func TestAttributes(t *testing.T) {
	id := uuid.MustParse("01938f5e-0000-7000-8000-000000000001")
	text := func(v string) schema.Attribute { return schema.Attribute{Type: "String", Value: v} }
	cases := map[string]struct {
		payload    schema.Payload
		group      string
		subject    string
		attributes map[string]schema.Attribute
	}{
		"replenishment.requested": {
			schema.ReplenishmentRequested{
				ReplenishmentID: id, SKU: "CP-502101", ProductName: "Donut", Quantity: 10, FactoryID: "FF-500293",
				Requester: "manager@example.com", CallbackURL: "http://shop.example/stock-increase/1?sig=x",
			},
			"CP-502101", "도너츠 재고 부족",
			map[string]schema.Attribute{
				"groupId": text("stock-arrival-group"), "productId": text("CP-502101"), "productCnt": text("10"), "factoryId": text("FF-500293"),
				"requester": text("manager@example.com"), "callbackUrl": text("http://shop.example/stock-increase/1?sig=x"),
				"eventType": text("replenishment.requested"), "eventId": text(id.String()), "traceparent": text(traceparent),
			},
		},
		"order.placed": {
			schema.OrderPlaced{OrderID: id, CustomerID: "c-1", Quantity: 100, Lines: []schema.Line{{SKU: "CP-502101", Quantity: 100}}},
			"c-1", "",
			map[string]schema.Attribute{
				"quantity":  {Type: "Number", Value: "100"},
				"eventType": text("order.placed"), "eventId": text(id.String()), "traceparent": text(traceparent),
			},
		},
		"order.placed, anonymous": {
			schema.OrderPlaced{OrderID: id, Quantity: 1, Lines: []schema.Line{{SKU: "CP-502101", Quantity: 1}}},
			id.String(), "",
			map[string]schema.Attribute{
				"quantity":  {Type: "Number", Value: "1"},
				"eventType": text("order.placed"), "eventId": text(id.String()), "traceparent": text(traceparent),
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e, err := schema.New(id, c.payload, traceparent)
			require.NoError(t, err)
			require.Equal(t, c.group, e.Group)
			require.Equal(t, c.subject, e.Subject)
			require.Empty(t, cmp.Diff(c.attributes, e.Attributes))
		})
	}
}

// TestAttributesJSON: whatever the attributes are, they read back as they were.
func TestAttributesJSON(t *testing.T) {
	require.Equal(t, "{}", schema.Event{}.AttributesJSON())
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOfN(rapid.String(), rapid.Custom(func(t *rapid.T) schema.Attribute {
			return schema.Attribute{Type: rapid.String().Draw(t, "type"), Value: rapid.String().Draw(t, "value")}
		}), 0, 9).Draw(t, "attributes")
		got := map[string]schema.Attribute{}
		require.NoError(t, json.Unmarshal([]byte(schema.Event{Attributes: want}.AttributesJSON()), &got))
		require.Equal(t, want, got)
	})
}

func TestNewRefusesWhatSNSWould(t *testing.T) {
	long := schema.OrderPlaced{OrderID: schema.NewID(), CustomerID: strings.Repeat("x", 210<<10), Quantity: 1, Lines: []schema.Line{{SKU: "a", Quantity: 1}}}
	_, err := schema.New(schema.NewID(), long, "")
	require.ErrorContains(t, err, "at most 204800 are allowed")

	_, err = schema.New(schema.NewID(), schema.ReplenishmentRequested{SKU: "a", Quantity: 1}, "")
	require.ErrorContains(t, err, "is empty: leave it out")
}

func TestDecodeRefuses(t *testing.T) {
	e, err := schema.New(schema.NewID(), schema.StockReplenished{ReplenishmentID: schema.NewID(), SKU: "a", Quantity: 1}, "")
	require.NoError(t, err)
	good := stamp(e)
	edit := func(key string, value any) string {
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(good), &m))
		if m[key] = value; value == nil {
			delete(m, key)
		}
		text, err := json.Marshal(m)
		require.NoError(t, err)
		return string(text)
	}
	cases := map[string]struct{ body, want string }{
		"not JSON":        {"hello", "not an event"},
		"not an object":   {`[1]`, "not an event"},
		"no CloudEvent":   {`{"id":"x"}`, "not an event"},
		"spec version":    {edit("specversion", "0.3"), `specversion "0.3"`},
		"no id":           {edit("id", nil), "no id"},
		"id is no UUID":   {edit("id", "42"), "not an event"},
		"no time":         {edit("time", nil), "no time"},
		"unknown type":    {edit("type", "order.eaten"), `unknown event type "order.eaten"`},
		"unknown version": {edit("dataschema", "urn:restock:stock.replenished:2"), "unknown version"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := schema.Decode([]byte(c.body))
			require.ErrorContains(t, err, c.want)
		})
	}

	got, err := schema.Decode([]byte(edit("data", map[string]any{"sku": "a"})))
	require.NoError(t, err)
	_, err = got.Payload()
	require.ErrorContains(t, err, "replenishmentId is missing")
}

// TestOrderPayloadIsChecked holds an order to what a customer can be promoted by:
// its lines make up its quantity, and its customer can be kept.
func TestOrderPayloadIsChecked(t *testing.T) {
	order := func(customer string, quantity int64, lines ...int64) error {
		p := schema.OrderPlaced{OrderID: schema.NewID(), CustomerID: customer, Quantity: quantity}
		for _, n := range lines {
			p.Lines = append(p.Lines, schema.Line{SKU: "a", Quantity: n})
		}
		e, err := schema.New(schema.NewID(), p, "")
		require.NoError(t, err)
		got, err := schema.Decode([]byte(stamp(e)))
		require.NoError(t, err)
		_, err = got.Payload()
		return err
	}
	require.NoError(t, order("c", 100, 60, 40))
	require.NoError(t, order("", 1, 1))
	require.NoError(t, order(strings.Repeat("🍩", 128), 1, 1))
	for name, c := range map[string]struct {
		err   error
		field string
	}{
		"customer too long":    {order(strings.Repeat("🍩", 129), 1, 1), "customerId"},
		"customer with a nul":  {order("a\x00b", 1, 1), "customerId"},
		"no quantity":          {order("c", 0, 1), "quantity"},
		"no lines":             {order("c", 1), "lines"},
		"another sum":          {order("c", 100, 60, 41), "lines"},
		"a negative line":      {order("c", 100, 101, -1), "lines"},
		"a sum that overflows": {order("c", 1, math.MaxInt64, math.MaxInt64, 3), "lines"},
	} {
		require.ErrorContains(t, c.err, c.field+" is missing or out of range", name)
	}
}

func TestWithSequence(t *testing.T) {
	cases := []struct{ body, want string }{
		{`{"a":1}`, `{"sequence":"0000000000000000007","a":1}`},
		{" {\n} ", `{"sequence":"0000000000000000007"}`},
		{`{}`, `{"sequence":"0000000000000000007"}`},
	}
	for _, c := range cases {
		got, err := schema.WithSequence(c.body, 7)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	for _, bad := range []string{"", "{", "[]", `"x"`, "hello"} {
		_, err := schema.WithSequence(bad, 7)
		require.ErrorContains(t, err, "not a JSON object", bad)
	}
}

func TestGroup(t *testing.T) {
	require.Equal(t, "CP-502101", schema.Group("CP-502101"))
	require.Equal(t, "h-", schema.Group("초콜릿")[:2])
	require.Equal(t, "h-", schema.Group("")[:2])
	rapid.Check(t, func(t *rapid.T) {
		id, other := rapid.String().Draw(t, "id"), rapid.String().Draw(t, "other")
		g := schema.Group(id)
		require.Regexp(t, `^[!-~]{1,128}$`, g)
		require.Equal(t, id == other, g == schema.Group(other))
	})
}

func TestSlotName(t *testing.T) {
	require.Equal(t, "restock_store", schema.SlotName("store"))
	require.Equal(t, "restock_my_shop_", schema.SlotName("my-shop!"))
	require.Len(t, schema.SlotName(strings.Repeat("a", 63)), 63)
}

func TestTraceID(t *testing.T) {
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", schema.TraceID(traceparent))
	require.Empty(t, schema.TraceID(""))
	require.Empty(t, schema.TraceID("00-short-x-01"))
	require.Empty(t, schema.TraceID(traceparent+"-more"))
	require.Empty(t, schema.TraceID(strings.Replace(traceparent, "4", "\n", 1)))
}

// A trace context that is none would be refused wherever it is sent on to, as a
// header or as an attribute, and is no reason to refuse the event.
func TestDecodeLeavesOutABadTraceContext(t *testing.T) {
	for _, bad := range []string{"00-aa\r\nX-Evil: 1", strings.Repeat("0", 1<<16), "\x00"} {
		e, err := schema.New(schema.NewID(), schema.CustomerPromoted{CustomerID: "c", OrderID: uuid.New(), Quantity: 100}, bad)
		require.NoError(t, err)
		got, err := schema.Decode([]byte(stamp(e)))
		require.NoError(t, err)
		require.Empty(t, got.Traceparent)
	}
}

func FuzzDecode(f *testing.F) {
	e, err := schema.New(schema.NewID(), schema.StockReplenished{ReplenishmentID: schema.NewID(), SKU: "a", Quantity: 1}, traceparent)
	require.NoError(f, err)
	f.Add([]byte(stamp(e)))
	f.Add([]byte(`{"specversion":"1.0"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := schema.Decode(body)
		if err != nil {
			return
		}
		_, _ = got.Payload() // must not panic
		again, err := json.Marshal(got)
		require.NoError(t, err)
		same, err := schema.Decode(again)
		require.NoError(t, err)
		require.Equal(t, got.ID, same.ID)
		require.Equal(t, got.Day(), same.Day())
	})
}

func FuzzWithSequence(f *testing.F) {
	f.Add(`{"a":1}`, int64(3))
	f.Fuzz(func(t *testing.T, body string, seq int64) {
		got, err := schema.WithSequence(body, max(seq, 0))
		if err != nil || !json.Valid([]byte(body)) || !utf8.ValidString(body) {
			return
		}
		require.True(t, json.Valid([]byte(got)), fmt.Sprintf("%q became %q", body, got))
	})
}
