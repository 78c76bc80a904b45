package retention_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/retention"
	"github.com/restock-dev/restock/schema"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	password = "only-for-tests"
	patience = 60 * time.Second
)

func template(name string, migrate func(context.Context, string) ([]string, error)) pgtest.Template {
	return pgtest.Template{Name: name, Setup: func(ctx context.Context, dsn string) error {
		if _, err := migrate(ctx, dsn); err != nil {
			return err
		}
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "ALTER ROLE "+schema.RoleMaintenance+" PASSWORD '"+password+"'")
		return err
	}}
}

// base is one database of a test.
type base struct {
	t testing.TB
	*pgtest.Database
	conn *pgx.Conn
}

// shop is both databases.
type shop struct {
	t                testing.TB
	store, customers *base
	today            time.Time
}

func newShop(t testing.TB) *shop {
	t.Helper()
	s := &shop{t: t, store: newBase(t, template("store", schema.MigrateStore)), customers: newBase(t, template("customers", schema.MigrateCustomers))}
	require.NoError(t, s.store.conn.QueryRow(t.Context(), `SELECT (now() AT TIME ZONE 'UTC')::date`).Scan(&s.today))
	return s
}

func newBase(t testing.TB, tmpl pgtest.Template) *base {
	t.Helper()
	b := &base{t: t, Database: pgtest.NewDatabase(t, tmpl)}
	b.conn = b.connect()
	return b
}

func (b *base) connect() *pgx.Conn {
	b.t.Helper()
	conn, err := pgx.Connect(b.t.Context(), b.DSN)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { require.NoError(b.t, conn.Close(context.Background())) })
	return conn
}

func (b *base) exec(sql string, args ...any) {
	b.t.Helper()
	_, err := b.conn.Exec(b.t.Context(), sql, args...)
	require.NoError(b.t, err)
}

func (s *shop) day(ago int) time.Time { return s.today.AddDate(0, 0, -ago) }

func (s *shop) config() retention.Config {
	return retention.Config{
		Databases:      []retention.Database{{Name: "store", DSN: s.store.DSN}, {Name: "customers", DSN: s.customers.DSN}},
		LockTimeout:    patience,
		Tries:          1,
		ConfirmTimeout: time.Nanosecond,
	}
}

// run is a run of the defaults, changed by with.
func (s *shop) run(with ...func(*retention.Config)) map[string]string {
	s.t.Helper()
	cfg := s.config()
	for _, change := range with {
		change(&cfg)
	}
	report, err := retention.Run(s.t.Context(), cfg)
	require.NoError(s.t, err)
	lines := map[string]string{}
	for _, p := range report.Partitions {
		lines[p.Database+" "+p.Name] = p.String()
	}
	return lines
}

func dry(cfg *retention.Config) { cfg.DryRun = true }

var tables = []string{"outbox", "ledger", "parked", "inbox", "effects"}

func name(table string, day time.Time) string { return table + "_" + day.Format("20060102") }

// partition makes partitions of the tables, of all where none is named.
func (b *base) partition(day time.Time, of ...string) {
	b.t.Helper()
	if len(of) == 0 {
		of = tables
	}
	for _, table := range of {
		b.exec(fmt.Sprintf(`CREATE TABLE %[2]s (LIKE %[1]s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE);
			ALTER TABLE %[1]s ATTACH PARTITION %[2]s FOR VALUES FROM ('%[3]s') TO ('%[4]s')`,
			table, name(table, day), day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly)))
	}
}

// event is an outbox row that is in the ledger as outcome, in none where that is "".
func (b *base) event(day time.Time, outcome string) uuid.UUID {
	b.t.Helper()
	id := uuid.New()
	b.exec(`INSERT INTO outbox (day, id, type, message_group, attributes, body) VALUES ($1, $2, 'x', 'g', '{}', '{}')`, day, id)
	if outcome != "" {
		b.exec(`INSERT INTO ledger (day, event_id, outcome, published_at) VALUES ($1, $2, $3, $1::date)`, day, id, outcome)
	}
	return id
}

// replay is one of the events, of which done are dealt with.
func (b *base) replay(day time.Time, state string, done int, events ...uuid.UUID) {
	b.t.Helper()
	b.exec(`WITH r AS (INSERT INTO replays (id, selection, rate, events, state, done, asked_by, ended_at)
			VALUES (gen_random_uuid(), '{}', 0, cardinality($4::uuid[]), $2, $3, 'x', CASE WHEN $2 = 'cancelled' THEN now() END) RETURNING id)
		INSERT INTO replay_items SELECT r.id, e.place, $1, e.id FROM r, unnest($4::uuid[]) WITH ORDINALITY e (id, place)`, day, state, done, events)
}

// there are the tables of a day, whether they are attached or not.
func (b *base) there(day time.Time) []string {
	b.t.Helper()
	found := []string{}
	for _, table := range tables {
		var exists bool
		require.NoError(b.t, b.conn.QueryRow(b.t.Context(), `SELECT to_regclass($1) IS NOT NULL`, name(table, day)).Scan(&exists))
		if exists {
			found = append(found, table)
		}
	}
	return found
}

// state is attached, pending, detached or gone, and whether the table is marked.
func (b *base) state(table string, day time.Time) (state string, marked bool) {
	b.t.Helper()
	require.NoError(b.t, b.conn.QueryRow(b.t.Context(), `SELECT CASE WHEN c.oid IS NULL THEN 'gone' WHEN i.inhrelid IS NULL THEN 'detached' WHEN i.inhdetachpending THEN 'pending' ELSE 'attached' END,
			coalesce(obj_description(c.oid, 'pg_class') = $2, false)
		FROM (SELECT to_regclass($1) AS oid) c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid`, name(table, day), retention.Mark).Scan(&state, &marked))
	return state, marked
}

func (b *base) requireState(want string, marked bool, table string, day time.Time) {
	b.t.Helper()
	state, isMarked := b.state(table, day)
	require.Equal(b.t, want, state)
	require.Equal(b.t, marked, isMarked, "marked")
}

// blocker is a transaction that has the table in use. The function returned ends it.
func (b *base) blocker(table string) func() {
	b.t.Helper()
	tx, err := b.connect().Begin(b.t.Context())
	require.NoError(b.t, err)
	_, err = tx.Exec(b.t.Context(), `LOCK TABLE `+table+` IN ACCESS SHARE MODE`)
	require.NoError(b.t, err)
	return func() { require.NoError(b.t, tx.Commit(b.t.Context())) }
}
