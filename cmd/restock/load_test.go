package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/load"
	"github.com/restock-dev/restock/schema"
)

// Two answers that name one order are an order that is missing, however far apart they are.
func TestAuditOfOrdersNamedTwice(t *testing.T) {
	t.Parallel()
	db, pool := newDatabase(t, store)
	_, err := pool.Exec(t.Context(), `INSERT INTO orders (id, sku, quantity, remaining_stock) SELECT gen_random_uuid(), 'P', 1, 0 FROM generate_series(1, 12000)`)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), db.RoleDSN(schema.RoleMaintenance, password))
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows, err := conn.Query(t.Context(), `SELECT id FROM orders`)
	require.NoError(t, err)
	orders, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(t, err)
	audit, err := load.Look(t.Context(), conn, time.Now(), "load-", append(orders, orders[0]))
	require.NoError(t, err)
	require.Equal(t, 1, audit.Missing)
}

// What becomes of Postgres during a load ends neither the audit nor, where Postgres does
// not come back, what was measured.
func TestPostgresGoesDuringALoad(t *testing.T) {
	t.Parallel()
	db, pool := newDatabase(t, store)
	audited := []string{"RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleMaintenance, password)}
	run := func(meanwhile string) (int, string, string) {
		once := sync.OnceFunc(func() {
			_, err := pool.Exec(t.Context(), meanwhile)
			assert.NoError(t, err)
		})
		shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			once()
			w.WriteHeader(http.StatusConflict)
		}))
		defer shop.Close()
		return command(t, audited, "load", shop.URL, "--for", "300ms", "--sku", "P-1")
	}
	const ended = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'restock_maintenance'`
	code, out, stderr := run(ended)
	require.Zero(t, code, stderr)
	require.Contains(t, out, "audit: all 0 orders are there")

	code, out, stderr = run(ended + `; UPDATE pg_database SET datallowconn = false WHERE datname = current_database()`)
	require.Equal(t, 1, code)
	require.Contains(t, out, "LATENCY")
	require.Contains(t, stderr, "there is no audit")
}

// An API that places an order twice is found, though each has its event and stock is
// conserved.
func TestAuditOfOrdersPlacedTwice(t *testing.T) {
	t.Parallel()
	db, pool := newDatabase(t, store)
	_, err := pool.Exec(t.Context(), `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email) VALUES ('P-1', 'Donut', 9000, 9000, 10, 'F', 'm@example.com')`)
	require.NoError(t, err)
	api := launch(t, []string{"RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleAPI, password), "RESTOCK_CALLBACK_SECRETS=0123456789abcdef"}, "api", "--addr", "127.0.0.1:0", "--log-level", "error")
	twice := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		for last := range 2 {
			res, err := http.Post(api.endpoints["api"]+"/checkout", "application/json", bytes.NewReader(body))
			if !assert.NoError(t, err) {
				return
			}
			answer, err := io.ReadAll(res.Body)
			res.Body.Close()
			assert.NoError(t, err)
			if last == 1 {
				w.WriteHeader(res.StatusCode)
				_, _ = w.Write(answer)
			}
		}
	}))
	defer twice.Close()
	audited := []string{"RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleMaintenance, password)}
	code, out, stderr := command(t, audited, "load", twice.URL, "--for", "300ms", "--sku", "P-1", "--json")
	require.Equal(t, 1, code, stderr)
	var result loaded
	require.NoError(t, json.Unmarshal([]byte(out), &result))
	require.Positive(t, result.Bought)
	require.Equal(t, load.Audit{Orders: result.Bought, Doubled: result.Bought, Conserved: true}, *result.Audit)
	require.Contains(t, stderr, "placed twice")
}

// TestLoadCommand loads an API in each of its ways, and audits.
func TestLoadCommand(t *testing.T) {
	t.Parallel()
	db, pool := newDatabase(t, store)
	_, err := pool.Exec(t.Context(), `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
		SELECT 'P-' || n, 'Donut', units, units, 10, 'F', 'm@example.com'
		  FROM generate_series(1, 1200) n, LATERAL (SELECT CASE n WHEN 1 THEN 1000 ELSE 30 END) AS stock (units)`) // the hot one outlasts the other loads
	require.NoError(t, err)
	api := launch(t, []string{"RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleAPI, password), "RESTOCK_CALLBACK_SECRETS=0123456789abcdef"}, "api", "--addr", "127.0.0.1:0", "--log-level", "error")
	url := api.endpoints["api"]
	audited := []string{"RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleMaintenance, password)}
	for _, args := range [][]string{
		{"--products", "uniform", "--keys"}, {"--products", "zipf", "--rate", "200"}, {"--products", "hot", "--connections", "4"},
	} {
		code, out, stderr := command(t, audited, append([]string{"load", url, "--for", "700ms", "--json"}, args...)...)
		require.Zero(t, code, stderr)
		var result loaded
		require.NoError(t, json.Unmarshal([]byte(out), &result))
		require.Positive(t, result.Bought)
		require.Equal(t, result.Requests, result.Bought+result.Short)
		require.Equal(t, result.Bought, result.Audit.Orders)
		require.True(t, result.Audit.OK())
		require.LessOrEqual(t, result.LatencyMS["p50"], result.LatencyMS["max"])
	}
	code, out, _ := command(t, nil, "load", url, "--for", "100ms", "--sku", "P-1")
	require.Zero(t, code)
	require.Contains(t, out, "LATENCY")
	require.NotContains(t, out, "audit")

	_, err = pool.Exec(t.Context(), `UPDATE products SET stock = stock + 1 WHERE sku = 'P-7'`)
	require.NoError(t, err)
	code, _, stderr := command(t, audited, "load", url, "--for", "100ms", "--sku", "P-1")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "stock conserved: false")
	_, err = pool.Exec(t.Context(), `UPDATE products SET stock = stock - 1 WHERE sku = 'P-7'; INSERT INTO orders (id, sku, quantity, remaining_stock) VALUES (gen_random_uuid(), 'none', 1, 0)`)
	require.NoError(t, err)
	_, _, stderr = command(t, audited, "load", url, "--for", "100ms", "--sku", "P-1")
	require.Contains(t, stderr, "stock conserved: false", "an order of a product that is none")

	for _, args := range [][]string{{"--connections", "0"}, {"--for", "0s"}, {"--rate=-1"}, {"--rate", "0"}, {"--rate", "NaN"}, {"--rate", "+Inf"}, {"--rate", "1e300"}} {
		code, _, stderr := command(t, nil, append([]string{"load", url}, args...)...)
		require.Equal(t, 2, code, args)
		flag, _, _ := strings.Cut(args[0], "=")
		require.Contains(t, stderr, flag+": give ")
	}
	for _, address := range []string{"http://127.0.0.1:1", "ftp://127.0.0.1", "nonsense"} {
		code, _, stderr := command(t, nil, "load", address, "--for", "100ms")
		require.Equal(t, 2, code, address)
		require.NotEmpty(t, stderr)
	}
	res, err := http.Get(url + "/healthz")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
}
