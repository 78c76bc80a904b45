package api_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/api"
)

// held is a shop of which somebody else holds a product, with one checkout in its room
// that waits for the lock.
func held(t *testing.T, sku string, change func(*api.Config)) (s *shop, first chan answer, release func()) {
	t.Helper()
	s = newShop(t, func(c *api.Config) {
		c.MaxConns, c.AcquireTimeout, c.StatementTimeout, c.LockTimeout = 4, patience, 3*patience, 2*patience
		change(c)
	})
	s.exec(`UPDATE products SET stock = 500, initial_stock = 500`)
	release = s.lockProduct(sku)
	t.Cleanup(release)
	first = make(chan answer, 1)
	go func() { first <- s.buy(sku, 1) }()
	require.Eventually(t, func() bool { return s.counted("restock_api_products_held") == 1 }, patience, time.Millisecond)
	require.Eventually(t, func() bool { return s.api.InRoom(sku) == 0 }, patience, time.Millisecond)
	s.awaitLockWaiters(1)
	return s, first, release
}

func (s *shop) awaitRoom(sku string, n int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.api.InRoom(sku) == n }, patience, time.Millisecond)
}

func unchanged(*api.Config) {}

// However many checkouts want a product that somebody holds, they wait on one connection:
// whoever wants something else gets it. Once the product is free they are decided, and
// those after them like all others.
func TestHeldProductTakesOneConnection(t *testing.T) {
	t.Parallel()
	s, first, release := held(t, cream, unchanged)
	answers := make(chan answer, 22)
	for n := range cap(answers) {
		body := `{"sku":"CP-502102"}`
		if n%2 == 0 {
			body = `{"items":[{"sku":"CP-502101"},{"sku":"CP-502102"}]}`
		}
		go func() { answers <- s.checkout(body) }()
	}
	s.awaitRoom(cream, cap(answers))

	for range 10 {
		require.Equal(t, http.StatusOK, s.buy(donut, 1).status)
		require.Equal(t, http.StatusOK, s.send("GET", "/products/"+donut, "").status)
		require.Equal(t, http.StatusOK, s.send("GET", "/readyz", "").status)
	}
	require.Equal(t, 1, one[int](s, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`))
	require.Equal(t, 1, strings.Count(s.log.String(), "locked by another transaction"))

	release()
	require.Equal(t, http.StatusOK, (<-first).status)
	for range cap(answers) {
		got := <-answers
		require.Equal(t, http.StatusOK, got.status, got.raw)
	}
	require.Equal(t, 500-1-cap(answers), s.stock(cream))
	require.Equal(t, 500-10-cap(answers)/2, s.stock(donut))
	s.requireConserved()
	require.Equal(t, http.StatusOK, s.buy(cream, 1).status)
	require.Equal(t, 0, s.counted("restock_api_products_held"))
}

// While a checkout of several products waits for one that somebody holds it holds none
// of the others.
func TestWaitingHoldsNoOtherProduct(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *api.Config) { c.StatementTimeout, c.LockTimeout = 3*patience, 2*patience })
	s.exec(`UPDATE products SET stock = 500, initial_stock = 500`)
	release := s.lockProduct(cream)
	defer release()
	both := make(chan answer, 1)
	go func() { both <- s.checkout(`{"items":[{"sku":"CP-502101"},{"sku":"CP-502102"}]}`) }()
	require.Eventually(t, func() bool { return s.counted("restock_api_products_held") == 1 }, patience, time.Millisecond)
	require.Eventually(t, func() bool { return s.api.InRoom(cream) == 0 }, patience, time.Millisecond)
	s.awaitLockWaiters(1)
	s.exec(`SET lock_timeout = '1s'; UPDATE products SET name = name WHERE sku = 'CP-502101'; RESET lock_timeout`)
	require.Equal(t, http.StatusOK, s.buy(donut, 1).status)
	release()
	got := <-both
	require.Equal(t, http.StatusOK, got.status, got.raw)
	s.requireConserved()
}

// Who waited for a product together does not wait for what only some of them want.
func TestNeighboursWantWhatIsHeld(t *testing.T) {
	t.Parallel()
	s, first, release := held(t, donut, unchanged)
	releaseCream := s.lockProduct(cream)
	defer releaseCream()
	both, alone := make(chan answer, 1), make(chan answer, 1)
	go func() { both <- s.checkout(`{"items":[{"sku":"CP-502101"},{"sku":"CP-502102"}]}`) }()
	s.awaitRoom(donut, 1)
	go func() { alone <- s.buy(donut, 1) }()
	s.awaitRoom(donut, 2)
	release()
	require.Equal(t, http.StatusOK, (<-first).status)
	select {
	case got := <-alone:
		require.Equal(t, http.StatusOK, got.status, got.raw)
	case <-time.After(patience):
		t.Fatal("it waits for a product that it does not want")
	}
	require.Equal(t, http.StatusOK, s.buy(donut, 1).status)
	releaseCream()
	got := <-both
	require.Equal(t, http.StatusOK, got.status, got.raw)
	require.Equal(t, 0, s.counted("restock_api_products_held"))
	s.requireConserved()
}

// A checkout whose client goes away while it waits in a room is never decided, and one
// that finds the room full is refused at once.
func TestRoomIsLeftAndBounded(t *testing.T) {
	t.Parallel()
	s, first, release := held(t, cream, func(c *api.Config) { c.MaxQueue = 2 })
	ctx, leave := context.WithCancel(t.Context())
	left, second := make(chan answer, 1), make(chan answer, 1)
	leaving := s.request("POST", "/checkout", strings.NewReader(`{"sku":"CP-502102"}`), "Content-Type", "application/json")
	go func() { left <- s.do(leaving.WithContext(ctx)) }()
	go func() { second <- s.buy(cream, 1) }()
	s.awaitRoom(cream, 2)
	got := s.buy(cream, 1)
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Equal(t, "overloaded", got.str("type"))
	leave()
	require.Equal(t, http.StatusServiceUnavailable, (<-left).status)
	release()
	require.Equal(t, http.StatusOK, (<-first).status)
	require.Equal(t, http.StatusOK, (<-second).status)
	require.Equal(t, 2, one[int](s, `SELECT count(*) FROM orders`))
	s.requireConserved()
}

// Who waits longer than lock_timeout is answered, and nothing of it is kept.
func TestProductHeldForTooLong(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *api.Config) { c.LockTimeout = 300 * time.Millisecond })
	release := s.lockProduct(donut)
	defer release()
	for range 2 {
		requireUnavailable(t, s.buy(donut, 1))
	}
	require.Equal(t, http.StatusOK, s.buy(cream, 1).status)
	release()
	require.Equal(t, http.StatusOK, s.buy(donut, 1).status)
	s.requireConserved()
}

// More products may be held than there are places to wait for them: the others have
// their connections all the same, and no place is lost.
func TestManyHeldProducts(t *testing.T) {
	t.Parallel()
	s, first, release := held(t, cream, func(c *api.Config) { c.MaxConns, c.AcquireTimeout = 2, 400*time.Millisecond })
	releaseDonut := s.lockProduct(donut)
	defer releaseDonut()
	requireUnavailable(t, s.buy(donut, 1)) // the one place is taken
	require.Equal(t, http.StatusOK, s.send("GET", "/products", "").status)
	release()
	require.Equal(t, http.StatusOK, (<-first).status)
	releaseDonut()
	require.Equal(t, http.StatusOK, s.buy(donut, 1).status)
	s.requireConserved()
}

// A lock of the whole table holds everybody up, and nobody for ever.
func TestLockedTable(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *api.Config) { c.LockTimeout = 300 * time.Millisecond })
	tx, err := s.db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `LOCK TABLE products`)
	require.NoError(t, err)
	requireUnavailable(t, s.buy(donut, 1))
	require.NoError(t, tx.Rollback(t.Context()))
	require.Equal(t, http.StatusOK, s.buy(donut, 1).status)
	s.requireConserved()
}

// Who has no key does not wait where somebody has locked the table of the keys, nor does
// it fail for the sake of those who have one.
func TestKeysAreHeld(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *api.Config) {
		c.MaxConns, c.AcquireTimeout, c.StatementTimeout, c.LockTimeout = 2, patience, 3*patience, 2*patience // one place
	})
	// A new connection prepares statements of the table: both pools have theirs.
	require.Equal(t, http.StatusOK, s.once("before", `{"sku":"CP-502102"}`).status)
	require.Equal(t, http.StatusOK, s.send("GET", "/products", "").status)
	tx, err := s.db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), `LOCK TABLE idempotency_keys`)
	require.NoError(t, err)
	keyed := func(key string) api.Wish { return api.Wish{SKUs: []string{cream}, Quantities: []int{1}, Key: key} }
	first, err := s.api.DecideBatch(keyed("a"))
	require.NoError(t, err)
	s.awaitLockWaiters(1) // in the one place
	both, err := s.api.DecideBatch(keyed("b"), keyed(""))
	require.NoError(t, err)
	require.Equal(t, "bought", <-both[1])
	require.NoError(t, tx.Rollback(t.Context()))
	require.Equal(t, "bought", <-first[0])
	require.Equal(t, "bought", <-both[0])
	s.requireConserved()
}

// A COMMIT without an answer, of who has no key while the keys' table is locked, is no
// reason to decide it once more.
func TestAmbiguousWhileKeysAreHeld(t *testing.T) {
	t.Parallel()
	s, proxy := newShop(t).behind()
	require.Equal(t, http.StatusOK, s.once("before", `{"sku":"CP-502102"}`).status)
	require.Equal(t, http.StatusOK, s.send("GET", "/products", "").status)
	orders := one[int](s, `SELECT count(*) FROM orders`)
	tx, err := s.db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), `LOCK TABLE idempotency_keys`)
	require.NoError(t, err)
	alone := sha256.Sum256([]byte(api.SQLCheckout))
	proxy.arm(cut{needle: "stmt_" + hex.EncodeToString(alone[:24]), reaches: true, thenRefuse: true})
	wish := api.Wish{SKUs: []string{cream}, Quantities: []int{1}}
	keyed := wish
	keyed.Key = "a"
	both, err := s.api.DecideBatch(keyed, wish)
	require.NoError(t, err)
	require.Equal(t, "outcome-unknown", <-both[1])
	require.True(t, proxy.wasCut())
	require.NoError(t, tx.Rollback(t.Context()))
	require.Equal(t, "bought", <-both[0])
	require.Equal(t, orders+2, one[int](s, `SELECT count(*) FROM orders`))
	s.requireConserved()
}
