package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

var blows = flag.Int("fire.blows", 8, "How many blows TestUnderFire strikes.")

// fire is two APIs on one Postgres, with a way that can be cut to each of them and
// from each of them to Postgres.
type fire struct {
	*testing.T

	postgres *localpg.Server
	apis     []*process
	fronts   []*toxiproxy.Proxy // to the APIs
	urls     []string           // of the fronts
	backs    []*toxiproxy.Proxy // from them to Postgres

	decided, tries atomic.Int64
	mu             sync.Mutex
	orders         map[string]bool // that were acknowledged
}

func freeAddress(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func newFire(t *testing.T) *fire {
	t.Helper()
	f := &fire{T: t, orders: map[string]bool{}, postgres: pgtest.NewServer(t, localpg.Config{})}
	require.NoError(t, f.postgres.CreateDatabase(t.Context(), "store", ""))
	require.NoError(t, store.Setup(t.Context(), f.postgres.DSN("store")))
	// Some sell out soon, most last to the end.
	f.sql(fmt.Sprintf(`INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
		SELECT 'P-' || n, 'Donut', s, s, 10, 'F', 'm@example.com'
		  FROM generate_series(0, 50) n, LATERAL (SELECT CASE WHEN n = 0 THEN 500 * %[1]d WHEN n %% 5 = 0 THEN 5 ELSE 20 * %[1]d END) x (s)`, *blows))
	proxies := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := func(name, upstream string) *toxiproxy.Proxy {
		p := toxiproxy.NewProxy(proxies, name, "127.0.0.1:0", upstream)
		require.NoError(t, p.Start())
		t.Cleanup(p.Stop)
		return p
	}
	for n := range 2 {
		dsn, err := url.Parse(f.postgres.RoleDSN(schema.RoleAPI, password, "store"))
		require.NoError(t, err)
		back := proxy(fmt.Sprintf("back %d", n), dsn.Host)
		dsn.Host = back.Listen
		addr := freeAddress(t)
		api := launch(t, []string{"RESTOCK_DATABASE_URL=" + dsn.String(), "RESTOCK_CALLBACK_SECRETS=0123456789abcdef"}, "api", "--addr", addr, "--log-level", "error")
		front := proxy(fmt.Sprintf("front %d", n), addr)
		f.apis, f.backs, f.fronts = append(f.apis, api), append(f.backs, back), append(f.fronts, front)
		f.urls = append(f.urls, "http://"+front.Listen+"/checkout")
	}
	return f
}

// sql runs one statement as the owner, on a connection of its own.
func (f *fire) sql(sql string, into ...any) {
	f.Helper()
	conn, err := pgx.Connect(f.Context(), f.postgres.DSN("store"))
	require.NoError(f, err)
	defer conn.Close(f.Context())
	if len(into) == 0 {
		_, err = conn.Exec(f.Context(), sql)
	} else {
		err = conn.QueryRow(f.Context(), sql).Scan(into...)
	}
	require.NoError(f, err)
}

// body is a checkout: of the hot product, of any other, or of several.
func body(r *rand.Rand) string {
	switch n := 1 + r.IntN(3); r.IntN(4) {
	case 0:
		return fmt.Sprintf(`{"sku":"P-%d","quantity":%d}`, 1+r.IntN(50), n)
	case 1:
		return fmt.Sprintf(`{"items":[{"sku":"P-%d","quantity":%d},{"sku":"P-0"},{"sku":"P-%d"}]}`, 1+r.IntN(50), n, 1+r.IntN(50))
	default:
		return fmt.Sprintf(`{"sku":"P-0","quantity":%d}`, n)
	}
}

// buyer checks out again and again, each until it is decided: a new try at any of the
// two APIs, with the same key.
func (f *fire) buyer(stop context.Context, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	client := &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	for stop.Err() == nil {
		key, body := uuid.NewString(), body(r)
		for f.Context().Err() == nil && !f.try(client, f.urls[r.IntN(2)], key, body) {
			_ = service.Sleep(f.Context(), 10*time.Millisecond) // until the next try
		}
	}
}

// try tells whether the checkout is decided.
func (f *fire) try(client *http.Client, url, key, body string) bool {
	f.tries.Add(1)
	req, err := http.NewRequestWithContext(f.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		f.Error(err)
		return true
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	var said struct{ OrderID, Type string }
	if err != nil || json.Unmarshal(text, &said) != nil {
		return false
	}
	switch {
	case res.StatusCode == http.StatusOK:
		f.mu.Lock()
		if f.orders[said.OrderID] {
			f.Errorf("order %s was given to two", said.OrderID)
		}
		f.orders[said.OrderID] = true
		f.mu.Unlock()
	case res.StatusCode == http.StatusServiceUnavailable, said.Type == "request-in-progress":
		return false
	case said.Type != "out-of-stock":
		f.Errorf("answered %d: %s", res.StatusCode, text)
	}
	f.decided.Add(1)
	return true
}

// strike does one thing that goes wrong, and mends it.
func (f *fire) strike(r *rand.Rand) string {
	n := r.IntN(2)
	cut := func(p *toxiproxy.Proxy) {
		p.Stop()
		// A child that another test is starting holds the port until it has become its program.
		require.Eventually(f, func() bool { return p.Start() == nil }, patience, time.Millisecond)
	}
	switch r.IntN(5) {
	case 0:
		f.apis[n].restart()
		return "kill -9 of an API"
	case 1:
		require.NoError(f, f.postgres.Kill())
		require.NoError(f, f.postgres.Start(f.Context()))
		return "kill -9 of Postgres"
	case 2:
		cut(f.fronts[n])
		return "clients cut off"
	default:
		cut(f.backs[n])
		return "Postgres cut off"
	}
}

// TestUnderFire: 32 clients that try again with the same key until they know, while
// processes are killed and connections cut. -fire.blows makes it longer.
func TestUnderFire(t *testing.T) {
	t.Parallel()
	f := newFire(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	stop, end := context.WithCancel(t.Context())
	defer end()
	var buyers sync.WaitGroup
	for n := range 32 {
		buyers.Go(func() { f.buyer(stop, seed+uint64(n)) })
	}
	r := rand.New(rand.NewPCG(seed, 2))
	for range *blows {
		goal := f.decided.Load() + 20 + r.Int64N(200)
		require.Eventually(t, func() bool { return f.decided.Load() >= goal }, patience, time.Millisecond)
		t.Logf("after %d: %s", f.decided.Load(), f.strike(r))
	}
	end()
	buyers.Wait()
	f.audit()
}

func (f *fire) audit() {
	f.Helper()
	var keys, bought, orders, events, lost int
	var conserved bool
	f.sql(`SELECT (SELECT count(*) FROM idempotency_keys), (SELECT count(*) FROM idempotency_keys WHERE status = 200),
		(SELECT count(*) FROM orders), (SELECT count(*) FROM outbox WHERE type = 'order.placed'),
		(SELECT count(*) FROM orders o FULL JOIN (SELECT body::jsonb->'data'->>'orderId' AS id FROM outbox WHERE type = 'order.placed') e ON e.id = o.id::text WHERE o.id IS NULL OR e.id IS NULL),
		(SELECT bool_and(p.stock + (SELECT coalesce(sum(quantity), 0) FROM all_order_lines o WHERE o.sku = p.sku) = p.initial_stock) FROM products p)`,
		&keys, &bought, &orders, &events, &lost, &conserved)
	f.Logf("%d checkouts in %d tries: %d orders", f.decided.Load(), f.tries.Load(), orders)
	require.True(f, conserved, "units are lost or made")
	require.EqualValues(f, f.decided.Load(), keys, "each key has one decision")
	require.Equal(f, len(f.orders), bought)
	require.Equal(f, bought, orders, "one order for each key")
	require.Equal(f, orders, events)
	require.Zero(f, lost, "an order without its event, or an event without its order")
	var there []string
	f.sql(`SELECT array_agg(id::text) FROM orders`, &there)
	for _, id := range there {
		require.True(f, f.orders[id], "order %s was given to nobody", id)
	}
	require.NotContains(f, f.postgres.LogTail(100_000), "deadlock detected")
}
