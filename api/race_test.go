package api_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// together runs all of fs at once.
func together(fs ...func()) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, f := range fs {
		wg.Go(func() {
			<-start
			f()
		})
	}
	close(start)
	wg.Wait()
}

// A delivery and failing checkouts race on one product: production is never
// ordered while the stock would do, and a refusal always names a replenishment.
// In every second round the replenishment was cancelled before, so that the
// late delivery races the opening of the next one. The database itself watches
// each being opened.
func TestCallbackRacesFailingCheckouts(t *testing.T) {
	t.Parallel()
	const rounds = 1000
	s := newShop(t)
	s.exec(`UPDATE products SET reorder_quantity = 1, max_replenishment = 1 WHERE sku = $1`, donut)
	s.exec(`CREATE TABLE needless (replenishment uuid)`)
	s.exec(`CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
		IF (SELECT stock FROM products WHERE sku = NEW.sku) >= 1 THEN INSERT INTO needless VALUES (NEW.id); END IF;
		RETURN NEW; END $$`)
	s.exec(`CREATE TRIGGER watch BEFORE INSERT ON replenishments FOR EACH ROW EXECUTE FUNCTION watch()`)

	named := map[string]bool{}
	// sellOut buys until it is refused, and returns the replenishment that is open then.
	sellOut := func() string {
		for {
			if got := s.buy(donut, 1); got.status != http.StatusOK {
				return refusalNames(t, got)
			}
		}
	}
	open := sellOut()
	raced := 0
	for round := range rounds {
		named[open] = true
		if round%2 == 1 {
			s.exec(`UPDATE replenishments SET state = 'cancelled', closed_at = now() WHERE id = $1`, open)
		}
		callback := s.api.CallbackURL(uuid.MustParse(open), donut, 1)
		var delivered, one, other answer
		together(
			func() { delivered = s.deliver(callback, donut, "1") },
			func() { one = s.buy(donut, 1) },
			func() { other = s.buy(donut, 1) },
		)
		require.Equal(t, http.StatusOK, delivered.status, delivered.raw)
		sold := 0
		for _, got := range []answer{one, other} {
			if got.status == http.StatusOK {
				sold++
				continue
			}
			named[refusalNames(t, got)] = true
		}
		require.LessOrEqual(t, sold, 1)
		raced += sold
		open = sellOut()
	}
	t.Logf("a checkout met the delivery in %d of %d rounds", raced, rounds)
	named[open] = true
	require.Equal(t, 0, one[int](s, `SELECT count(*) FROM needless`), "production was ordered while there was stock")
	require.Equal(t, len(named), one[int](s, `SELECT count(*) FROM replenishments`), "one that no answer names")
	s.requireConserved()
}

func refusalNames(t *testing.T, got answer) string {
	t.Helper()
	require.Equal(t, http.StatusConflict, got.status, got.raw)
	id, err := uuid.Parse(got.str("replenishmentId"))
	require.NoError(t, err, got.raw)
	require.NotEqual(t, uuid.Nil, id)
	return id.String()
}

// 32 buyers, callbacks among them: every 200 has one order and one event, and
// not a unit is missing.
func TestConcurrentBuyers(t *testing.T) {
	t.Parallel()
	const buyers, each = 32, 25
	s := newShop(t)
	s.exec(`UPDATE products SET stock = 200, initial_stock = 200`)
	var mu sync.Mutex
	orders, statuses := map[string]bool{}, map[int]int{}
	buyer := func() {
		for range each {
			sku := donut
			if rand.IntN(4) == 0 {
				sku = cream
			}
			got := s.buy(sku, 1+rand.IntN(3))
			mu.Lock()
			statuses[got.status]++
			switch got.status {
			case http.StatusOK:
				orders[got.str("orderId")] = true
			case http.StatusConflict:
				if id, err := uuid.Parse(got.str("replenishmentId")); err != nil || id == uuid.Nil {
					t.Errorf("a refusal without a replenishment: %s", got.raw)
				}
			}
			mu.Unlock()
			if got.status == http.StatusConflict {
				id := uuid.MustParse(got.str("replenishmentId"))
				s.deliver(s.api.CallbackURL(id, sku, 10), sku, "10")
			}
		}
	}
	all := make([]func(), buyers)
	for i := range all {
		all[i] = buyer
	}
	together(all...)
	require.Equal(t, buyers*each, statuses[http.StatusOK]+statuses[http.StatusConflict], "%v", statuses)
	require.Len(t, orders, statuses[http.StatusOK])
	require.Equal(t, statuses[http.StatusOK], one[int](s, `SELECT count(*) FROM orders`))
	for _, id := range one[[]string](s, `SELECT array_agg(id::text) FROM orders`) {
		require.True(t, orders[id])
	}
	s.requireConserved()
	raw, _ := json.Marshal(statuses)
	t.Logf("answers: %s", raw)
}
