package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/restock-dev/restock/api"
	"github.com/restock-dev/restock/schema"
)

// model decides wishes one after the other, as the promise says it.
type model struct {
	stock, limit map[string]int64
	standing     map[string]bool
	answered     map[string]string // what was asked, by key
	held         map[string]bool   // keys that somebody else is deciding
	written      []string          // each line of what was bought, and what was left
}

func (m *model) decide(w api.Wish) api.Verdict {
	lines := map[string]int{} // in whatever order
	for i, sku := range w.SKUs {
		lines[sku] = w.Quantities[i]
	}
	asked := fmt.Sprint(lines)
	if before, ok := m.answered[w.Key]; ok {
		return api.Verdict{Outcome: map[bool]string{true: "repeated", false: "mismatch"}[before == asked]}
	}
	if m.held[w.Key] {
		return api.Verdict{Outcome: "in-progress"}
	}
	v := api.Verdict{Outcome: "bought"}
	for i, sku := range w.SKUs {
		asked := int64(w.Quantities[i])
		stock, known := m.stock[sku]
		switch {
		case !known:
			return api.Verdict{Outcome: "unknown", Fault: i}
		case asked > m.limit[sku] && v.Outcome != "over-limit":
			v = api.Verdict{Outcome: "over-limit", Fault: i}
		case asked > stock && v.Outcome != "over-limit":
			v.Short = append(v.Short, sku)
			if v.Outcome != "depleted" {
				v.Outcome = "short"
			}
			if !m.standing[sku] {
				v.Outcome = "depleted"
			}
		}
	}
	if v.Outcome == "over-limit" {
		return v
	}
	for i, sku := range w.SKUs {
		if v.Outcome == "bought" {
			m.stock[sku] -= int64(w.Quantities[i])
			m.written = append(m.written, fmt.Sprint(sku, " ", w.Quantities[i], " ", m.stock[sku]))
		}
		v.Remaining = append(v.Remaining, m.stock[sku])
	}
	if w.Key != "" && v.Outcome != "depleted" {
		m.answered[w.Key] = asked
	}
	return v
}

// What is decided together is decided as if each had come alone, in order.
func TestBatchIsASequence(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`DELETE FROM products`)
	products := []string{"A", "B", "a", "가", "B1"} // the order of locks is not that of a language
	turn := 0
	rapid.Check(t, func(t *rapid.T) {
		turn++
		s.exec(`TRUNCATE products, orders, order_lines, replenishments, outbox, idempotency_keys CASCADE`)
		m := &model{stock: map[string]int64{}, limit: map[string]int64{}, standing: map[string]bool{}, answered: map[string]string{}}
		for _, sku := range products {
			if rapid.IntRange(0, 9).Draw(t, "missing") == 0 {
				continue
			}
			m.stock[sku] = int64(rapid.SampledFrom([]int{0, 1, 5, 20, 1000}).Draw(t, "stock"))
			m.limit[sku] = int64(rapid.SampledFrom([]int{3, 10, 10}).Draw(t, "limit"))
			m.standing[sku] = rapid.Bool().Draw(t, "standing")
			s.exec(`INSERT INTO products (sku, name, stock, initial_stock, max_order_quantity, reorder_quantity, factory_id, manager_email) VALUES ($1, 'p', $2, $2, $3, 1, 'f', 'm@x')`, sku, m.stock[sku], m.limit[sku])
			if m.standing[sku] {
				s.exec(`INSERT INTO replenishments (id, sku, quantity, event_id) VALUES ($1, $2, 1, $1)`, uuid.New(), sku)
			}
		}
		bought := 0
		for range 2 {
			var wishes []api.Wish
			for n := range rapid.IntRange(1, 12).Draw(t, "wishes") {
				w := api.Wish{SKUs: rapid.SliceOfNDistinct(rapid.SampledFrom(products), 1, 3, rapid.ID).Draw(t, "skus")}
				for range w.SKUs {
					w.Quantities = append(w.Quantities, rapid.SampledFrom([]int{1, 1, 2, 3, 8, 11}).Draw(t, "quantity"))
				}
				if rapid.IntRange(0, 2).Draw(t, "keyed") == 0 {
					w.Key = fmt.Sprint(n) // each once in a batch, again in the next
				}
				wishes = append(wishes, w)
			}
			other, err := s.db.Begin(s.t.Context())
			require.NoError(t, err)
			defer func() { _ = other.Rollback(s.t.Context()) }() // or one that fails would keep the next from a connection
			m.held = map[string]bool{}
			for n := range rapid.IntRange(0, 2).Draw(t, "held") {
				m.held[fmt.Sprint(n)] = true
				_, err := other.Exec(s.t.Context(), `SELECT pg_advisory_xact_lock(hashtextextended($1, hashtextextended('', 0)))`, fmt.Sprint(n))
				require.NoError(t, err)
			}
			var want []api.Verdict
			for _, w := range wishes {
				v := m.decide(w)
				want = append(want, v)
				if v.Outcome == "bought" {
					bought++
				}
			}
			got, err := s.api.DecideTogether(s.t.Context(), wishes)
			require.NoError(t, other.Rollback(s.t.Context()))
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		for sku, stock := range m.stock {
			require.EqualValues(t, stock, s.stock(sku))
		}
		require.Equal(t, bought, one[int](s, `SELECT count(*) FROM orders`))
		require.Equal(t, len(m.answered), one[int](s, `SELECT count(*) FROM idempotency_keys`))
		require.Equal(t, bought, s.events(schema.TypeOrderPlaced))
		require.Zero(t, one[int](s, `SELECT count(*) FROM outbox WHERE bucket IS DISTINCT FROM bucket_of(message_group)`))
		require.ElementsMatch(t, m.written, one[[]string](s, `SELECT coalesce(array_agg(concat_ws(' ', sku, quantity, remaining_stock)), '{}') FROM all_order_lines`))
	})
	t.Logf("%d schedules", turn)
}

// offer adds products, ten of each.
func (s *shop) offer(skus ...string) {
	s.t.Helper()
	s.exec(`INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
		SELECT sku, 'p', 10, 10, 1, 'f', 'm@x' FROM unnest($1::text[]) sku`, skus)
}

// A batch that waited for a product's row changes it where the other transaction has put it,
// among few products, which Postgres reads all of, and among many.
func TestBatchBehindAChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		products int
		change   string
	}{
		"in its page": {100, `UPDATE products SET stock = stock - 4 WHERE sku = 'A'`},
		"elsewhere":   {100, `UPDATE products SET stock = stock - 4, name = repeat('가', 200) WHERE sku = 'A'`},
		"among many":  {10_000, `UPDATE products SET stock = stock - 4, name = repeat('가', 200) WHERE sku = 'A'`},
		"twice":       {100, `DO $$ BEGIN UPDATE products SET stock = stock - 1 WHERE sku = 'A'; UPDATE products SET stock = stock - 3 WHERE sku = 'A'; END $$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			skus := []string{"A", "B"}
			for n := range c.products {
				skus = append(skus, fmt.Sprint("P", n))
			}
			s.offer(skus...)
			s.exec(`ANALYZE products`)
			other, err := s.db.Begin(t.Context())
			require.NoError(t, err)
			_, err = other.Exec(t.Context(), c.change)
			require.NoError(t, err)
			var got []api.Verdict
			together(func() {
				got, err = s.api.DecideTogether(t.Context(), []api.Wish{
					{SKUs: []string{"A", "B"}, Quantities: []int{3, 1}}, {SKUs: []string{"A"}, Quantities: []int{2}},
				})
			}, func() {
				s.awaitLockWaiters(1)
				require.NoError(t, other.Commit(t.Context()))
			})
			require.NoError(t, err)
			require.Equal(t, []int64{3, 9}, got[0].Remaining)
			require.Equal(t, []int64{1}, got[1].Remaining)
			require.Equal(t, 1, s.stock("A"))
			require.Equal(t, 9, s.stock("B"))
		})
	}
}

// A batch whose stock was not taken, as by a trigger that somebody made, places no order.
func TestBatchThatTookNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.offer("A", "B")
	s.exec(`CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`)
	s.exec(`CREATE TRIGGER leave BEFORE UPDATE ON products FOR EACH ROW WHEN (OLD.sku = 'A') EXECUTE FUNCTION leave()`)

	_, err := s.api.DecideTogether(t.Context(), []api.Wish{{SKUs: []string{"A", "B"}, Quantities: []int{1, 1}}})
	require.ErrorContains(t, err, "the stock of 2 products was to change, of 1 it did")
	_, err = s.api.DecideTogether(t.Context(), []api.Wish{{SKUs: []string{"A", "B"}, Quantities: []int{11, 1}}, {SKUs: []string{"A", "B"}, Quantities: []int{2, 2}}})
	require.ErrorContains(t, err, "of 1 it did")
	require.Equal(t, 10, s.stock("B"))
	s.requireNothingWritten()
}

// While a transaction holds the committer, others gather, and go as one. One that
// the database cannot take does not touch its neighbours.
func TestBatchWithAPoisonedOne(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *api.Config) { c.StatementTimeout, c.LockTimeout = 2*patience, patience })
	s.exec(`CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.customer_id = 'poison' THEN RAISE EXCEPTION USING ERRCODE = '22P05'; END IF; RETURN NEW; END $$`)
	s.exec(`CREATE TRIGGER poison BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION poison()`)
	release := s.lockProduct(donut)
	defer release()
	answers := make(chan answer, 10)
	go func() { answers <- s.buy(donut, 1) }()
	s.awaitLockWaiters(1)
	for n := range 9 {
		body := `{"sku":"CP-502102"}`
		if n == 4 {
			body = `{"sku":"CP-502102","customerId":"poison"}`
		}
		go func() { answers <- s.checkout(body) }()
	}
	statuses := map[int]int{}
	for range 9 { // the committer goes on when the first one moves aside
		statuses[(<-answers).status]++
	}
	release()
	statuses[(<-answers).status]++
	require.Equal(t, map[int]int{http.StatusOK: 9, http.StatusInternalServerError: 1}, statuses)
	s.requireConserved()
}

// A full queue says so at once.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *api.Config) {
		c.MaxQueue, c.StatementTimeout, c.LockTimeout, c.AcquireTimeout = 1, 2*patience, patience, patience
	})
	release := s.lockProduct(donut)
	defer release()
	answers := make(chan answer, 200)
	for range cap(answers) {
		go func() { answers <- s.buy(donut, 1) }()
	}
	refused := 0
	for refused == 0 { // before the lock is released
		got := <-answers
		require.Equal(t, http.StatusServiceUnavailable, got.status, got.raw)
		require.Equal(t, "overloaded", got.str("type"))
		require.NotEmpty(t, got.header.Get("Retry-After"))
		refused++
	}
	release()
	for range cap(answers) - refused {
		if got := <-answers; got.str("type") == "overloaded" {
			refused++
		}
	}
	require.Equal(t, refused, s.counted("restock_api_checkouts_total", "overloaded"))
	s.requireConserved()
}

// One replenishment for a product, however many of a batch find it short.
func TestBatchOpensOneReplenishment(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`UPDATE products SET stock = 0, initial_stock = 0`)
	named := make(chan answer, 64)
	for n := range cap(named) {
		body := `{"items":[{"sku":"CP-502101"},{"sku":"CP-502102"}]}`
		if n%2 == 0 {
			body = `{}`
		}
		key := fmt.Sprint(n)
		go func() { named <- s.once(key, body) }()
	}
	for range cap(named) {
		got := <-named
		require.Equal(t, http.StatusConflict, got.status, got.raw)
		require.True(t, strings.Contains(got.raw, one[string](s, `SELECT id::text FROM replenishments WHERE sku = 'CP-502101'`)), got.raw)
	}
	require.Equal(t, 2, one[int](s, `SELECT count(*) FROM replenishments`))
	require.Equal(t, 64, one[int](s, `SELECT count(*) FROM idempotency_keys WHERE status = 409`))
	s.requireConserved()
}
