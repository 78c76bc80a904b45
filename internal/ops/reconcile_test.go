package ops_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

var customers = pgtest.Template{Name: "customers", Setup: func(ctx context.Context, dsn string) error {
	_, err := schema.MigrateCustomers(ctx, dsn)
	return err
}}

// shop is the two databases, and an operator who looks at them.
type shop struct {
	*testing.T
	store, customers         *pgxpool.Pool // of the owner
	storeLook, customersLook *pgxpool.Pool // of the operator
	today                    time.Time
}

func newShop(t *testing.T) *shop {
	t.Helper()
	t.Parallel()
	w := &world{T: t}
	one, other := pgtest.NewDatabase(t, store), pgtest.NewDatabase(t, customers)
	s := &shop{
		T: t, store: w.connect(one.DSN), customers: w.connect(other.DSN),
		storeLook: w.connect(one.RoleDSN(schema.RoleMaintenance, password)), customersLook: w.connect(other.RoleDSN(schema.RoleMaintenance, password)),
	}
	require.NoError(t, s.store.QueryRow(t.Context(), `SELECT (now() AT TIME ZONE 'UTC')::date`).Scan(&s.today))
	return s
}

func (s *shop) reconciler(change ...func(*ops.ReconcileConfig)) *ops.Reconciler {
	s.Helper()
	cfg := ops.ReconcileConfig{Store: s.storeLook, Customers: s.customersLook, VIPThreshold: 100, Grace: time.Nanosecond}
	for _, c := range change {
		c(&cfg)
	}
	r, err := ops.NewReconciler(cfg)
	require.NoError(s, err)
	return r
}

func (s *shop) exec(pool *pgxpool.Pool, sql string, args ...any) {
	s.Helper()
	_, err := pool.Exec(s.Context(), sql, args...)
	require.NoError(s, err)
}

// event is one as the model knows it.
type event struct {
	id    uuid.UUID
	kind  string // order, small order, request, delivery
	group string
	seq   int64
	sent  string            // no, published, parked, skipped, forgotten
	inbox map[string]string // by consumer: none, done, dead, trying, stale, replayed
}

var wants = map[string][]string{
	"order": {"vip"}, "small order": nil, "request": {"factory", "ads"}, "delivery": {"ads"},
}

func (e event) payload() schema.Payload {
	id := schema.NewID()
	switch e.kind {
	case "order":
		return schema.OrderPlaced{OrderID: id, CustomerID: e.group, Quantity: 100, Lines: []schema.Line{{SKU: "a", Quantity: 100}}}
	case "small order":
		return schema.OrderPlaced{OrderID: id, CustomerID: e.group, Quantity: 99, Lines: []schema.Line{{SKU: "a", Quantity: 99}}}
	case "request":
		return schema.ReplenishmentRequested{ReplenishmentID: id, SKU: e.group, Quantity: 1, FactoryID: "f", Requester: "r", CallbackURL: "u"}
	}
	return schema.StockReplenished{ReplenishmentID: id, SKU: e.group, Quantity: 1}
}

// write makes the event's rows.
func (s *shop) write(e *event) {
	s.Helper()
	made, err := schema.New(e.id, e.payload(), "")
	require.NoError(s, err)
	require.NoError(s, schema.Append(s.Context(), s.store, made))
	require.NoError(s, s.store.QueryRow(s.Context(), `SELECT seq FROM outbox WHERE id = $1`, e.id).Scan(&e.seq))
	switch e.sent {
	case "published":
		s.exec(s.store, `INSERT INTO ledger (day, event_id, outcome) VALUES ($1, $2, 'published')`, s.today, e.id)
	case "parked", "skipped", "forgotten":
		s.exec(s.store, `INSERT INTO ledger (day, event_id, outcome) VALUES ($1, $2, 'parked')`, s.today, e.id)
	}
	if e.sent == "parked" || e.sent == "skipped" {
		s.exec(s.store, `INSERT INTO parked (day, event_id, message_group, seq, reason, detail, state, resolved_at)
			VALUES ($1, $2, $3, $4, 'rejected', 'x', $5, CASE WHEN $5 = 'skipped' THEN now() END)`, s.today, e.id, e.group, e.seq, e.sent)
	}
	for consumer, state := range e.inbox {
		pool := s.store
		if consumer == "vip" {
			pool = s.customers
		}
		add := func(state string, replay uuid.UUID, at time.Time) {
			s.exec(pool, `INSERT INTO inbox (day, consumer, event_id, replay_id, state, attempt, updated_at) VALUES ($1, $2, $3, $4, $5, 1, $6)`,
				s.today, consumer, e.id, replay, state, at)
		}
		switch state {
		case "done", "dead":
			add(state, uuid.Nil, time.Now())
		case "trying":
			add("failed", uuid.Nil, time.Now())
		case "stale":
			add("failed", uuid.Nil, time.Now().Add(-25*time.Hour))
		case "replayed":
			add("dead", uuid.Nil, time.Now())
			add("done", uuid.New(), time.Now())
		}
	}
}

// want is what a run must find, worked out from the model.
func want(events []event) (books map[string]ops.ConsumerBooks, unpublished, parked int64) {
	books = map[string]ops.ConsumerBooks{"factory": {}, "ads": {}, "vip": {}}
	for _, e := range events {
		switch e.sent {
		case "no":
			unpublished++
		case "parked":
			parked++
		}
		for _, consumer := range wants[e.kind] {
			b := books[consumer]
			b.Wanted++
			switch e.inbox[consumer] {
			case "done", "replayed":
				b.Done++
			case "dead":
				b.Dead++
			case "trying":
				b.Waiting++
			default:
				switch {
				case e.sent != "published" && e.sent != "forgotten":
				case behind(events, e, consumer):
					b.Waiting++
				default:
					b.Unhandled++
				}
			}
			books[consumer] = b
		}
	}
	return books, unpublished, parked
}

func behind(events []event, e event, consumer string) bool {
	for _, other := range events {
		if other.group == e.group && other.seq < e.seq && other.inbox[consumer] == "trying" {
			return true
		}
	}
	return false
}

// TestReconcileFindsExactlyWhatIsMissing holds a run against a model, over any mix of
// what can become of an event.
func TestReconcileFindsExactlyWhatIsMissing(t *testing.T) {
	s := newShop(t)
	rapid.Check(t, func(rt *rapid.T) {
		for _, table := range []string{"outbox", "ledger", "parked", "inbox"} { // quicker than TRUNCATE, which touches each partition
			s.exec(s.store, `DELETE FROM `+table)
		}
		s.exec(s.customers, `DELETE FROM inbox`)
		n := rapid.IntRange(0, 12).Draw(rt, "events")
		var events []event
		for i := range n {
			draw := func(what string, from ...string) string {
				return rapid.SampledFrom(from).Draw(rt, fmt.Sprint(what, i))
			}
			e := event{id: uuid.New(), kind: draw("kind", "order", "small order", "request", "delivery"), group: draw("group", "a", "b"), inbox: map[string]string{}}
			e.sent = draw("sent", "published", "published", "published", "no", "parked", "skipped", "forgotten")
			for _, consumer := range wants[e.kind] {
				if e.sent == "published" {
					e.inbox[consumer] = draw("inbox of "+consumer, "none", "done", "dead", "trying", "stale", "replayed")
				}
			}
			s.write(&e)
			events = append(events, e)
		}
		found, err := s.reconciler().Run(s.Context())
		require.NoError(rt, err)
		books, unpublished, parked := want(events)
		missing := unpublished
		for _, b := range books {
			missing += b.Unhandled
		}
		require.Equal(rt, missing, found.Missing)
		require.Equal(rt, int64(n), found.Outboxes[0].Events)
		require.Equal(rt, unpublished, found.Outboxes[0].Unpublished)
		require.Equal(rt, parked, found.Outboxes[0].Parked)
		for _, got := range found.Consumers {
			b := books[got.Consumer]
			b.Consumer = got.Consumer
			require.Equal(rt, b, got)
		}
	})
}

// TestReconcileNamesAndHeals: what is found is named, as far as there is room, with
// the command for exactly that time.
func TestReconcileNamesAndHeals(t *testing.T) {
	s := newShop(t)
	for range 5 {
		e := event{id: schema.NewID(), kind: "order", group: "c", sent: "published"}
		s.write(&e)
	}
	lost := event{id: schema.NewID(), kind: "small order", group: "c", sent: "no"}
	s.write(&lost)
	told, err := schema.New(schema.NewID(), schema.CustomerPromoted{CustomerID: "c", OrderID: schema.NewID(), Quantity: 100}, "")
	require.NoError(t, err)
	require.NoError(t, schema.Append(t.Context(), s.customers, told))
	found, err := s.reconciler(func(c *ops.ReconcileConfig) { c.Named = 2 }).Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(7), found.Missing)
	require.Len(t, found.Findings, 3)
	unpublished, unhandled, other := found.Findings[0], found.Findings[1], found.Findings[2]
	require.Equal(t, []any{ops.Unpublished, "store", lost.id, int64(0)}, []any{unpublished.Kind, unpublished.Database, unpublished.Events[0].EventID, unpublished.More})
	require.Contains(t, unpublished.Note, "start restock relay")
	require.Equal(t, []any{"vip", int64(5), int64(3), 2}, []any{unhandled.Consumer, unhandled.Count, unhandled.More, len(unhandled.Events)})
	require.Regexp(t, `^restock replay --unhandled vip --since \S+Z --until \S+Z$`, unhandled.Heal)
	require.Equal(t, "customers", other.Database)
	require.Regexp(t, `^restock replay --unpublished --outbox customers --since \S+Z --until \S+Z$`, other.Heal)
	words := strings.Fields(unhandled.Heal)
	since, err1 := time.Parse(time.RFC3339, words[5])
	until, err2 := time.Parse(time.RFC3339, words[7])
	require.NoError(t, err1)
	require.NoError(t, err2)
	require.False(t, since.After(unhandled.First))
	require.True(t, until.After(unhandled.Last))

	young, err := s.reconciler(func(c *ops.ReconcileConfig) { c.Grace = time.Hour }).Run(t.Context())
	require.NoError(t, err)
	require.Zero(t, young.Missing, "within the grace")
	reg := prometheus.NewRegistry()
	m := ops.NewReconcileMetrics(reg)
	m.Tell(found, nil)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader("# HELP restock_reconcile_missing Events that are missing: unpublished and unhandled ones together. 0 is well.\n# TYPE restock_reconcile_missing gauge\nrestock_reconcile_missing 7\n"), "restock_reconcile_missing"))
}

// TestReconcileCountsRepeats tells certain repeats from possible ones.
func TestReconcileCountsRepeats(t *testing.T) {
	s := newShop(t)
	e := event{id: schema.NewID(), kind: "request", group: "a", sent: "published", inbox: map[string]string{"factory": "done", "ads": "done"}}
	s.write(&e)
	s.exec(s.store, `UPDATE inbox SET repeated_uncertain = 2 WHERE consumer = 'ads'`)
	for range 2 {
		s.exec(s.store, `INSERT INTO effects (day, event_id, consumer, attempt, kind, outcome, started_at) VALUES ($1, $2, 'factory', 1, 'factory.manufacture', 'ok', now())`, s.today, e.id)
	}
	found, err := s.reconciler().Run(t.Context())
	require.NoError(t, err)
	require.Zero(t, found.Missing)
	for _, b := range found.Consumers {
		require.Equal(t, map[string][2]int64{"factory": {1, 0}, "ads": {0, 1}}[b.Consumer], [2]int64{b.Repeated, b.Uncertain}, b.Consumer)
	}
}

// TestReconcileSurvivesRowsByHand: an order whose quantity is no number is wanted by
// nobody, and does not keep the rest from being told.
func TestReconcileSurvivesRowsByHand(t *testing.T) {
	s := newShop(t)
	for _, attributes := range []string{`{"quantity":{"type":"Number","value":"many"}}`, `{"quantity":7}`, `{}`} {
		s.exec(s.store, `SELECT append_event(gen_random_uuid(), 'order.placed', 'g', NULL, $1, '{}', NULL)`, attributes)
	}
	found, err := s.reconciler().Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(3), found.Missing, "unpublished")
}

// TestReconcileBelievesACompleteDay: an old day that was complete is not looked at
// again at once, one that was not is.
func TestReconcileBelievesACompleteDay(t *testing.T) {
	s := newShop(t)
	old := s.today.AddDate(0, 0, -5)
	s.exec(s.store, fmt.Sprintf(`CREATE TABLE outbox_%[1]s PARTITION OF outbox FOR VALUES FROM ('%[2]s') TO ('%[3]s')`,
		old.Format("20060102"), old.Format(time.DateOnly), old.AddDate(0, 0, 1).Format(time.DateOnly)))
	missing := func(r *ops.Reconciler) int64 {
		found, err := r.Run(t.Context())
		require.NoError(t, err)
		return found.Missing
	}
	r := s.reconciler()
	require.Zero(t, missing(r))
	s.exec(s.store, `INSERT INTO outbox (day, id, type, message_group, attributes, body) VALUES ($1, $2, 'x', 'g', '{}', '{}')`, old, schema.NewID())
	require.Zero(t, missing(r))
	require.Equal(t, int64(1), missing(s.reconciler()))
	eager := s.reconciler(func(c *ops.ReconcileConfig) { c.Recheck = time.Nanosecond })
	require.Equal(t, int64(1), missing(eager))
	s.exec(s.store, `DELETE FROM outbox`)
	require.Zero(t, missing(eager))
}

// TestDatabasesSwapped: events are missing, and the two databases are given as each other.
// Nobody says that all is well, and everybody what is wrong.
func TestDatabasesSwapped(t *testing.T) {
	s := newShop(t)
	s.exec(s.store, `SELECT append_event(gen_random_uuid(), 'order.placed', 'g', NULL, '{}', '{}', NULL)`)
	swap := func(c *ops.ReconcileConfig) { c.Store, c.Customers = c.Customers, c.Store }
	_, err := s.reconciler(swap).Run(t.Context())
	require.ErrorContains(t, err, "holds the tables of customers")
	found, err := s.reconciler(func(c *ops.ReconcileConfig) { c.Customers = c.Store }).Run(t.Context())
	require.NoError(t, err)
	require.Len(t, found.Unreachable, 1)
	require.Contains(t, found.Unreachable[0].Error, "holds the tables of store")

	p := ops.Pipeline{Store: s.customersLook, Customers: s.storeLook}
	_, err = p.Reached(t.Context()).Database(ops.StoreDatabase)
	require.ErrorContains(t, err, "holds the tables of customers")
	report, err := ops.NewStatus(ops.StatusConfig{Databases: p.Databases(), Sample: time.Nanosecond}).Look(t.Context())
	require.NoError(t, err)
	require.Equal(t, ops.Unknown, report.Health)
	require.Contains(t, report.Relays[0].Error, "holds the tables of customers")
	checks := ops.Examine(t.Context(), ops.DoctorConfig{Store: ops.DoctorDatabase{Pool: s.customersLook}, Customers: ops.DoctorDatabase{Pool: s.storeLook}})
	for _, database := range []string{"store", "customers"} {
		found := level(checks, database, "schema")
		require.Equal(t, ops.LevelFail, found.Level)
		require.Contains(t, found.Why, "holds the tables of")
		require.NotContains(t, found.Mend, "migrate")
	}
}

func TestReconcilerRefuses(t *testing.T) {
	t.Parallel()
	_, err := ops.NewReconciler(ops.ReconcileConfig{})
	require.ErrorContains(t, err, "database is needed")
}
