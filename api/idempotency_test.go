package api_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/api"
)

// once sends a checkout with a key.
func (s *shop) once(key, body string, headers ...string) answer {
	return s.checkout(body, append(headers, "Idempotency-Key", key)...)
}

// requireReplayed holds an answer to be byte for byte the one before.
func requireReplayed(t *testing.T, before, got answer) {
	t.Helper()
	require.Equal(t, before.status, got.status, got.raw)
	require.Equal(t, before.raw, got.raw)
	require.Equal(t, before.header.Get("Content-Type"), got.header.Get("Content-Type"))
	require.Equal(t, before.header.Get("Content-Language"), got.header.Get("Content-Language"))
	require.Equal(t, "true", got.header.Get("Idempotent-Replayed"))
}

func TestKeyIsOneDecision(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	bought := s.once("k", `{}`, "Accept-Language", "en")
	require.Equal(t, http.StatusOK, bought.status, bought.raw)
	require.Empty(t, bought.header.Get("Idempotent-Replayed"))
	require.Equal(t, s.buy(donut, 1).status, http.StatusConflict, "sold out")
	requireReplayed(t, bought, s.once("k", `{"quantity":1,"sku":"CP-502101"}`))
	requireReplayed(t, bought, s.once(`"k"`, ""))

	other, _ := s.behind() // another process
	requireReplayed(t, bought, other.once("k", `{}`))

	reused := s.once("k", `{"quantity":2}`)
	require.Equal(t, http.StatusUnprocessableEntity, reused.status)
	require.Equal(t, "key-reused", reused.str("type"))
	require.Equal(t, http.StatusUnprocessableEntity, s.once("k", `{"items":[{"sku":"CP-502101"}]}`).status, "it would be answered otherwise")

	require.Equal(t, 1, one[int](s, `SELECT count(*) FROM orders`))
	require.Equal(t, 2, s.counted("restock_api_idempotency_keys_total", "repeated"))
	require.Equal(t, 2, s.counted("restock_api_idempotency_keys_total", "key-reused"))
	require.Equal(t, 1, s.counted("restock_api_checkouts_total", "bought"))
	require.Equal(t, 2, s.counted("restock_api_checkouts_total", "repeated"))
	s.requireConserved()
}

// A refusal is a decision too: stock that comes later changes nothing for the key.
func TestKeyOfARefusal(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`UPDATE products SET stock = 0, initial_stock = 0 WHERE sku = $1`, donut)
	opened := s.once("opened", `{}`)
	require.Equal(t, http.StatusConflict, opened.status, opened.raw)
	short := s.once("short", `{"items":[{"sku":"CP-502101","quantity":1},{"sku":"CP-502102","quantity":1}]}`)
	require.Equal(t, http.StatusConflict, short.status, short.raw)
	require.Equal(t, http.StatusOK, s.deliver(s.callbackOf(uuid.MustParse(opened.str("replenishmentId"))), donut, "10").status)
	requireReplayed(t, opened, s.once("opened", `{}`))
	requireReplayed(t, short, s.once("short", `{"items":[{"sku":"CP-502102"},{"sku":"CP-502101"}]}`))
	require.Equal(t, 10, s.stock(donut))
	require.Equal(t, http.StatusOK, s.once("new", `{}`).status)
	s.requireConserved()
}

func TestKeysOfCustomers(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, body := range []string{`{"sku":"CP-502102"}`, `{"sku":"CP-502102","customerId":"a"}`, `{"sku":"CP-502102","customerId":"b"}`} {
		got := s.once("1", body)
		require.Equal(t, http.StatusOK, got.status, got.raw)
		require.Empty(t, got.header.Get("Idempotent-Replayed"))
	}
	require.Equal(t, 3, one[int](s, `SELECT count(*) FROM orders`))
}

// Only decisions are kept, so what was wrong with the request can be mended.
func TestNothingIsKeptOfErrors(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.failing("orders", `RAISE EXCEPTION USING ERRCODE = '57014'`, 1)
	require.Equal(t, http.StatusServiceUnavailable, s.once("k", `{}`).status)
	for _, body := range []string{`{`, `{"quantity":0}`, `{"quantity":1001}`, `{"sku":"CP-000000"}`} {
		require.Contains(t, []int{400, 404, 422}, s.once("k", body).status)
	}
	require.Equal(t, 0, one[int](s, `SELECT count(*) FROM idempotency_keys`))
	require.Equal(t, http.StatusOK, s.once("k", `{}`).status)
}

// After the row is gone the key is a new one.
func TestKeyAfterItsTime(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	first := s.once("k", `{"sku":"CP-502102"}`)
	s.exec(`UPDATE idempotency_keys SET created_at = now() - interval '23 hours 59 minutes'`)
	requireReplayed(t, first, s.once("k", `{"sku":"CP-502102"}`))
	s.exec(`DELETE FROM idempotency_keys`)
	again := s.once("k", `{"sku":"CP-502102"}`)
	require.Equal(t, http.StatusOK, again.status)
	require.NotEqual(t, first.str("orderId"), again.str("orderId"))
}

func TestMalformedKeys(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for said, keys := range map[string][]string{
		"1 to 255 characters":        {"", `""`, strings.Repeat("k", 256), `"` + strings.Repeat("k", 256) + `"`},
		"begins with a quote":        {`"k`, `"k"x`, `"k";a=1`, `"\k"`, `"k\`, `"도"`},
		"UTF-8 and must not contain": {"a\x00b", "a\xffb", "caf\xe9"},
	} {
		for _, key := range keys {
			got := s.once(key, `{}`, "Accept-Language", "en")
			require.Equal(t, http.StatusBadRequest, got.status, "%q: %s", key, got.raw)
			require.Equal(t, "malformed-key", got.str("type"))
			require.Contains(t, got.str("detail"), said, "%q", key)
		}
	}
	require.Equal(t, http.StatusBadRequest, s.once("a", `{}`, "Idempotency-Key", "b").status, "two")
	s.requireNothingWritten()
	for _, key := range []string{strings.Repeat("k", 255), `"` + strings.Repeat("k", 254) + `"`, `"a \"quoted\" \\ one"`, "도너츠", `a"b`} {
		require.Equal(t, http.StatusOK, s.once(key, `{"sku":"CP-502102"}`).status, key)
	}
}

// A key that is being decided, here or elsewhere, is answered at once and holds up
// nobody else.
func TestKeyInProgress(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *api.Config) { c.StatementTimeout, c.LockTimeout = 2*patience, patience })
	other, _ := s.behind()
	release := s.lockProduct(donut)
	defer release()
	first := make(chan answer, 1)
	go func() { first <- s.once("k", `{}`) }()
	s.awaitLockWaiters(1)
	for name, process := range map[string]*shop{"this process": s, "another": other} {
		got := process.once("k", `{}`)
		require.Equal(t, http.StatusConflict, got.status, "%s: %s", name, got.raw)
		require.Equal(t, "request-in-progress", got.str("type"))
		require.NotEmpty(t, got.header.Get("Retry-After"))
		require.Equal(t, http.StatusOK, process.once("other of "+name, `{"sku":"CP-502102"}`).status)
	}
	release()
	bought := <-first
	require.Equal(t, http.StatusOK, bought.status, bought.raw)
	requireReplayed(t, bought, other.once("k", `{}`))
	s.requireConserved()
}

// A try whose COMMIT got no answer, and the next one: one order in any case.
func TestAmbiguousKey(t *testing.T) {
	t.Parallel()
	home := newShop(t)
	for i, c := range ambiguities("구매 완료") { // what is kept is sent along with COMMIT
		s, proxy := home.behind()
		require.Equal(t, http.StatusOK, s.buy(cream, 1).status)
		before := one[int](s, `SELECT count(*) FROM orders`)
		proxy.arm(c.cut)
		key := strconv.Itoa(i)
		got := s.once(key, `{"sku":"CP-502102"}`)
		require.True(t, proxy.wasCut(), c.name)
		require.Equal(t, before+c.committed, one[int](s, `SELECT count(*) FROM orders`), c.name)
		if c.known {
			require.Equal(t, http.StatusOK, got.status, got.raw)
		} else {
			require.Equal(t, "outcome-unknown", got.str("type"), got.raw)
		}
		// A COMMIT that never arrived: the key is in progress until the server sees that the
		// connection is gone.
		require.Eventually(t, func() bool {
			return one[int](s, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == 0
		}, patience, time.Millisecond)
		again := home.once(key, `{"sku":"CP-502102"}`)
		require.Equal(t, http.StatusOK, again.status, again.raw)
		if c.committed == 1 {
			require.Equal(t, got.str("orderId"), again.str("orderId"))
			require.Equal(t, "true", again.header.Get("Idempotent-Replayed"))
		}
		require.Equal(t, before+1, one[int](s, `SELECT count(*) FROM orders`), c.name)
		home.requireConserved()
	}
}
