package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/api"
	"github.com/restock-dev/restock/schema"
)

// soldOut is a shop whose default product ran out, with the replenishment of
// 10 that followed and its callback address.
func soldOut(t *testing.T, change ...func(*api.Config)) (s *shop, id uuid.UUID, callback string) {
	t.Helper()
	s = newShop(t, change...)
	require.Equal(t, http.StatusOK, s.buy(donut, 1).status)
	id = uuid.MustParse(s.buy(donut, 1).str("replenishmentId"))
	return s, id, s.callbackOf(id)
}

// callbackOf is the address that the factory was told, as the event says.
func (s *shop) callbackOf(id uuid.UUID) string {
	s.t.Helper()
	url := one[string](s, `SELECT attributes->'callbackUrl'->>'value' FROM outbox WHERE body::json->'data'->>'replenishmentId' = $1 AND type = 'replenishment.requested'`, id.String())
	return strings.TrimPrefix(url, publicly)
}

func delivers(sku, count string) string {
	body, _ := json.Marshal(map[string]string{
		"MessageGroupId": "stock-arrival-group", "MessageAttributeProductId": sku, "MessageAttributeProductCnt": count,
		"MessageAttributeFactoryId": "FF-500293", "MessageAttributeRequester": "manager@example.com", "CallbackUrl": "http://x/",
	})
	return string(body)
}

func (s *shop) deliver(callback, sku, count string) answer {
	return s.send("POST", callback, delivers(sku, count), "Content-Type", "application/json")
}

func TestCallback(t *testing.T) {
	t.Parallel()
	s, id, callback := soldOut(t)

	first := s.deliver(callback, donut, "7")
	require.Equal(t, http.StatusOK, first.status, first.raw)
	require.Equal(t, "입고 완료! 남은 재고: 7", first.str("message"))
	require.Equal(t, id.String(), first.str("replenishmentId"))
	require.Equal(t, 7, first.num("quantity"))
	require.Equal(t, 7, first.num("remainingStock"))
	require.Equal(t, "delivered", one[string](s, `SELECT state FROM replenishments`))
	require.Equal(t, 7, one[int](s, `SELECT delivered_quantity FROM replenishments WHERE delivered_at IS NOT NULL AND closed_at IS NOT NULL`))

	body, err := schema.Decode([]byte(one[string](s, `SELECT body FROM outbox WHERE type = 'stock.replenished'`)))
	require.NoError(t, err)
	payload, err := body.Payload()
	require.NoError(t, err)
	require.Equal(t, schema.StockReplenished{ReplenishmentID: id, SKU: donut, ProductName: "도너츠", Quantity: 7, Stock: 7}, payload)

	require.Equal(t, "구매 완료! 남은 재고: 6", s.buy(donut, 1).str("message"))
	repeated := s.deliver(callback, donut, "7")
	require.Equal(t, http.StatusOK, repeated.status)
	require.Equal(t, 6, repeated.num("remainingStock"))
	require.Equal(t, 1, s.events(schema.TypeStockReplenished))

	for range 2 {
		conflict := s.deliver(callback, donut, "8")
		require.Equal(t, http.StatusConflict, conflict.status)
		require.Equal(t, "callback-conflict", conflict.str("type"))
	}
	require.Equal(t, "7/8", one[string](s, `SELECT delivered_quantity || '/' || stated_quantity FROM callback_conflicts`), "kept once")
	require.Equal(t, 2, s.counted("restock_api_callbacks_total", "conflict"))
	require.Contains(t, s.log.String(), `"level":"warn"`)

	require.Equal(t, 6, s.stock(donut))
	s.requireConserved()
	sig := strings.Split(callback, "sig=")[1]
	require.NotContains(t, s.log.String(), sig)
}

// A delivery counts in whatever state the factory's own answer or an operator
// has brought the replenishment, once.
// noteAds makes the ads' first row of a replenishment as their consumer does, in a
// transaction that is left open. Its foreign keys lock the replenishment and then the
// product: the other way round than the callback.
func (s *shop) noteAds(id uuid.UUID) (end func()) {
	s.t.Helper()
	tx, err := s.db.Begin(s.t.Context())
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(s.t.Context())) })
	_, err = tx.Exec(s.t.Context(), `SET LOCAL lock_timeout = '1s'`)
	require.NoError(s.t, err)
	_, err = tx.Exec(s.t.Context(), `INSERT INTO ads_mails (replenishment_id, sku, stop, stop_sequence) VALUES ($1, $2, 'sending', 1)`, id, donut)
	require.NoError(s.t, err, "it waits for nobody")
	return func() { require.NoError(s.t, tx.Commit(s.t.Context())) }
}

// The callback and the ads' first row lock the same two rows in opposite order, so
// neither may keep the other waiting.
func TestCallbackBesideTheAds(t *testing.T) {
	t.Parallel()
	t.Run("that come while it is between its locks", func(t *testing.T) {
		t.Parallel()
		s, id, callback := soldOut(t, func(c *api.Config) { c.StatementTimeout, c.LockTimeout = 2*patience, patience })
		held, err := s.db.Begin(t.Context())
		require.NoError(t, err)
		defer func() { _ = held.Rollback(context.WithoutCancel(t.Context())) }()
		_, err = held.Exec(t.Context(), `SELECT FROM replenishments WHERE id = $1 FOR NO KEY UPDATE`, id)
		require.NoError(t, err)
		delivered := make(chan answer, 1)
		go func() { delivered <- s.deliver(callback, donut, "7") }()
		s.awaitLockWaiters(1) // it has the product and waits for the replenishment
		s.noteAds(id)()
		require.NoError(t, held.Rollback(t.Context()))
		got := <-delivered
		require.Equal(t, http.StatusOK, got.status, got.raw)
		require.Equal(t, 0, s.counted("restock_api_retries_total"))
	})
	t.Run("that came first", func(t *testing.T) {
		t.Parallel()
		s, id, callback := soldOut(t, func(c *api.Config) { c.LockTimeout = time.Second })
		end := s.noteAds(id)
		got := s.deliver(callback, donut, "7")
		require.Equal(t, http.StatusOK, got.status, got.raw)
		end()
	})
}

func TestCallbackInEveryState(t *testing.T) {
	t.Parallel()
	s, id, callback := soldOut(t)
	for i, set := range []string{
		`UPDATE replenishments SET state = 'requested' WHERE id = $1`,
		`UPDATE replenishments SET state = 'accepted', accepted_at = now(), production_id = 'p' WHERE id = $1`,
		`UPDATE replenishments SET state = 'refused', refusal = 'no', closed_at = '2025-01-01' WHERE id = $1`,
		`UPDATE replenishments SET state = 'cancelled', closed_at = '2025-01-01' WHERE id = $1`,
	} {
		s.exec(set, id)
		require.Equal(t, http.StatusOK, s.deliver(callback, donut, "10").status, set)
		require.Equal(t, http.StatusOK, s.deliver(callback, donut, "10").status, set)
		require.Equal(t, 10, s.stock(donut), set)
		require.Equal(t, "delivered", one[string](s, `SELECT state FROM replenishments WHERE id = $1`, id), set)
		require.Equal(t, i+1, s.events(schema.TypeStockReplenished), set)
		s.requireConserved()

		require.Equal(t, http.StatusOK, s.buy(donut, 10).status)
		id = uuid.MustParse(s.buy(donut, 1).str("replenishmentId"))
		callback = s.callbackOf(id)
	}
}

// A late delivery of a refused one leaves its successor open.
func TestLateCallback(t *testing.T) {
	t.Parallel()
	s, first, callback := soldOut(t)
	s.exec(`UPDATE replenishments SET state = 'refused', refusal = 'no', closed_at = '2025-01-01'`)
	second := s.buy(donut, 1).str("replenishmentId")
	require.NotEqual(t, first.String(), second)
	require.Equal(t, http.StatusOK, s.deliver(callback, donut, "1").status)
	require.Equal(t, http.StatusOK, s.buy(donut, 1).status)
	require.Equal(t, second, s.buy(donut, 1).str("replenishmentId"))
	require.Equal(t, http.StatusOK, s.deliver(s.callbackOf(uuid.MustParse(second)), donut, "10").status)
	require.Equal(t, 10, s.stock(donut))
	s.requireConserved()
}

func TestCallbackBadInput(t *testing.T) {
	t.Parallel()
	s, id, callback := soldOut(t)
	without := func(name string) string {
		var members map[string]string
		_ = json.Unmarshal([]byte(delivers(donut, "10")), &members)
		delete(members, name)
		body, _ := json.Marshal(members)
		return string(body)
	}
	good := delivers(donut, "10")
	address := "/stock-increase/" + id.String()
	another := s.api.CallbackURL(id, donut, 11)
	for _, c := range []struct {
		name, target, body string
		status             int
		field              string
	}{
		{"no signature", address, good, 403, ""},
		{"empty signature", address + "?sig=", good, 403, ""},
		{"wrong signature", address + "?sig=" + strings.Repeat("A", 43), good, 403, ""},
		{"signature of another quantity", strings.TrimPrefix(another, publicly), good, 403, ""},
		{"signature cut short", callback[:len(callback)-1], good, 403, ""},
		{"signature with padding", callback + "=", good, 403, ""},
		{"two signatures", callback + "&sig=x", good, 403, ""},
		{"wrong signature and a bad body", address + "?sig=" + strings.Repeat("A", 43), `{`, 403, ""},
		{"wrong signature and a huge body", address + "?sig=" + strings.Repeat("A", 43), strings.Repeat("x", 1<<20), 403, ""},
		{"unknown replenishment", strings.Replace(callback, id.String(), uuid.NewString(), 1), good, 404, ""},
		{"malformed id", "/stock-increase/1?sig=" + strings.Repeat("A", 43), good, 404, ""},
		{"id in another form", strings.Replace(callback, id.String(), strings.ToUpper(id.String()), 1), good, 404, ""},
		{"NUL in the id", "/stock-increase/%00?sig=" + strings.Repeat("A", 43), good, 404, ""},
		{"no body", callback, "", 400, ""},
		{"malformed", callback, `{"a"`, 400, ""},
		{"trailing", callback, good + "{}", 400, ""},
		{"array", callback, "[" + good + "]", 422, ""},
		{"huge", callback, strings.Repeat(" ", 64<<10) + good, 413, ""},
		{"no product", callback, without("MessageAttributeProductId"), 422, "MessageAttributeProductId"},
		{"no count", callback, without("MessageAttributeProductCnt"), 422, "MessageAttributeProductCnt"},
		{"another product", callback, delivers(cream, "10"), 422, "MessageAttributeProductId"},
		{"count as a number", callback, `{"MessageAttributeProductId":"CP-502101","MessageAttributeProductCnt":10}`, 422, "MessageAttributeProductCnt"},
		{"count null", callback, `{"MessageAttributeProductId":"CP-502101","MessageAttributeProductCnt":null}`, 422, "MessageAttributeProductCnt"},
		{"group as a number", callback, `{"MessageAttributeProductId":"CP-502101","MessageAttributeProductCnt":"10","MessageGroupId":1}`, 422, "MessageGroupId"},
		{"count twice", callback, `{"MessageAttributeProductId":"CP-502101","MessageAttributeProductCnt":"10","MessageAttributeProductCnt":"9"}`, 422, "MessageAttributeProductCnt"},
		{"count 0", callback, delivers(donut, "0"), 422, "MessageAttributeProductCnt"},
		{"count 01", callback, delivers(donut, "01"), 422, "MessageAttributeProductCnt"},
		{"count +1", callback, delivers(donut, "+1"), 422, "MessageAttributeProductCnt"},
		{"count -1", callback, delivers(donut, "-1"), 422, "MessageAttributeProductCnt"},
		{"count 1.0", callback, delivers(donut, "1.0"), 422, "MessageAttributeProductCnt"},
		{"count with a line feed", callback, delivers(donut, "1\n"), 422, "MessageAttributeProductCnt"},
		{"count of full-width digits", callback, delivers(donut, "１"), 422, "MessageAttributeProductCnt"},
		{"count of eight digits", callback, delivers(donut, "10000000"), 422, "MessageAttributeProductCnt"},
		{"more than was asked", callback, delivers(donut, "11"), 422, "MessageAttributeProductCnt"},
	} {
		got := s.send("POST", c.target, c.body, "Content-Type", "application/json")
		require.Equal(t, c.status, got.status, "%s: %s", c.name, got.raw)
		require.Equal(t, c.field, got.str("field"), c.name)
	}
	require.Equal(t, 0, s.stock(donut))
	require.Equal(t, "requested", one[string](s, `SELECT state FROM replenishments`))
	require.Equal(t, 0, s.events(schema.TypeStockReplenished))

	taken := s.send("POST", callback, `{"id":"theirs","nested":{"a":[1]},`+good[1:], "Content-Type", "text/plain")
	require.Equal(t, http.StatusOK, taken.status, "more members and any content type: "+taken.raw)
}

// A callback address outlives the secret that signed it by one rotation.
func TestSecretRotation(t *testing.T) {
	t.Parallel()
	const later, last = "the second secret, newer", "the third secret, newest"
	s, id, callback := soldOut(t)
	dsn := s.db.Config().ConnString()
	with := func(secrets ...string) *shop {
		return shopOn(t, dsn, dsn, func(c *api.Config) {
			c.CallbackSecrets = nil
			for _, s := range secrets {
				c.CallbackSecrets = append(c.CallbackSecrets, []byte(s))
			}
		})
	}
	rotating, rotated := with(later, secret), with(last, later)
	require.NotEqual(t, s.api.CallbackURL(id, donut, 10), rotating.api.CallbackURL(id, donut, 10), "the first secret signs")
	require.Equal(t, http.StatusForbidden, rotated.deliver(callback, donut, "10").status)
	require.Equal(t, http.StatusOK, rotating.deliver(callback, donut, "10").status)
	require.Equal(t, http.StatusOK, s.deliver(callback, donut, "10").status)
}

func FuzzSignature(f *testing.F) {
	id := uuid.MustParse("01983f6e-9b1a-7c3e-8d21-0123456789ab")
	f.Add([]byte(secret), "CP-502101", 10, "CP-50210", 110)
	f.Add([]byte(secret), "a1", 1, "a", 11)
	f.Fuzz(func(t *testing.T, key []byte, sku string, quantity int, otherSKU string, otherQuantity int) {
		require.True(t, api.Verify(key, key, id, sku, quantity))
		require.False(t, api.Verify(key, append([]byte("x"), key...), id, sku, quantity))
		same := sku == otherSKU && quantity == otherQuantity
		require.Equal(t, same, string(api.Sign(key, id, sku, quantity)) == string(api.Sign(key, id, otherSKU, otherQuantity)))
	})
}

func FuzzDecodeSig(f *testing.F) {
	f.Add(strings.Repeat("A", 43))
	f.Add(strings.Repeat("_", 43))
	f.Fuzz(func(t *testing.T, sig string) {
		if mac, ok := api.DecodeSig(sig); ok {
			require.Len(t, mac, 32)
		}
	})
}
