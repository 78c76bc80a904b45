package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/restock-dev/restock/api"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/schema"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if err := goleak.Find(pgtest.IgnoreServer()); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

const (
	password = "only-for-tests"
	secret   = "a callback secret for tests"
	publicly = "http://shop.example.com"

	donut = "CP-502101" // the default product
	cream = "CP-502102"
)

var storeTemplate = pgtest.Template{Name: "store", Setup: setUpStore}

func setUpStore(ctx context.Context, dsn string) error {
	if _, err := schema.MigrateStore(ctx, dsn); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `
		ALTER ROLE restock_api PASSWORD '`+password+`';
		INSERT INTO products (sku, name, stock, initial_stock, max_order_quantity, reorder_quantity, max_replenishment, factory_id, manager_email) VALUES
			('CP-502101', '도너츠', 1, 1, 1000, 10, 100, 'FF-500293', 'manager@example.com'),
			('CP-502102', '크림 도너츠', 500, 500, 1000, 10, 100, 'FF-500293', 'manager@example.com')`)
	return err
}

// shop is an API on a database of its own, as role restock_api. Everything that
// is sent to it and that it answers is held against openapi.yaml.
type shop struct {
	t       testing.TB
	dsn     string // of restock_api
	api     *api.API
	handler http.Handler
	db      *pgxpool.Pool // as the owner
	metrics *prometheus.Registry
	log     *lockedBuffer
}

func newShop(t testing.TB, change ...func(*api.Config)) *shop {
	t.Helper()
	db := pgtest.NewDatabase(t, storeTemplate)
	return shopOn(t, db.DSN, db.RoleDSN(schema.RoleAPI, password), change...)
}

func shopOn(t testing.TB, ownerDSN, dsn string, change ...func(*api.Config)) *shop {
	t.Helper()
	s := &shop{t: t, dsn: dsn, metrics: prometheus.NewRegistry(), log: &lockedBuffer{}}
	cfg := api.Config{
		DSN: dsn, PublicURL: publicly, DefaultSKU: donut, CallbackSecrets: [][]byte{[]byte(secret)},
		Metrics: s.metrics, Logger: zerolog.New(s.log),
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	s.db, err = pgxpool.New(t.Context(), ownerDSN)
	require.NoError(t, err)
	t.Cleanup(s.db.Close)
	s.api, err = api.New(t.Context(), cfg)
	require.NoError(t, err)
	s.handler = contract(t, s.api.Handler())
	run(t, s.api.Run)
	return s
}

// run runs a part until the test ends.
func run(t testing.TB, part func(context.Context) error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

func (a answer) str(name string) string {
	s, _ := a.body[name].(string)
	return s
}

func (a answer) num(name string) int {
	n, ok := a.body[name].(float64)
	if !ok {
		return -1
	}
	return int(n)
}

// send serves one request. Headers come in pairs.
func (s *shop) send(method, target, body string, headers ...string) answer {
	return s.do(s.request(method, target, strings.NewReader(body), headers...))
}

func (s *shop) request(method, target string, body io.Reader, headers ...string) *http.Request {
	r := httptest.NewRequestWithContext(s.t.Context(), method, target, body)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func (s *shop) do(r *http.Request) answer {
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return readAnswer(w.Code, w.Header(), w.Body.Bytes())
}

func readAnswer(status int, header http.Header, raw []byte) answer {
	a := answer{status: status, header: header, raw: string(raw)}
	_ = json.Unmarshal(raw, &a.body) // /metrics is not JSON
	return a
}

// checkout sends a JSON body.
func (s *shop) checkout(body string, headers ...string) answer {
	return s.send("POST", "/checkout", body, append([]string{"Content-Type", "application/json"}, headers...)...)
}

func (s *shop) buy(sku string, quantity int) answer {
	return s.checkout(fmt.Sprintf(`{"sku":%q,"quantity":%d}`, sku, quantity))
}

// one reads a single value as the owner.
func one[T any](s *shop, sql string, args ...any) T {
	s.t.Helper()
	var v T
	require.NoError(s.t, s.db.QueryRow(s.t.Context(), sql, args...).Scan(&v))
	return v
}

func (s *shop) exec(sql string, args ...any) {
	s.t.Helper()
	_, err := s.db.Exec(s.t.Context(), sql, args...)
	require.NoError(s.t, err)
}

func (s *shop) stock(sku string) int {
	s.t.Helper()
	return one[int](s, `SELECT stock FROM products WHERE sku = $1`, sku)
}

func (s *shop) events(eventType string) int {
	s.t.Helper()
	return one[int](s, `SELECT count(*) FROM outbox WHERE type = $1`, eventType)
}

// requireNothingWritten holds the database to its state before any checkout.
func (s *shop) requireNothingWritten() {
	s.t.Helper()
	require.Equal(s.t, 0, one[int](s, `SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM replenishments) + (SELECT count(*) FROM outbox)`))
	require.True(s.t, one[bool](s, `SELECT bool_and(stock = initial_stock) FROM products`))
}

// requireConserved holds sold plus left to initial plus delivered, and each
// order to its event.
func (s *shop) requireConserved() {
	s.t.Helper()
	require.True(s.t, one[bool](s, `
		SELECT bool_and(p.stock + (SELECT coalesce(sum(quantity), 0) FROM all_order_lines o WHERE o.sku = p.sku)
			= p.initial_stock + (SELECT coalesce(sum(delivered_quantity), 0) FROM replenishments r WHERE r.sku = p.sku))
		  FROM products p`), "units are missing")
	require.True(s.t, one[bool](s, `
		SELECT (SELECT array_agg(id::text ORDER BY id) FROM orders)
			IS NOT DISTINCT FROM (SELECT array_agg(body::json->'data'->>'orderId' ORDER BY (body::json->'data'->>'orderId')::uuid) FROM outbox WHERE type = 'order.placed')`),
		"orders and events differ")
	require.True(s.t, one[bool](s, `
		SELECT (SELECT array_agg(event_id ORDER BY event_id) FROM replenishments)
			IS NOT DISTINCT FROM (SELECT array_agg(id ORDER BY id) FROM outbox WHERE type = 'replenishment.requested')`),
		"replenishments and events differ")
}

// counted sums a metric over the series whose labels are all in the list.
func (s *shop) counted(name string, labels ...string) int {
	s.t.Helper()
	families, err := s.metrics.Gather()
	require.NoError(s.t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			wanted := true
			for _, l := range m.GetLabel() {
				wanted = wanted && (len(labels) == 0 || strings.Contains(strings.Join(labels, ","), l.GetValue()))
			}
			if wanted {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return int(sum)
}

func (s *shop) requireLint() {
	s.t.Helper()
	problems, err := testutil.GatherAndLint(s.metrics)
	require.NoError(s.t, err)
	require.Empty(s.t, problems)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
