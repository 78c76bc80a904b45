package ops_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// appendWith appends an event in one transaction with another statement, as the shop
// does.
func (s *shop) appendWith(p schema.Payload, sql string, args ...any) uuid.UUID {
	s.Helper()
	e, err := schema.New(schema.NewID(), p, "00-0ace9036183cc723caec61c4749c50a1-00f067aa0ba902b7-01")
	require.NoError(s, err)
	for i, a := range args {
		if a == "event" {
			args[i] = e.ID
		}
	}
	require.NoError(s, pgx.BeginFunc(s.Context(), s.store, func(tx pgx.Tx) error {
		if _, err := tx.Exec(s.Context(), sql, args...); err != nil {
			return err
		}
		return schema.Append(s.Context(), tx, e)
	}))
	return e.ID
}

func (s *shop) product(sku string) {
	s.Helper()
	s.exec(s.store, `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email) VALUES ($1, 'Donut', 1, 1, 1, 'f', 'm@example.com')`, sku)
}

// request opens a replenishment with its event.
func (s *shop) request(sku string) (replenishment, event uuid.UUID) {
	s.Helper()
	replenishment = schema.NewID()
	event = s.appendWith(schema.ReplenishmentRequested{ReplenishmentID: replenishment, SKU: sku, Quantity: 5, FactoryID: "f", Requester: "r", CallbackURL: "http://x/?sig=secret"},
		`INSERT INTO replenishments (id, sku, quantity, event_id) VALUES ($1, $2, 5, $3)`, replenishment, sku, "event")
	return replenishment, event
}

// TestTraceFollowsTheWholeWay: an order to its promotion in the other database, a
// replenishment to its delivery; asked for by any of their ids.
func TestTraceFollowsTheWholeWay(t *testing.T) {
	s := newShop(t)
	s.product("A")
	order := schema.NewID()
	placed := s.appendWith(schema.OrderPlaced{OrderID: order, CustomerID: "c", Quantity: 100, Lines: []schema.Line{{SKU: "A", Quantity: 100}}},
		`INSERT INTO orders (id, sku, quantity, customer_id, remaining_stock) VALUES ($1, 'A', 100, 'c', 0)`, order)
	told, err := schema.New(schema.NewID(), schema.CustomerPromoted{CustomerID: "c", OrderID: order, Quantity: 100}, "")
	require.NoError(t, err)
	require.NoError(t, schema.Append(t.Context(), s.customers, told))
	s.exec(s.customers, `INSERT INTO inbox (day, consumer, event_id, state, attempt, effect) VALUES ($1, 'vip', $2, 'done', 1, $3::uuid::text), ($1, 'marketing', $3, 'dead', 20, NULL)`, s.today, placed, told.ID)
	s.exec(s.customers, `UPDATE inbox SET last_error = 'answered 410' WHERE state = 'dead'`)
	s.exec(s.customers, `INSERT INTO effects (day, event_id, consumer, attempt, kind, outcome, detail, started_at) VALUES ($1, $2, 'marketing', 20, 'marketing.webhook', 'failed', 'answered 410', now())`, s.today, told.ID)
	s.exec(s.store, `INSERT INTO ledger (day, event_id, outcome, message_id, sequence_number) VALUES ($1, $2, 'published', 'm-1', '7')`, s.today, placed)

	replenishment, requested := s.request("A")
	delivered := s.appendWith(schema.StockReplenished{ReplenishmentID: replenishment, SKU: "A", Quantity: 5},
		`UPDATE replenishments SET state = 'delivered', delivered_quantity = 5, delivered_at = now(), closed_at = now() WHERE id = $1`, replenishment)
	s.exec(s.store, `INSERT INTO ads_mails (replenishment_id, sku, stop, stop_sequence, stopped_at) VALUES ($1, 'A', 'sent', 1, now())`, replenishment)

	tracer := ops.NewTracer(ops.Pipeline{Store: s.storeLook, Customers: s.customersLook, VIPThreshold: 100})
	ways := map[uuid.UUID][]uuid.UUID{
		order: {placed, told.ID}, placed: {placed, told.ID}, told.ID: {told.ID},
		replenishment: {requested, delivered}, requested: {requested, delivered}, delivered: {delivered},
	}
	for id, want := range ways {
		found, err := tracer.Trace(t.Context(), id)
		require.NoError(t, err)
		var got []uuid.UUID
		for i, e := range found.Events {
			got = append(got, e.EventID)
			if i > 0 {
				require.Equal(t, want[0], *e.CausedBy)
			}
		}
		require.Equal(t, want, got)
	}
	found, err := tracer.Trace(t.Context(), order)
	require.NoError(t, err)
	require.Equal(t, "m-1", found.Events[0].Published.MessageID)
	require.Equal(t, "0ace9036183cc723caec61c4749c50a1", found.Events[0].TraceID)
	require.Nil(t, found.Events[1].Published)
	marketing := found.Events[1].Consumers[0]
	require.Equal(t, []any{"marketing", "dead", "answered 410", 20}, []any{marketing.Consumer, marketing.State, marketing.LastError, marketing.Calls[0].Attempt})
	found, err = tracer.Trace(t.Context(), replenishment)
	require.NoError(t, err)
	require.Equal(t, []string{"sent", "none"}, []string{found.Replenishment.Stop, found.Replenishment.Resume})
	require.Len(t, found.Events[0].Consumers, 2, "wanted by two, received by none")

	for _, id := range []uuid.UUID{uuid.New(), schema.NewID(), uuid.Nil} {
		_, err = tracer.Trace(t.Context(), id)
		require.ErrorIs(t, err, ops.ErrUnknown)
	}
	alone, err := ops.NewTracer(ops.Pipeline{Store: s.storeLook, VIPThreshold: 100}).Trace(t.Context(), order)
	require.NoError(t, err)
	require.Len(t, alone.Events, 1)
}

// TestTraceShowsAnyRow: one written by hand is shown as far as it can be read.
func TestTraceShowsAnyRow(t *testing.T) {
	s := newShop(t)
	for _, eventType := range []string{"x", schema.TypeReplenishmentRequested, schema.TypeOrderPlaced} {
		id := uuid.New()
		s.exec(s.store, `SELECT append_event($1, $2, 'g', NULL, '{}', '{}', 'rubbish')`, id, eventType)
		found, err := ops.NewTracer(ops.Pipeline{Store: s.storeLook, Customers: s.customersLook, VIPThreshold: 100}).Trace(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, eventType, found.Events[0].Type)
		require.Empty(t, found.Events[0].Consumers)
	}
}

// TestRetryRefuses: what would be asked for twice, or in vain, is not, and nothing is
// changed.
func TestRetryRefuses(t *testing.T) {
	s := newShop(t)
	s.product("A")
	r := ops.NewReplenishments(s.storeLook, nil, "", "somebody", zerolog.Nop())
	replenishment, event := s.request("A")
	refused := func(want string) {
		t.Helper()
		require.ErrorContains(t, r.Retry(t.Context(), replenishment, "why"), want)
		var acts int
		require.NoError(t, s.store.QueryRow(t.Context(), `SELECT count(*) FROM replenishment_acts`).Scan(&acts))
		require.Zero(t, acts)
	}
	refused("is not published yet")
	s.exec(s.store, `INSERT INTO ledger (day, event_id, outcome) VALUES ($1, $2, 'parked')`, s.today, event)
	refused("restock parked send " + event.String())
	s.exec(s.store, `INSERT INTO parked (day, event_id, message_group, seq, reason, detail, state, resolved_at) VALUES ($1, $2, 'A', 1, 'rejected', 'x', 'skipped', now())`, s.today, event)
	refused("was skipped: cancel it")
	s.exec(s.store, `UPDATE ledger SET outcome = 'published'`)
	s.exec(s.store, `INSERT INTO inbox (day, consumer, event_id, state, attempt, lease_until) VALUES ($1, 'factory', $2, 'claimed', 1, now() + interval '1 minute')`, s.today, event)
	refused("being asked at this moment")
	require.ErrorContains(t, r.Retry(t.Context(), replenishment, ""), "being asked")
	s.exec(s.store, `DELETE FROM inbox`)
	require.ErrorContains(t, r.Retry(t.Context(), replenishment, ""), "a reason is needed")
	s.exec(s.store, `DELETE FROM outbox`)
	refused("past retention")
	open, err := r.List(t.Context(), 0, ops.Cursor{})
	require.NoError(t, err)
	require.Len(t, open.Items, 1)
	require.NoError(t, r.Cancel(t.Context(), replenishment, "why"))
	open, err = r.List(t.Context(), -time.Hour, ops.Cursor{})
	require.NoError(t, err)
	require.Empty(t, open.Items)
}

// TestRetryAfterAReplay: an event that the factory's consumer handled as one of a replay
// is handled again, each time that somebody asks for it.
func TestRetryAfterAReplay(t *testing.T) {
	w := setup(t)
	e := w.append("A")
	replenishment, replay := schema.NewID(), schema.NewID()
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := w.owner.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	exec(`INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email) VALUES ('A', 'Donut', 0, 0, 1, 'f', 'm@example.com')`)
	exec(`INSERT INTO replenishments (id, sku, quantity, event_id, requested_at) SELECT $1, 'A', 10, id, created_at FROM outbox WHERE id = $2`, replenishment, e.ID)
	exec(`INSERT INTO ledger (day, event_id, outcome) VALUES ($1, $2, 'published')`, e.Day, e.ID)
	exec(`INSERT INTO inbox (day, consumer, event_id, replay_id, state, attempt, lease_until) VALUES ($1, 'factory', $2, $3, 'claimed', 1, now() + interval '1 minute')`, e.Day, e.ID, replay)

	r := ops.NewReplenishments(w.cfg.Consumers[0].Inbox, w.queues, w.queue.URL, "somebody", zerolog.Nop())
	require.ErrorContains(t, r.Retry(t.Context(), replenishment, "why"), "being asked at this moment")
	exec(`UPDATE inbox SET state = 'done', lease_until = NULL`)
	f := &factory{}
	for n := range 2 {
		require.NoError(t, r.Retry(t.Context(), replenishment, "why"))
		w.work(f)
		require.Len(t, f.handled, n+1)
		require.Equal(t, e.ID, f.handled[n].Event.ID)
		require.Equal(t, map[string]int{"done": n + 2}, w.states())
	}
}
