package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/schema"
)

const alreadyVIP = "superseded: the customer is VIP already"

func setupVIP(t *testing.T) *world {
	t.Helper()
	return setupOf(t, schema.ConsumerVIP, customers, schema.RoleCustomers)
}

func newVIP(t require.TestingT) *consumers.VIP {
	vip, err := consumers.NewVIP(consumers.VIPConfig{})
	require.NoError(t, err)
	return vip
}

// order commits the event of an order, a line for each quantity.
func (w *world) order(customer string, quantities ...int64) schema.Event {
	w.Helper()
	return w.append(newOrder(customer, quantities...))
}

func newOrder(customer string, quantities ...int64) schema.OrderPlaced {
	o := schema.OrderPlaced{OrderID: schema.NewID(), CustomerID: customer}
	for i, n := range quantities {
		o.Lines = append(o.Lines, schema.Line{SKU: fmt.Sprintf("SKU-%d", i), Quantity: n})
		o.Quantity += n
	}
	return o
}

// orderOf is the id of the order that an event tells of.
func (w *world) orderOf(e schema.Event) uuid.UUID {
	w.Helper()
	envelope, err := schema.Decode([]byte(e.Body))
	require.NoError(w, err)
	p, err := envelope.Payload()
	require.NoError(w, err)
	return p.(schema.OrderPlaced).OrderID
}

type customerRow struct {
	Type            string
	Promoted        bool
	PromotedByOrder uuid.UUID
}

// customer is a customer's row, the zero one where there is none.
func (w *world) customer(id string) customerRow {
	w.Helper()
	var c customerRow
	err := w.owner.QueryRow(w.Context(), `SELECT type, promoted_at IS NOT NULL, coalesce(promoted_by_order, $2) FROM customers WHERE id = $1`, id, uuid.Nil).
		Scan(&c.Type, &c.Promoted, &c.PromotedByOrder)
	if err != nil {
		require.ErrorIs(w, err, pgx.ErrNoRows)
	}
	return c
}

// told is every customer.promoted of a customer.
func (w *world) told(id string) []schema.Envelope {
	w.Helper()
	rows, err := w.owner.Query(w.Context(), `SELECT body FROM outbox WHERE type = $1 AND body::jsonb->'data'->>'customerId' = $2 ORDER BY seq`, schema.TypeCustomerPromoted, id)
	require.NoError(w, err)
	bodies, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w, err)
	all := make([]schema.Envelope, len(bodies))
	for i, body := range bodies {
		all[i], err = schema.Decode([]byte(body))
		require.NoError(w, err)
	}
	return all
}

// requirePromoted holds a customer to one promotion by an order, with one event
// that the order's inbox row refers to.
func (w *world) requirePromoted(id string, by schema.Event) {
	w.Helper()
	order := w.orderOf(by)
	require.Equal(w, customerRow{Type: "vip", Promoted: true, PromotedByOrder: order}, w.customer(id))
	told := w.told(id)
	require.Len(w, told, 1)
	require.Equal(w, told[0].ID.String(), w.inbox(by.ID, uuid.Nil).effect)
	p, err := told[0].Payload()
	require.NoError(w, err)
	require.Equal(w, id, p.(schema.CustomerPromoted).CustomerID)
	require.Equal(w, order, p.(schema.CustomerPromoted).OrderID)
}

func TestVIPPromotes(t *testing.T) {
	for name, test := range map[string]struct {
		known      string // the customer's type before
		quantities []int64
	}{
		"100":                     {"normal", []int64{100}},
		"101":                     {"normal", []int64{101}},
		"all lines together":      {"normal", []int64{60, 39, 1}},
		"a customer nobody knows": {"", []int64{100}},
	} {
		t.Run(name, func(t *testing.T) {
			w := setupVIP(t)
			if test.known != "" {
				w.exec(`INSERT INTO customers (id, name, mail, type) VALUES ('c-1', '김하나', 'hana@example.com', $1)`, test.known)
			}
			e := w.order("c-1", test.quantities...)
			w.publish(e)
			worker := w.start(newVIP(t))
			require.Equal(t, 1, w.await(e.ID, "done").attempt)
			w.requirePromoted("c-1", e)
			told := w.told("c-1")[0]
			require.Equal(t, e.Traceparent, told.Traceparent, "one trace from the checkout on")
			require.Equal(t, "/restock/customers", told.Source)
			p, err := told.Payload()
			require.NoError(t, err)
			require.Equal(t, sum(test.quantities), p.(schema.CustomerPromoted).Quantity)
			if test.known != "" {
				require.Equal(t, "김하나", scan[string](w, `SELECT name FROM customers WHERE id = 'c-1'`))
			}
			w.awaitEmpty()
			require.NoError(t, worker.stop())
			require.InDelta(t, 0, worker.metric(w, "repeated_uncertain_total"), 0)
		})
	}
}

func sum(quantities []int64) (n int64) {
	for _, q := range quantities {
		n += q
	}
	return n
}

// 99 units do not promote: the topic's filter keeps the order out of the queue,
// the worker drops what is in it all the same, and the handler ignores what the
// worker lets through.
func TestVIPUnderTheThreshold(t *testing.T) {
	w := setupVIP(t)
	filtered, dropped, ignored := w.order("c-1", 99), w.order("c-2", 50, 49), w.order("c-3", 99)
	w.publish(filtered)
	waiting, inFlight := w.counts(w.queue.URL)
	require.Zero(t, waiting+inFlight, "kept out by the filter")

	w.send("g", dropped.Body)
	strict := w.start(newVIP(t))
	w.awaitEmpty()
	require.NoError(t, strict.stop())
	require.InDelta(t, 1, strict.metric(w, "messages_total", "unwanted"), 0)

	w.send("g", ignored.Body)
	w.start(newVIP(t), func(c *consumers.Config) { c.Interest.MinQuantity = 1 })
	require.Equal(t, "ignored: 99 units, and 100 make VIP", w.await(ignored.ID, "done").effect)
	require.Zero(t, scan[int](w, `SELECT count(*) FROM customers`))
	require.Zero(t, scan[int](w, `SELECT count(*) FROM outbox WHERE type = $1`, schema.TypeCustomerPromoted))
}

func TestVIPThresholdOfItsOwn(t *testing.T) {
	w := setupVIP(t)
	vip, err := consumers.NewVIP(consumers.VIPConfig{Threshold: 101})
	require.NoError(t, err)
	under, enough := w.order("c-1", 100), w.order("c-2", 101)
	w.publish(under)
	w.publish(enough)
	w.start(vip)
	require.Equal(t, "ignored: 100 units, and 101 make VIP", w.await(under.ID, "done").effect)
	w.await(enough.ID, "done")
	w.requirePromoted("c-2", enough)
	require.Empty(t, w.customer("c-1"))
}

func TestVIPIgnoresAnonymousOrders(t *testing.T) {
	w := setupVIP(t)
	e := w.order("", 500)
	w.publish(e)
	w.start(newVIP(t))
	require.Equal(t, "ignored: the order has no customer", w.await(e.ID, "done").effect)
	w.awaitEmpty()
	require.Zero(t, scan[int](w, `SELECT count(*) FROM customers`))
}

// A VIP stays what they are, by whatever they became it, and nothing is told.
func TestVIPAlready(t *testing.T) {
	w := setupVIP(t)
	w.exec(`INSERT INTO customers (id, type) VALUES ('by hand', 'vip')`)
	first, second, third := w.order("by order", 100), w.order("by order", 1000), w.order("by hand", 100)
	for _, e := range []schema.Event{first, second, third} {
		w.publish(e)
	}
	w.start(newVIP(t))
	require.Equal(t, alreadyVIP, w.await(second.ID, "done").effect)
	require.Equal(t, alreadyVIP, w.await(third.ID, "done").effect)
	w.requirePromoted("by order", first)
	require.Equal(t, customerRow{Type: "vip"}, w.customer("by hand"))
	require.Empty(t, w.told("by hand"))
}

func TestVIPDuplicateAndReplay(t *testing.T) {
	w := setupVIP(t)
	e, replay := w.order("c-1", 100), uuid.New()
	w.publish(e)
	w.publish(e)
	w.publish(e, forced(replay))
	worker := w.start(newVIP(t))
	w.awaitEmpty()
	w.requirePromoted("c-1", e)
	require.Equal(t, alreadyVIP, w.inbox(e.ID, replay).effect)
	require.NoError(t, worker.stop())
	require.InDelta(t, 1, worker.metric(w, "messages_total", "duplicate"), 0)
}

// Two orders of one customer are recorded at the very same time by two workers:
// the one waits for the other and promotes nobody.
func TestVIPTwoOrdersAtOnce(t *testing.T) {
	for name, known := range map[string]bool{"known": true, "unknown": false} {
		t.Run(name, func(t *testing.T) {
			w := setupVIP(t)
			blocker, err := w.owner.Begin(t.Context())
			require.NoError(t, err)
			defer blocker.Rollback(context.Background())
			if known {
				w.exec(`INSERT INTO customers (id) VALUES ('c-1')`)
				_, err = blocker.Exec(t.Context(), `SELECT FROM customers WHERE id = 'c-1' FOR UPDATE`)
			} else {
				_, err = blocker.Exec(t.Context(), `INSERT INTO customers (id) VALUES ('c-1')`)
			}
			require.NoError(t, err)
			events := []schema.Event{w.order("c-1", 100), w.order("c-1", 200)}
			for i, e := range events {
				w.send(fmt.Sprintf("apart-%d", i), e.Body) // groups would keep them apart
				w.start(newVIP(t))
			}
			w.eventually("both are at the customer's row", func() bool {
				return scan[int](w, `SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND usename = $2 AND wait_event_type = 'Lock'`, w.db.Name, w.role) == 2
			})
			require.NoError(t, blocker.Rollback(t.Context()))
			var effects []string
			for _, e := range events {
				effects = append(effects, w.await(e.ID, "done").effect)
			}
			require.Contains(t, effects, alreadyVIP)
			for i, e := range events {
				if effects[i] != alreadyVIP {
					w.requirePromoted("c-1", e)
				}
			}
			require.Len(t, w.told("c-1"), 1)
		})
	}
}

// Many orders of a few customers, out of order, doubled, over two workers.
func TestVIPStorm(t *testing.T) {
	w := setupVIP(t)
	const orders, buyers = 60, 5
	var events []schema.Event
	for i := range orders {
		e := w.order(fmt.Sprintf("c-%d", i%buyers), 100+rand.Int64N(50))
		events = append(events, e)
		for range 1 + rand.IntN(2) {
			w.send(uuid.NewString(), e.Body)
		}
	}
	for range 2 {
		w.start(newVIP(t))
	}
	storm := 0
	w.eventually("all is handled and the queue empty", func() bool {
		if storm++; storm%20 == 0 {
			w.comeBack()
		}
		waiting, inFlight := w.counts(w.queue.URL)
		return waiting+inFlight == 0
	})
	promoted := 0
	for i, e := range events {
		row := w.inbox(e.ID, uuid.Nil)
		require.Equal(t, "done", row.state)
		if row.effect != alreadyVIP {
			promoted++
			w.requirePromoted(fmt.Sprintf("c-%d", i%buyers), e)
		}
	}
	require.Equal(t, buyers, promoted)
	require.Equal(t, buyers, scan[int](w, `SELECT count(*) FROM outbox WHERE type = $1`, schema.TypeCustomerPromoted))
}

// failing makes the first times that customer.promoted is appended fail by sql.
func (w *world) failing(times int, sql string) {
	w.Helper()
	w.exec(`CREATE SEQUENCE tries`)
	w.exec(fmt.Sprintf(`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
		IF NEW.type = '%s' AND nextval('public.tries') <= %d THEN %s; END IF;
		RETURN NEW;
	END $$`, schema.TypeCustomerPromoted, times, sql))
	w.exec(`CREATE TRIGGER fail BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION fail()`)
}

// A connection that breaks in the transaction repeats the record and costs no
// attempt.
func TestVIPRecordIsCut(t *testing.T) {
	w := setupVIP(t)
	w.failing(2, `PERFORM pg_terminate_backend(pg_backend_pid())`)
	e := w.order("c-1", 100)
	w.publish(e)
	w.start(newVIP(t))
	require.Equal(t, 1, w.await(e.ID, "done").attempt)
	w.requirePromoted("c-1", e)
}

// A worker that died with the event claimed is taken over from.
func TestVIPWorkerDied(t *testing.T) {
	w := setupVIP(t)
	e := w.order("c-1", 100)
	w.exec(`INSERT INTO inbox (day, consumer, event_id, state, attempt, lease_until) VALUES ($1, 'vip', $2, 'claimed', 1, now())`, e.Day, e.ID)
	w.publish(e)
	w.start(newVIP(t))
	require.Equal(t, 2, w.await(e.ID, "done").attempt)
	w.requirePromoted("c-1", e)
}

// However often an effect is recorded, it tells the same event.
func TestVIPTellsTheSameEventEachTry(t *testing.T) {
	w := setupVIP(t)
	effect, err := newVIP(t).Handle(t.Context(), consumers.Delivery{Payload: newOrder("c-1", 100), Attempt: 1})
	require.NoError(t, err)
	var references []string
	errCut := errors.New("cut")
	for try := range 3 {
		err := pgx.BeginFunc(t.Context(), w.pool, func(tx pgx.Tx) error {
			if err := effect.Record(t.Context(), tx); err != nil {
				return err
			}
			references = append(references, effect.Found())
			if try == 0 {
				return errCut
			}
			return nil
		})
		if try == 0 {
			require.ErrorIs(t, err, errCut)
			require.Empty(t, w.customer("c-1"))
			continue
		}
		require.NoError(t, err)
	}
	told := w.told("c-1")
	require.Len(t, told, 1)
	require.Equal(t, []string{told[0].ID.String(), told[0].ID.String(), alreadyVIP}, references)
}

// Whatever a customer is called, they are that customer and nothing else.
func TestVIPHostileCustomers(t *testing.T) {
	w := setupVIP(t)
	ids := []string{
		`'; DROP TABLE customers; --`, `c-1' OR '1'='1`, `$1`, `%s%n`, `\`, `null`, `{"type":"vip"}`, ` `, "a\nb\t",
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `../../etc/passwd`,
		strings.Repeat("🍩", 128), strings.Repeat("x", 128), "\u202eevil\u202c", "مرحبا", "\u00e9", "e\u0301",
	}
	events := make([]schema.Event, len(ids))
	for i, id := range ids {
		events[i] = w.order(id, 100)
		w.publish(events[i])
		w.publish(w.order(id, 100))
	}
	w.start(newVIP(t))
	w.awaitEmpty()
	for i, id := range ids {
		w.requirePromoted(id, events[i])
	}
	require.Equal(t, len(ids), scan[int](w, `SELECT count(*) FROM customers`))
	require.Equal(t, len(ids), scan[int](w, `SELECT count(*) FROM outbox WHERE type = $1`, schema.TypeCustomerPromoted))
}

// What no customer can be called is dead at once, with its reason.
func TestVIPPoison(t *testing.T) {
	w := setupVIP(t)
	tooLong, unequal := w.order(strings.Repeat("🍩", 129), 100), newOrder("c-1", 100)
	unequal.Lines[0].Quantity = 1
	wrong := w.append(unequal)
	w.publish(tooLong)
	w.publish(wrong)
	w.start(newVIP(t))
	require.Equal(t, "decode order.placed: customerId is missing or out of range", w.await(tooLong.ID, "dead").lastError)
	require.Equal(t, "decode order.placed: lines is missing or out of range", w.await(wrong.ID, "dead").lastError)
	w.awaitEmpty()
	require.Len(t, w.deadLetters(), 2)
	require.Zero(t, scan[int](w, `SELECT count(*) FROM customers`))
}

// The handler promotes by the orders that its consumer's interest wants, but for
// anonymous ones.
func TestVIPPromotesWhatItsInterestWants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		threshold := rapid.Int64Range(1, 300).Draw(t, "threshold")
		vip, err := consumers.NewVIP(consumers.VIPConfig{Threshold: threshold})
		require.NoError(t, err)
		o := newOrder(rapid.SampledFrom([]string{"", "c-1", "🍩"}).Draw(t, "customer"),
			rapid.SliceOfN(rapid.Int64Range(1, 120), 1, 5).Draw(t, "lines")...)
		e, err := schema.New(schema.NewID(), o, "")
		require.NoError(t, err)
		envelope, err := schema.Decode([]byte(`{"time":"2026-03-05T00:00:01Z",` + e.Body[1:]))
		require.NoError(t, err)
		p, err := envelope.Payload()
		require.NoError(t, err)
		interest, _ := schema.InterestOf(schema.ConsumerVIP, threshold)
		effect, err := vip.Handle(context.Background(), consumers.Delivery{Event: envelope, Payload: p, Attempt: 1})
		require.NoError(t, err)
		require.Equal(t, interest.Wants(envelope) && o.CustomerID != "", effect.Record != nil)
		require.Equal(t, effect.Record == nil, effect.Reference != "", "what is ignored says why")
	})
}

func TestVIPConfigAndPayloadAreChecked(t *testing.T) {
	t.Parallel()
	_, err := consumers.NewVIP(consumers.VIPConfig{Threshold: -1})
	require.ErrorContains(t, err, "at least 1 unit")
	_, err = newVIP(t).Handle(t.Context(), consumers.Delivery{Event: schema.Envelope{Type: schema.TypeStockReplenished}, Payload: schema.StockReplenished{}})
	require.ErrorContains(t, err, "stock.replenished is no event for vip")
}

// A customers database that was made anew has no inbox of the days before. What a replay
// brings of them is handled all the same, once.
func TestVIPOfADatabaseYoungerThanItsOrders(t *testing.T) {
	w := setupVIP(t)
	e := w.order("c-1", 100)
	day := e.Day.AddDate(0, 0, -10)
	e.Body = strings.Replace(e.Body, e.Day.Format("2006-01-02T"), day.Format("2006-01-02T"), 1)
	w.publish(e)
	w.publish(e)
	w.publish(e, schema.Replay{ID: uuid.New()})
	w.start(newVIP(t))
	w.await(e.ID, "done")
	w.awaitEmpty()
	w.requirePromoted("c-1", e)
	require.Equal(t, day.Format("2006-01-02"), scan[string](w, `SELECT day::text FROM inbox`), "under its own day, where its replays find it")
	require.Empty(t, w.deadLetters())
}
