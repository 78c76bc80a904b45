// Command reconcile measures how long restock reconcile takes on a full outbox: rows
// over 30 days, all published, with their inboxes in two databases; then again right
// after, as it goes on. It ends with one line per figure (internal/figure).
//
// restock status is measured besides: its first look holds every day against the ledger.
//
//	go run ./bench/reconcile -h
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/restock-dev/restock/bench/internal/private"
	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

const days = 30

type options struct {
	Rows   int    `default:"10000000" help:"Rows of the outbox, spread over 30 days. Of 100, 5 are orders that vip wants, 1 is a request for production."`
	Rounds int    `default:"3" help:"How often it is measured."`
	Dir    string `help:"Where to keep the private Postgres. It stays, and is not filled again by the next run with as many rows. Default a temporary directory." type:"path"`
}

func main() {
	var o options
	kong.Parse(&o, kong.Description("Measures how long restock reconcile takes."))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := private.Run(ctx, o.Dir, false, map[string]string{"maintenance_work_mem": "256MB"}, func(pg *localpg.Server) error { return run(ctx, pg, o) })
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
}

// run fills the databases, unless an earlier run has.
func run(ctx context.Context, pg *localpg.Server, o options) error {
	if filled(ctx, pg, o.Rows) {
		return measure(ctx, pg, o)
	}
	for name, migrate := range map[string]func(context.Context, string) ([]string, error){"store": schema.MigrateStore, "customers": schema.MigrateCustomers} {
		if err := pg.CreateDatabase(ctx, name, ""); err != nil {
			return err
		}
		if _, err := migrate(ctx, pg.DSN(name)); err != nil {
			return err
		}
	}
	started := time.Now()
	if err := fill(ctx, pg, o.Rows/days); err != nil {
		return fmt.Errorf("fill the outbox: %w", err)
	}
	fmt.Fprintf(os.Stderr, "%d rows in %s\n", o.Rows, time.Since(started).Round(time.Second))
	if err := exec(ctx, pg.DSN("store"), fmt.Sprintf(`CREATE TABLE bench_filled AS SELECT %d AS rows;; CHECKPOINT`, o.Rows)); err != nil {
		return err
	}
	return measure(ctx, pg, o)
}

func filled(ctx context.Context, pg *localpg.Server, rows int) bool {
	return exec(ctx, pg.DSN("store"), fmt.Sprintf(`SELECT 1 / (SELECT count(*) FROM bench_filled WHERE rows = %d)`, rows)) == nil
}

// fill makes the days before today, two at once.
func fill(ctx context.Context, pg *localpg.Server, rows int) error {
	var g errgroup.Group
	g.SetLimit(2)
	for ago := 2; ago < 2+days; ago++ {
		g.Go(func() error {
			day := time.Now().UTC().AddDate(0, 0, -ago)
			if err := exec(ctx, pg.DSN("store"), partitions(day)+fmt.Sprintf(events, day.Format("20060102"), day.Format(time.DateOnly), rows)); err != nil {
				return err
			}
			return exec(ctx, pg.DSN("customers"), partitions(day)+fmt.Sprintf(handled, day.Format("20060102"), day.Format(time.DateOnly), rows, "vip", 5))
		})
	}
	return g.Wait()
}

// partitions makes those of a day that is past.
func partitions(day time.Time) string {
	sql := "SET synchronous_commit = off;;"
	for _, table := range []string{"outbox", "ledger", "parked", "inbox", "effects"} {
		sql += fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %[1]s_%[2]s (LIKE %[1]s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE);;
			DO $$ BEGIN ALTER TABLE %[1]s ATTACH PARTITION %[1]s_%[2]s FOR VALUES FROM ('%[3]s') TO ('%[4]s'); EXCEPTION WHEN wrong_object_type THEN NULL; END $$;;`,
			table, day.Format("20060102"), day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly))
	}
	return sql
}

// Ids are in the order of their making, as UUIDv7 is.
const (
	id     = `('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid`
	events = `INSERT INTO outbox (day, id, type, message_group, attributes, body)
		SELECT '%[2]s', ` + id + `, CASE WHEN n %% 100 = 0 THEN 'replenishment.requested' ELSE 'order.placed' END, 'customer-' || n %% 5000,
			jsonb_build_object('quantity', jsonb_build_object('type', 'Number', 'value', CASE WHEN n %% 100 BETWEEN 1 AND 5 THEN '100' ELSE '3' END)), repeat('x', 300)
		FROM generate_series(1, %[3]d) n;;
		INSERT INTO ledger (day, event_id, outcome, message_id, sequence_number, published_at)
		SELECT '%[2]s', ` + id + `, 'published', gen_random_uuid(), '10000000000000000000', '%[2]s' FROM generate_series(1, %[3]d) n;;
		INSERT INTO inbox (day, consumer, event_id, state, attempt) SELECT '%[2]s', c, ` + id + `, 'done', 1
		FROM generate_series(100, %[3]d, 100) n, unnest(ARRAY['factory', 'ads']) c;;
		VACUUM (FREEZE, ANALYZE) outbox_%[1]s;; VACUUM (FREEZE, ANALYZE) ledger_%[1]s;; VACUUM (FREEZE, ANALYZE) inbox_%[1]s`
	handled = `INSERT INTO inbox (day, consumer, event_id, state, attempt) SELECT '%[2]s', '%[4]s', ` + id + `, 'done', 1
		FROM generate_series(1, %[3]d) n WHERE n %% 100 BETWEEN 1 AND %[5]d;; VACUUM (FREEZE, ANALYZE) inbox_%[1]s`
)

// exec runs statements, apart by two semicolons, one by one, because VACUUM wants that.
func exec(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, statement := range strings.Split(sql, ";;") {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%.60s: %w", statement, err)
		}
	}
	return nil
}

func measure(ctx context.Context, pg *localpg.Server, o options) error {
	var store, customers *pgxpool.Pool
	for name, pool := range map[string]**pgxpool.Pool{"store": &store, "customers": &customers} {
		made, err := pgxpool.New(ctx, pg.DSN(name)+"&pool_max_conns=6")
		if err != nil {
			return err
		}
		defer made.Close()
		*pool = made
	}
	var whole, again, status []float64
	for range o.Rounds {
		began := time.Now()
		looked, err := ops.NewStatus(ops.StatusConfig{Databases: []ops.StatusDatabase{{Name: "store", Pool: store}, {Name: "customers", Pool: customers}}, Sample: time.Millisecond}).Look(ctx)
		if err != nil || looked.Relays[0].Error != "" || looked.Relays[0].Unpublished != 0 {
			return fmt.Errorf("want a status with nothing unpublished, got %+v: %w", looked.Relays, err)
		}
		status = append(status, time.Since(began).Seconds())
		r, err := ops.NewReconciler(ops.ReconcileConfig{Store: store, Customers: customers, VIPThreshold: schema.DefaultVIPThreshold})
		if err != nil {
			return err
		}
		for _, seconds := range []*[]float64{&whole, &again} {
			found, err := r.Run(ctx)
			if err != nil {
				return err
			}
			if found.Missing != 0 || found.Outboxes[0].Events != int64(o.Rows/days*days) {
				return fmt.Errorf("want nothing missing of %d, got %+v", o.Rows, found)
			}
			*seconds = append(*seconds, found.Seconds)
		}
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	figure.Print(os.Stdout, "reconcile", "s", figure.Goal{}, whole...)
	figure.Print(os.Stdout, "reconcile_again", "s", figure.Goal{}, again...)
	figure.Print(os.Stdout, "status_first_look", "s", figure.Goal{}, status...)
	figure.Print(os.Stdout, "reconcile_memory", "MiB", figure.Goal{}, float64(memory.Sys>>20))
	return nil
}
