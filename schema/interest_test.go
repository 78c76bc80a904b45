package schema_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
)

func TestFilterPolicy(t *testing.T) {
	want := map[string]string{
		"factory":   `{"eventType":["replenishment.requested"]}`,
		"ads":       `{"eventType":["replenishment.requested","stock.replenished"]}`,
		"vip":       `{"eventType":["order.placed"],"quantity":[{"numeric":["\u003e=",100]}]}`,
		"marketing": `{"eventType":["customer.promoted"]}`,
	}
	got := map[string]string{}
	for _, in := range schema.Interests(schema.DefaultVIPThreshold) {
		got[in.Consumer] = in.FilterPolicy()
	}
	require.Equal(t, want, got)
	_, ok := schema.InterestOf("nobody", 1)
	require.False(t, ok)
}

// TestInterestIsOneThing holds the check and the SQL of an interest against each
// other, event by event.
func TestInterestIsOneThing(t *testing.T) {
	t.Parallel()
	db := pgtestDatabase(t)
	conn := connect(t, db.DSN)
	order := func(units int64) schema.Payload {
		return schema.OrderPlaced{OrderID: schema.NewID(), Quantity: units, Lines: []schema.Line{{SKU: "a", Quantity: units}}}
	}
	payloads := []schema.Payload{
		order(1), order(9), order(10), order(99), order(100), order(101), order(1000),
		schema.ReplenishmentRequested{ReplenishmentID: schema.NewID(), SKU: "a", Quantity: 200, FactoryID: "f", Requester: "r", CallbackURL: "u"},
		schema.StockReplenished{ReplenishmentID: schema.NewID(), SKU: "a", Quantity: 200},
		schema.CustomerPromoted{CustomerID: "c", OrderID: schema.NewID(), Quantity: 200},
	}
	wanted := map[string]int{}
	for _, p := range payloads {
		e, err := schema.New(schema.NewID(), p, "")
		require.NoError(t, err)
		require.NoError(t, schema.Append(t.Context(), conn, e))
		var body string
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT body FROM outbox WHERE id = $1`, e.ID).Scan(&body))
		envelope, err := schema.Decode([]byte(body))
		require.NoError(t, err)
		for _, threshold := range []int64{1, 9, 10, 11, 99, 100, 101, 1000} {
			for _, in := range schema.Interests(threshold) {
				var bySQL bool
				require.NoError(t, conn.QueryRow(t.Context(), `SELECT `+in.SQL()+` FROM outbox WHERE id = $1`, e.ID).Scan(&bySQL))
				require.Equal(t, in.Wants(envelope), bySQL, "%s from %d on and %s", in.Consumer, threshold, body)
				if bySQL && threshold == 100 {
					wanted[in.Consumer]++
				}
			}
		}
	}
	require.Equal(t, map[string]int{"factory": 1, "ads": 2, "vip": 3, "marketing": 1}, wanted)
}
