package ops_test

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/ops"
)

// parts reads a list part by part, to its end.
func parts[T any](t *testing.T, most int, list func(ops.Cursor) (ops.Page[T], error)) (all []T) {
	t.Helper()
	for c := (ops.Cursor{Most: most}); ; {
		part, err := list(c)
		require.NoError(t, err)
		require.LessOrEqual(t, len(part.Items), most)
		require.NotNil(t, part.Items)
		all = append(all, part.Items...)
		if c.After = part.Next; c.After == "" {
			return all
		}
	}
}

// TestListsComeInParts: part by part a list is what it is at once, also where many stand
// at the same moment.
func TestListsComeInParts(t *testing.T) {
	s := newShop(t)
	s.exec(s.store, `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
		SELECT 'p' || n, 'p', 0, 0, 1, 'f', 'm@example.com' FROM generate_series(1, 7) n`)
	s.exec(s.store, `INSERT INTO replenishments (id, sku, quantity, event_id, requested_at) SELECT gen_random_uuid(), 'p' || n, 1, gen_random_uuid(), now() FROM generate_series(1, 7) n`)
	s.exec(s.store, `INSERT INTO parked (day, event_id, message_group, seq, reason, detail, parked_at)
		SELECT $1, gen_random_uuid(), 'g' || n % 5, n, 'rejected', 'x', now() FROM generate_series(1, 15) n`, s.today)
	for range 5 {
		s.write(&event{id: uuid.New(), kind: "request", group: "a", sent: "published"})
	}
	replays, err := ops.Pipeline{Store: s.storeLook, VIPThreshold: 100}.Replays("store", "me", zerolog.Nop())
	require.NoError(t, err)
	for range 5 {
		_, err := replays.Start(t.Context(), ops.ReplaySelection{Groups: []string{"a"}}, ops.ReplayOptions{})
		require.NoError(t, err)
	}
	parked := ops.NewParked(s.storeLook, "me", zerolog.Nop())
	open := ops.NewReplenishments(s.storeLook, nil, "", "me", zerolog.Nop())
	tracer := ops.NewTracer(ops.Pipeline{Store: s.storeLook, Customers: s.customersLook, VIPThreshold: 100})
	same := func(name string, wanted int, list func(most int) []string) {
		whole := list(ops.MaxPage)
		require.Len(t, whole, wanted, name)
		for most := 1; most <= wanted; most++ {
			require.Equal(t, whole, list(most), "%s, %d at once", name, most)
		}
	}
	same("groups", 5, func(most int) []string {
		return texts(parts(t, most, func(c ops.Cursor) (ops.Page[ops.ParkedGroup], error) { return parked.List(t.Context(), c) }))
	})
	same("events of a group", 3, func(most int) []string {
		return texts(parts(t, most, func(c ops.Cursor) (ops.Page[ops.ParkedEvent], error) { return parked.Events(t.Context(), "g1", c) }))
	})
	same("replenishments", 7, func(most int) []string {
		return texts(parts(t, most, func(c ops.Cursor) (ops.Page[ops.OpenReplenishment], error) { return open.List(t.Context(), 0, c) }))
	})
	same("replays", 5, func(most int) []string {
		return texts(parts(t, most, func(c ops.Cursor) (ops.Page[ops.ReplayState], error) { return replays.List(t.Context(), c) }))
	})
	same("events", 5, func(most int) []string {
		return texts(parts(t, most, func(c ops.Cursor) (ops.Page[ops.RecentEvent], error) {
			recent, err := tracer.Recent(t.Context(), c)
			return recent.Page, err
		}))
	})
	for _, c := range []ops.Cursor{{Most: -1}, {Most: ops.MaxPage + 1}, {After: "?"}, {After: "W10"}, {After: "WyJ4Il0"}} {
		_, err := replays.List(t.Context(), c)
		require.ErrorIs(t, err, ops.ErrCursor, "%+v", c)
	}
	_, err = parked.List(t.Context(), ops.Cursor{After: base64.RawURLEncoding.EncodeToString([]byte(`["2026-11-23T00:00:00Z","\u0000"]`))})
	require.ErrorIs(t, err, ops.ErrCursor)
}

func texts[T any](items []T) (all []string) {
	for _, item := range items {
		text, err := json.Marshal(item)
		if err != nil {
			panic(err)
		}
		all = append(all, string(text))
	}
	return all
}
