package console_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/console"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// elsewhere makes the two databases on a server of their own, which can be stopped, and
// returns their addresses as restock_maintenance.
func elsewhere(t *testing.T) (server *localpg.Server, dsn map[string]string) {
	t.Helper()
	server, dsn = pgtest.NewServer(t, localpg.Config{}), map[string]string{}
	for _, template := range []pgtest.Template{store, customers} {
		require.NoError(t, server.CreateDatabase(t.Context(), template.Name, ""))
		require.NoError(t, template.Setup(t.Context(), server.DSN(template.Name)))
		dsn[template.Name] = server.RoleDSN(schema.RoleMaintenance, password, template.Name)
	}
	return server, dsn
}

// TestOneDatabaseDown: with either database stopped each view shows what it can, and says
// which database could not be reached; when it is back so is the rest.
func TestOneDatabaseDown(t *testing.T) {
	t.Parallel()
	server, dsn := elsewhere(t)
	without := func(down string) *world {
		return newWorld(t, func(c *console.Config) {
			w := &world{T: t}
			pool := &c.Pipeline.Customers
			if down == ops.StoreDatabase {
				pool = &c.Pipeline.Store
			}
			*pool = w.connect(dsn[down])
			c.Status = c.Pipeline.Status(ops.StatusConfig{Sample: time.Millisecond})
			var err error
			c.Reconciler, err = ops.NewReconciler(ops.ReconcileConfig{Store: c.Pipeline.Store, Customers: c.Pipeline.Customers, VIPThreshold: schema.DefaultVIPThreshold, Grace: time.Nanosecond})
			require.NoError(t, err)
			c.ReconcileEvery = time.Millisecond
		})
	}
	require.NoError(t, server.StopMode(t.Context(), localpg.Fast))
	worlds := map[string]*world{ops.CustomersDatabase: without(ops.CustomersDatabase), ops.StoreDatabase: without(ops.StoreDatabase)}
	t.Run("customers", func(t *testing.T) {
		w := worlds[ops.CustomersDatabase]
		request, order := w.kill("A"), w.commit(schema.OrderPlaced{OrderID: schema.NewID(), CustomerID: "c", Quantity: 100, Lines: []schema.Line{{SKU: "A", Quantity: 100}}}, "published")
		w.park("B")
		report := get[ops.StatusReport](w, w.eventually("/api/status", `"health":"unknown"`))
		require.Empty(t, report.Relays[0].Error)
		require.NotEmpty(t, report.Relays[1].Error)

		events := get[ops.RecentEvents](w, "/api/events")
		require.Len(t, events.Items, 3)
		w.says(ops.CustomersDatabase, events.Unreachable)
		traced := get[ops.Trace](w, "/api/trace/"+order.ID.String())
		require.Equal(t, []ops.TracedConsumer{{Consumer: schema.ConsumerVIP, State: ops.StateUnknown}}, traced.Events[0].Consumers)
		w.says(ops.CustomersDatabase, traced.Unreachable)
		w.refuses(http.StatusServiceUnavailable, "the customers database cannot be reached", "GET", "/api/trace/"+schema.NewID().String(), nil)

		dead := get[ops.Listing](w, "/api/dlq")
		require.Equal(t, request.ID, dead.Events[0].EventID)
		require.Len(t, dead.Queues, 4, "of factory and ads")
		w.says(ops.CustomersDatabase, dead.Unreachable)
		w.refuses(http.StatusServiceUnavailable, "the customers database cannot be reached", "GET", "/api/dlq?consumer=vip", nil)
		redriven := post[ops.RedriveReport](w, "/api/dlq/redrive", object{"consumers": []string{"factory"}, "reason": "x"})
		require.Equal(t, 1, redriven.Count(ops.OutcomeSent))

		require.Len(t, get[ops.Page[ops.ParkedGroup]](w, "/api/parked").Items, 1)
		require.Empty(t, get[ops.Page[ops.ReplayState]](w, "/api/replays").Items)
		require.Empty(t, get[ops.Page[ops.OpenReplenishment]](w, "/api/replenishments").Items)
		for _, path := range []string{"/api/parked?database=customers", "/api/replays?database=customers"} {
			w.refuses(http.StatusServiceUnavailable, "the customers database cannot be reached", "GET", path, nil)
		}
		plan := post[ops.ReplayPlan](w, "/api/replays/plan", object{"events": []string{order.ID.String()}})
		require.Nil(t, plan.Effects[0].Handled)
		w.refuses(http.StatusServiceUnavailable, "what vip has handled cannot be asked", "POST", "/api/replays/plan", object{"unhandled": "vip"})

		compared := get[struct{ Result ops.Reconciliation }](w, w.eventually("/api/reconcile", `"unreachable"`)).Result
		require.Len(t, compared.Outboxes, 1)
		require.Len(t, compared.Consumers, 2)
		w.says(ops.CustomersDatabase, compared.Unreachable)
	})
	t.Run("store", func(t *testing.T) {
		w := worlds[ops.StoreDatabase]
		told, err := schema.New(schema.NewID(), schema.CustomerPromoted{CustomerID: "c", OrderID: schema.NewID(), Quantity: 100}, "")
		require.NoError(t, err)
		require.NoError(t, schema.Append(t.Context(), w.customers, told))
		events := get[ops.RecentEvents](w, "/api/events")
		require.Equal(t, told.ID, events.Items[0].EventID)
		w.says(ops.StoreDatabase, events.Unreachable)
		traced := get[ops.Trace](w, "/api/trace/"+told.ID.String())
		require.Equal(t, schema.ConsumerMarketing, traced.Events[0].Consumers[0].Consumer)
		w.says(ops.StoreDatabase, traced.Unreachable)
		require.Len(t, get[ops.Listing](w, "/api/dlq").Queues, 2, "of marketing")
		require.Empty(t, get[ops.Page[ops.ReplayState]](w, "/api/replays?database=customers").Items)
		for _, path := range []string{"/api/parked", "/api/replays", "/api/replenishments"} {
			w.refuses(http.StatusServiceUnavailable, "the store database cannot be reached", "GET", path, nil)
		}
		// The last comparison may have begun before the event was written.
		compared := get[struct{ Result ops.Reconciliation }](w, w.eventually("/api/reconcile", `"missing":1`)).Result
		require.Equal(t, int64(1), compared.Missing)
		w.says(ops.StoreDatabase, compared.Unreachable)
	})
	require.NoError(t, server.Start(t.Context()))
	for database, w := range worlds {
		for _, path := range []string{"/api/events", "/api/dlq", "/api/parked?database=" + database, "/api/replays?database=" + database} {
			status, body := w.call("GET", path, nil)
			require.Equal(t, http.StatusOK, status, body)
			require.NotContains(t, body, "unreachable")
		}
	}
}

// eventually asks until the answer has a text in it, and returns the path.
func (w *world) eventually(path, text string) string {
	w.Helper()
	require.Eventually(w, func() bool {
		_, body := w.call("GET", path, nil)
		return strings.Contains(body, text)
	}, patience, 10*time.Millisecond)
	return path
}

// says holds an answer to naming the database that could not be reached, and no secret.
func (w *world) says(database string, down []ops.Unreachable) {
	w.Helper()
	require.Len(w, down, 1)
	require.Equal(w, database, down[0].Database)
	require.Contains(w, down[0].Error, "failed to connect")
	require.NotContains(w, fmt.Sprint(down), password)
}
