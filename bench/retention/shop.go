package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/retention"
	"github.com/restock-dev/restock/schema"
)

const products = 1000

// shop is a store's database.
type shop struct {
	name, dsn string
	today     time.Time
}

func newShop(ctx context.Context, pg *localpg.Server, name string) (*shop, error) {
	if err := pg.CreateDatabase(ctx, name, ""); err != nil {
		return nil, err
	}
	s := &shop{name: name, dsn: pg.DSN(name)}
	if _, err := schema.MigrateStore(ctx, s.dsn); err != nil {
		return nil, err
	}
	err := s.with(ctx, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, `SELECT (now() AT TIME ZONE 'UTC')::date`).Scan(&s.today); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
			SELECT 'P-' || n, 'Donut', 1000000000, 1000000000, 10, 'F', 'm@example.com' FROM generate_series(0, $1::int - 1) n`, products)
		return err
	})
	return s, err
}

func (s *shop) with(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(conn)
}

// fill spreads rows over the 30 days that an outbox keeps, before yesterday.
func (s *shop) fill(ctx context.Context, rows int) error {
	var g errgroup.Group
	g.SetLimit(2)
	for ago := 2; ago < 2+retention.OutboxDays-1; ago++ {
		g.Go(func() error { return s.addDay(ctx, ago, rows/(retention.OutboxDays-1), false) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return s.with(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CHECKPOINT")
		return err
	})
}

// addDay makes an outbox partition with rows, and one of the ledger where they are
// published.
func (s *shop) addDay(ctx context.Context, ago, rows int, published bool) error {
	day := s.today.AddDate(0, 0, -ago)
	sql := fmt.Sprintf(`SET synchronous_commit = off; CREATE TABLE outbox_%[1]s (LIKE outbox INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE);
		INSERT INTO outbox_%[1]s (day, id, seq, type, message_group, attributes, body)
		SELECT '%[2]s', gen_random_uuid(), n, 'order.placed', 'customer-' || n %% 5000, '{"quantity":{"type":"Number","value":"3"}}', '{"data":{"text":"a small one"}}'
		FROM generate_series(1, %[4]d) n;
		ALTER TABLE outbox_%[1]s ADD PRIMARY KEY (day, id);
		ALTER TABLE outbox ATTACH PARTITION outbox_%[1]s FOR VALUES FROM ('%[2]s') TO ('%[3]s')`,
		day.Format("20060102"), day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly), rows)
	if published {
		sql += fmt.Sprintf(`; CREATE TABLE ledger_%[1]s (LIKE ledger INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE);
			INSERT INTO ledger_%[1]s (day, event_id, outcome, published_at) SELECT day, id, 'published', day FROM outbox_%[1]s;
			ALTER TABLE ledger_%[1]s ADD PRIMARY KEY (day, event_id);
			ALTER TABLE ledger ATTACH PARTITION ledger_%[1]s FOR VALUES FROM ('%[2]s') TO ('%[3]s')`,
			day.Format("20060102"), day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly))
	}
	return s.with(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

// maintain removes the days that are past retention, and returns how many partitions
// that were.
func (s *shop) maintain(ctx context.Context) (int, error) {
	report, err := retention.Run(ctx, retention.Config{Databases: []retention.Database{{Name: s.name, DSN: s.dsn}}})
	if removed := report.Count(retention.Removed); err != nil || removed == len(report.Partitions) {
		return removed, err
	}
	return 0, fmt.Errorf("not all was removed: %v", report.Partitions)
}
