package api_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/api"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/schema"
)

// patience bounds a wait for something that must happen.
const patience = 60 * time.Second

// lockProduct holds a product's row, as a slow transaction would.
func (s *shop) lockProduct(sku string) (release func()) {
	s.t.Helper()
	tx, err := s.db.Begin(s.t.Context())
	require.NoError(s.t, err)
	_, err = tx.Exec(s.t.Context(), `SELECT FROM products WHERE sku = $1 FOR UPDATE`, sku)
	require.NoError(s.t, err)
	return sync.OnceFunc(func() { require.NoError(s.t, tx.Rollback(context.WithoutCancel(s.t.Context()))) })
}

// awaitLockWaiters waits until n statements of this database wait for a lock.
func (s *shop) awaitLockWaiters(n int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		return one[int](s, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) >= n
	}, patience, 5*time.Millisecond)
}

// failing makes inserts into a table fail, the first n of them. A sequence counts, because it does
// not roll back.
func (s *shop) failing(table, raise string, n int) {
	s.t.Helper()
	s.exec(`CREATE SEQUENCE tries`)
	s.exec(`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
		IF nextval('tries') <= ` + strconv.Itoa(n) + ` THEN ` + raise + `; END IF; RETURN NEW; END $$`)
	s.exec(`CREATE TRIGGER fail BEFORE INSERT ON ` + table + ` FOR EACH ROW EXECUTE FUNCTION fail()`)
}

func requireUnavailable(t *testing.T, got answer) {
	t.Helper()
	require.Equal(t, http.StatusServiceUnavailable, got.status, got.raw)
	require.Equal(t, "unavailable", got.str("type"), got.raw)
	require.NotEmpty(t, got.header.Get("Retry-After"))
}

func TestDefiniteRollbackIsRunAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ table, raise, reason string }{
		"deadlock":                    {"orders", `RAISE EXCEPTION USING ERRCODE = '40P01'`, "deadlock"},
		"serialization":               {"orders", `RAISE EXCEPTION USING ERRCODE = '40001'`, "serialization"},
		"deadlock of a replenishment": {"replenishments", `RAISE EXCEPTION USING ERRCODE = '40P01'`, "deadlock"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			want := http.StatusOK
			if c.table == "replenishments" {
				s.exec(`UPDATE products SET stock = 0, initial_stock = 0 WHERE sku = $1`, donut)
				want = http.StatusConflict
			}
			s.failing(c.table, c.raise, 3)
			require.Equal(t, want, s.buy(donut, 1).status)
			require.Equal(t, 3, s.counted("restock_api_retries_total", c.reason))
			require.Equal(t, 1, one[int](s, `SELECT count(*) FROM outbox`))
			s.requireConserved()

			s.exec(`ALTER SEQUENCE tries RESTART`)
			s.exec(`UPDATE replenishments SET state = 'cancelled', closed_at = now()`)
			s.exec(`CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + c.raise + `; END $$`)
			sku := donut
			if c.table == "orders" {
				sku = cream
			}
			requireUnavailable(t, s.buy(sku, 1))
			s.requireConserved()
		})
	}
}

func TestKilledSessionIsRunAgain(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.failing("orders", `PERFORM pg_terminate_backend(pg_backend_pid())`, 1)
	require.Equal(t, http.StatusOK, s.buy(donut, 1).status)
	require.Equal(t, 1, s.counted("restock_api_retries_total", "connection"))
	s.requireConserved()
}

func TestLosingTheOpening(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`UPDATE products SET stock = 0, initial_stock = 0 WHERE sku = $1`, donut)
	s.failing("replenishments", `RAISE EXCEPTION USING ERRCODE = '23505', CONSTRAINT = 'replenishments_open'`, 2)
	require.Equal(t, http.StatusConflict, s.buy(donut, 1).status)
	s.requireConserved()

	s.exec(`UPDATE replenishments SET state = 'cancelled', closed_at = now()`)
	s.exec(`ALTER SEQUENCE tries RESTART MINVALUE -1000 START -1000`)
	s.exec(`SELECT setval('tries', -1000)`)
	requireUnavailable(t, s.buy(donut, 1))
	s.requireConserved()
}

// A day without a partition is mended by the checkout that finds it.
func TestMissingPartition(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`DO $$ DECLARE p text; BEGIN
		FOR p IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'outbox'::regclass LOOP EXECUTE 'DROP TABLE ' || p; END LOOP; END $$`)
	got := s.buy(donut, 1)
	require.Equal(t, http.StatusOK, got.status, got.raw)
	// The API makes partitions when it starts as well, which may come after the drop.
	require.LessOrEqual(t, s.counted("restock_api_retries_total", "partition"), 1, "it makes them once")
	s.requireConserved()
}

func TestSlowDatabase(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *api.Config) {
		c.StatementTimeout, c.LockTimeout, c.AcquireTimeout, c.MaxConns = 400*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond, 1
	})
	release := s.lockProduct(donut)
	requireUnavailable(t, s.buy(donut, 1)) // lock_timeout
	s.requireNothingWritten()
	release()

	s.failing("orders", `PERFORM pg_sleep(60)`, 1)
	requireUnavailable(t, s.buy(donut, 1)) // statement_timeout
	s.requireNothingWritten()
	require.Equal(t, http.StatusOK, s.buy(donut, 1).status)
	require.Equal(t, 0, s.counted("restock_api_ambiguous_commits_total"), "both were definite")
}

// A product that somebody holds for long holds up its own checkouts and nothing else.
func TestLockedProduct(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *api.Config) {
		c.MaxConns, c.AcquireTimeout, c.StatementTimeout, c.LockTimeout = 1, time.Second, 2*patience, patience
	})
	release := s.lockProduct(donut)
	defer release()
	first := make(chan answer, 1)
	go func() { first <- s.buy(donut, 1) }()
	s.awaitLockWaiters(1)
	require.Equal(t, http.StatusOK, s.buy(cream, 1).status)
	s.awaitLockWaiters(1) // now on the one connection of the pool
	requireUnavailable(t, s.send("GET", "/products", ""))
	require.Positive(t, s.counted("restock_api_pool_waits_total"))
	release()
	require.Equal(t, http.StatusOK, (<-first).status)
	s.requireConserved()
}

// A checkout that nobody takes in time, or whose client leaves before that, is never
// decided.
func TestNotTaken(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *api.Config) { c.AcquireTimeout, c.StatementTimeout = 300*time.Millisecond, 4*time.Second })
	// To connect takes a busy machine longer than a checkout waits here.
	require.EqualValues(t, http.StatusNotFound, s.buy("nothing", 1).status)
	s.failing("orders", `PERFORM pg_sleep(60)`, 1)
	first := make(chan answer, 1)
	go func() { first <- s.buy(donut, 1) }()
	require.Eventually(t, func() bool {
		return one[int](s, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`) == 1
	}, patience, 5*time.Millisecond)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan answer, 1)
	go func() { left <- s.do(s.request("POST", "/checkout", http.NoBody).WithContext(ctx)) }()
	requireUnavailable(t, s.buy(cream, 1))
	leave()
	require.Equal(t, http.StatusServiceUnavailable, (<-left).status)
	requireUnavailable(t, <-first)
	require.Equal(t, http.StatusOK, s.buy(cream, 1).status)
	require.Equal(t, 1, one[int](s, `SELECT count(*) FROM orders`))
	s.requireConserved()
}

// Of a batch whose COMMIT got no answer each checkout is looked up.
func TestAmbiguousBatch(t *testing.T) {
	t.Parallel()
	for _, reaches := range []bool{true, false} {
		home := newShop(t)
		s, proxy := home.behind()
		release := s.lockProduct(donut) // holds the committer while the others gather
		moved := make(chan answer, 1)
		go func() { moved <- s.buy(donut, 1) }()
		s.awaitLockWaiters(1)
		proxy.arm(cut{needle: "batchmate", reaches: reaches})
		answers := make(chan answer, 6)
		for range cap(answers) {
			go func() { answers <- s.checkout(`{"sku":"CP-502102","customerId":"batchmate"}`) }()
		}
		bought, unknown := 0, 0
		for range cap(answers) {
			got := <-answers
			id := uuid.MustParse(got.str("orderId"))
			there := one[int](s, `SELECT count(*) FROM orders WHERE id = $1`, id)
			require.Equal(t, got.status == http.StatusOK, there == 1)
			if there == 1 {
				bought++
				continue
			}
			unknown++
			require.Equal(t, "outcome-unknown", got.str("type"), got.raw)
		}
		require.True(t, proxy.wasCut())
		require.Equal(t, reaches, unknown == 0, "%d bought, %d unknown", bought, unknown)
		require.Equal(t, bought, one[int](s, `SELECT count(*) FROM orders WHERE customer_id = 'batchmate'`))
		release()
		require.Equal(t, http.StatusOK, (<-moved).status)
		home.requireConserved()
	}
}

// A session that is ended while it commits, as by a stop of Postgres, says so after its
// COMMIT. What it has committed is answered, and not decided again.
func TestSessionEndedAmidCommit(t *testing.T) {
	t.Parallel()
	home := newShop(t)
	s, proxy := home.behind()
	proxy.arm(cut{needle: "구매 완료", amid: func() {
		// The orders are there before the session hears that it is to end.
		s.exec(`DO $$ BEGIN
			WHILE NOT EXISTS (SELECT FROM orders) LOOP PERFORM pg_sleep(0.001); END LOOP;
			PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
			  WHERE datname = current_database() AND usename = 'restock_api' AND query = 'COMMIT';
		END $$`)
	}, thenRefuse: true})
	got, err := s.api.DecideTogether(t.Context(), []api.Wish{
		{SKUs: []string{cream}, Quantities: []int{1}, Key: "k"}, {SKUs: []string{cream}, Quantities: []int{1}},
	})
	require.True(t, proxy.wasCut())
	require.Equal(t, 2, one[int](s, `SELECT count(*) FROM orders`))
	require.NoError(t, err)
	for _, v := range got {
		require.Equal(t, "bought", v.Outcome)
	}
	home.requireConserved()
}

// A client that goes away does not abort a transaction that has begun.
func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(c *api.Config) { c.StatementTimeout, c.LockTimeout = 2*patience, patience })
	release := s.lockProduct(donut)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan answer, 1)
	go func() { done <- s.do(s.request("POST", "/checkout", http.NoBody).WithContext(ctx)) }()
	s.awaitLockWaiters(1)
	leave()
	release()
	require.Equal(t, http.StatusOK, (<-done).status)
	require.Equal(t, 0, s.stock(donut))
	s.requireConserved()

	gone, leave := context.WithCancel(t.Context())
	leave()
	require.Equal(t, http.StatusServiceUnavailable, s.do(s.request("POST", "/checkout", http.NoBody).WithContext(gone)).status, "gone before it began")
	s.requireConserved()
}

// ambiguity is a COMMIT without an answer, in its three forms.
type ambiguity struct {
	name      string
	cut       cut
	committed int // 0 or 1
	known     bool
}

func ambiguities(needle string) []ambiguity {
	return []ambiguity{
		{"committed and found", cut{needle: needle, reaches: true}, 1, true},
		{"committed, cannot be looked up", cut{needle: needle, reaches: true, thenRefuse: true}, 1, false},
		{"never arrived", cut{needle: needle}, 0, false},
	}
}

// behind is a second API on the shop's database, behind a proxy that can cut.
func (s *shop) behind() (*shop, *cutProxy) {
	s.t.Helper()
	proxy, dsn := newProxy(s.t, s.dsn)
	return shopOn(s.t, s.db.Config().ConnString(), dsn), proxy
}

// The needles: where the prepared checkout is bound, not where it is prepared;
// and the query that commits, not a setting of that name.
const (
	callsCheckout = "\x00stmt_"
	commits       = "Q\x00\x00\x00\x0bcommit\x00"
)

// The order is looked up on a new connection.
func TestAmbiguousCheckout(t *testing.T) {
	t.Parallel()
	home := newShop(t)
	for _, c := range ambiguities(callsCheckout) {
		s, proxy := home.behind()
		require.Equal(t, http.StatusOK, s.buy(cream, 1).status)
		before := one[int](s, `SELECT count(*) FROM orders`)
		proxy.arm(c.cut)
		got := s.buy(cream, 1)
		require.True(t, proxy.wasCut(), c.name)
		id := uuid.MustParse(got.str("orderId"))
		require.Equal(t, c.committed, one[int](s, `SELECT count(*) FROM orders WHERE id = $1`, id), c.name)
		require.Equal(t, before+c.committed, one[int](s, `SELECT count(*) FROM orders`), "%s: never a second order", c.name)
		if c.known {
			require.Equal(t, http.StatusOK, got.status, got.raw)
			require.Equal(t, 498, got.num("remainingStock"))
			require.Equal(t, 1, s.counted("restock_api_ambiguous_commits_total", "checkout", "yes"))
		} else {
			require.Equal(t, http.StatusServiceUnavailable, got.status, "%s: %s", c.name, got.raw)
			require.Equal(t, "outcome-unknown", got.str("type"))
			require.Equal(t, 1, s.counted("restock_api_ambiguous_commits_total", "checkout", "no"))
		}
		home.requireConserved()
	}
}

func TestAmbiguousReplenishment(t *testing.T) {
	t.Parallel()
	home := newShop(t)
	home.exec(`UPDATE products SET stock = 0, initial_stock = 0`)
	for _, c := range ambiguities(commits) {
		s, proxy := home.behind()
		s.exec(`UPDATE replenishments SET state = 'cancelled', closed_at = now()`)
		before := one[int](s, `SELECT count(*) FROM replenishments`)
		proxy.arm(c.cut)
		got := s.buy(donut, 1)
		require.True(t, proxy.wasCut(), c.name)
		require.Equal(t, before+c.committed, one[int](s, `SELECT count(*) FROM replenishments`), c.name)
		if c.known {
			require.Equal(t, one[string](s, `SELECT id::text FROM replenishments WHERE closed_at IS NULL`), refusalNames(t, got))
		} else {
			requireUnavailable(t, got)
		}
		home.requireConserved()
	}
}

func TestAmbiguousCallback(t *testing.T) {
	t.Parallel()
	home, id, callback := soldOut(t)
	for _, c := range ambiguities(commits) {
		s, proxy := home.behind()
		proxy.arm(c.cut)
		got := s.deliver(callback, donut, "10")
		require.True(t, proxy.wasCut(), c.name)
		require.Equal(t, c.committed*10, s.stock(donut), c.name)
		if c.known {
			require.Equal(t, http.StatusOK, got.status, got.raw)
			require.Equal(t, id.String(), got.str("replenishmentId"))
		} else {
			requireUnavailable(t, got)
		}
		require.Equal(t, http.StatusOK, home.deliver(callback, donut, "10").status, "the factory comes back")
		require.Equal(t, 10, s.stock(donut))
		home.requireConserved()

		require.Equal(t, http.StatusOK, home.buy(donut, 10).status)
		id = uuid.MustParse(home.buy(donut, 1).str("replenishmentId"))
		callback = home.callbackOf(id)
	}
}

// Postgres away, back, and killed under load.
func TestPostgresOutage(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t, localpg.Config{})
	require.NoError(t, server.CreateDatabase(t.Context(), "store", ""))
	require.NoError(t, setUpStore(t.Context(), server.DSN("store")))
	proxy, dsn := newProxy(t, server.RoleDSN(schema.RoleAPI, password, "store"))
	start := func() *pgxpool.Pool {
		if server.Pid() == 0 {
			require.NoError(t, server.Start(t.Context()))
		}
		proxy.to(net.JoinHostPort("127.0.0.1", strconv.Itoa(server.Port())))
		pool, err := pgxpool.New(t.Context(), server.DSN("store"))
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}

	require.NoError(t, server.StopMode(t.Context(), localpg.Fast))
	s := shopOn(t, server.DSN("store"), dsn) // starts while Postgres is down
	requireUnavailable(t, s.buy(donut, 1))
	require.Equal(t, http.StatusServiceUnavailable, s.send("GET", "/readyz", "").status)
	require.Equal(t, http.StatusOK, s.send("GET", "/healthz", "").status)
	requireUnavailable(t, s.send("GET", "/products", ""))

	s.db = start()
	require.Equal(t, http.StatusOK, s.send("GET", "/readyz", "").status)
	require.Equal(t, http.StatusOK, s.buy(donut, 1).status)

	require.NoError(t, server.StopMode(t.Context(), localpg.Fast))
	requireUnavailable(t, s.buy(cream, 1))
	s.db = start()
	require.Equal(t, http.StatusOK, s.buy(cream, 1).status)
	s.requireConserved()

	// Killed with checkouts in full run: each answer is kept to.
	answers := make(chan answer, 8)
	stop := make(chan struct{})
	for range cap(answers) {
		go func() {
			for {
				got := s.buy(cream, 1)
				select {
				case <-stop:
					answers <- got
					return
				default:
				}
				if got.status != http.StatusOK {
					answers <- got
					return
				}
			}
		}()
	}
	require.Eventually(t, func() bool { return s.stock(cream) < 450 }, patience, time.Millisecond)
	require.NoError(t, server.Kill())
	close(stop)
	var unknown []answer
	for range cap(answers) {
		if got := <-answers; got.status == http.StatusServiceUnavailable && got.str("type") == "outcome-unknown" {
			unknown = append(unknown, got)
		} else if got.status != http.StatusOK {
			requireUnavailable(t, got)
		}
	}
	s.db = start()
	s.requireConserved()
	orders := one[int](s, `SELECT count(*) FROM orders`)
	bought := s.counted("restock_api_checkouts_total", "bought")
	require.GreaterOrEqual(t, orders, bought)
	require.LessOrEqual(t, orders, bought+len(unknown), "an order that nobody was told of")
	require.Equal(t, http.StatusOK, s.buy(cream, 1).status)
}

// After a failover a name may still lead to a server that only reads. Its connections do
// not stay once there is one that writes.
func TestReadOnlyServer(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t, storeTemplate)
	owner, err := pgxpool.New(t.Context(), db.DSN)
	require.NoError(t, err)
	t.Cleanup(owner.Close)
	readOnly := func(act string) {
		_, err := owner.Exec(t.Context(), `ALTER ROLE restock_api IN DATABASE `+pgx.Identifier{db.Name}.Sanitize()+act)
		require.NoError(t, err)
	}
	readOnly(` SET default_transaction_read_only = on`)
	s := shopOn(t, db.DSN, db.RoleDSN(schema.RoleAPI, password))
	requireUnavailable(t, s.buy(donut, 1))
	requireUnavailable(t, s.once("k", `{}`))
	// Else the API's own look at the partitions would leave another connection.
	require.Eventually(t, func() bool {
		return one[int](s, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'restock_api' AND state = 'idle' AND query LIKE '%ensure_partitions%'`) == 1
	}, patience, 5*time.Millisecond)
	require.Equal(t, http.StatusServiceUnavailable, s.send("GET", "/readyz", "").status)
	readOnly(` RESET default_transaction_read_only`)
	require.Equal(t, http.StatusOK, s.once("k", `{}`).status)
	require.Equal(t, http.StatusConflict, s.buy(donut, 1).status, "its replenishment is opened by a connection of the others")
	require.Equal(t, http.StatusOK, s.send("GET", "/readyz", "").status)
	s.requireConserved()
}

// A transaction that Postgres ended, because this process stood still amid it, is no
// mistake: it can be sent again.
func TestTransactionStoodStill(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"25P03", "25P04"} {
		s := newShop(t)
		s.failing("orders", `RAISE EXCEPTION USING ERRCODE = '`+code+`'`, 1)
		requireUnavailable(t, s.buy(donut, 1))
		s.requireNothingWritten()
		require.Equal(t, http.StatusOK, s.buy(donut, 1).status)
	}
}

// A mistake of ours is a 500, says nothing of its inside and is logged.
func TestInternalError(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`REVOKE INSERT ON orders FROM restock_api`)
	got := s.buy(donut, 1)
	require.Equal(t, http.StatusInternalServerError, got.status)
	require.Equal(t, "internal", got.str("type"))
	require.NotContains(t, got.raw, "orders")
	require.Contains(t, s.log.String(), "permission denied for table orders")
	s.requireNothingWritten()
}

// The role can do what the API does and nothing else.
func TestRole(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	require.Equal(t, http.StatusOK, s.buy(donut, 1).status)
	db := pgtest.NewDatabase(t, storeTemplate)
	role, err := pgxpool.New(t.Context(), db.RoleDSN(schema.RoleAPI, password))
	require.NoError(t, err)
	t.Cleanup(role.Close)
	for _, sql := range []string{
		`UPDATE outbox SET body = '{}'`, `DELETE FROM outbox`, `TRUNCATE outbox`, `SELECT body FROM outbox`,
		`UPDATE orders SET quantity = 1`, `DELETE FROM orders`,
		`UPDATE products SET name = 'x'`, `UPDATE products SET initial_stock = 0`, `DELETE FROM products`,
		`INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email) VALUES ('x', 'x', 1, 1, 1, 'f', 'm@x')`,
		`UPDATE replenishments SET quantity = 1000`, `UPDATE replenishments SET sku = 'x'`, `DELETE FROM replenishments`,
		`UPDATE order_lines SET quantity = 1`, `DELETE FROM order_lines`, `UPDATE idempotency_keys SET answer = ''`, `DELETE FROM idempotency_keys`,
		`UPDATE callback_conflicts SET stated_quantity = 1`, `DELETE FROM callback_conflicts`,
		`INSERT INTO ledger (day, event_id, outcome) VALUES (now(), gen_random_uuid(), 'published')`, `SELECT FROM inbox`,
		`CREATE TABLE x ()`, `ALTER TABLE outbox DISABLE TRIGGER ALL`, `DROP TABLE outbox`,
	} {
		_, err := role.Exec(t.Context(), sql)
		var pg *pgconn.PgError
		require.True(t, errors.As(err, &pg), sql)
		require.Equal(t, "42501", pg.Code, "%s: %v", sql, err)
	}
	require.False(t, strings.Contains(s.log.String(), `"level":"error"`))
}

// A client that goes away is no sign that anything is unavailable: no alert hears of it.
func TestClientGoneIsNoOutage(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	gone, leave := context.WithCancel(t.Context())
	leave()
	s.do(s.request("POST", "/checkout", http.NoBody).WithContext(gone))
	s.do(s.request("GET", "/products", http.NoBody).WithContext(gone))
	require.Equal(t, 1, s.counted("restock_api_checkouts_total", "gone"))
	require.Equal(t, 0, s.counted("restock_api_checkouts_total", "unavailable"))
	require.NotContains(t, s.send("GET", "/metrics", "").raw, `class="5xx"`)
	require.NotContains(t, s.log.String(), `"level":"warn"`)
	s.requireNothingWritten()
}
