package retention

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// mark is the comment of a table that was found to be free to go.
const mark = "restock: past retention, to be dropped"

type state int

const (
	attached state = iota
	pending        // DETACH CONCURRENTLY has done the first of its two transactions
	detached
)

// partition is the table of one day.
type partition struct {
	db      *database
	table   string
	day     time.Time
	state   state
	marked  bool
	planned bool // to go, as far as a dry run goes
}

// parsePartition tells whether the table is a partition of ours, for one day.
func parsePartition(table, name, bounds string) (*partition, bool) {
	day, err := time.Parse("20060102", strings.TrimPrefix(name, table+"_"))
	if err != nil {
		return nil, false
	}
	p := &partition{table: table, day: day}
	if bounds == "" {
		p.state = detached
	}
	return p, bounds == "" || bounds == p.bounds()
}

func (p *partition) name() string { return p.table + "_" + p.day.Format("20060102") }

func (p *partition) bounds() string {
	return fmt.Sprintf("FOR VALUES FROM ('%s') TO ('%s')", p.day.Format(time.DateOnly), p.day.AddDate(0, 0, 1).Format(time.DateOnly))
}

// pastBy tells whether the end of the day is as many days ago.
func (p *partition) pastBy(today time.Time, days int) bool {
	return !p.day.AddDate(0, 0, 1+days).After(today)
}

// ours tells that the table is in use, or is to be dropped by us.
func (p *partition) ours() bool { return p.state == attached || p.marked }

// source is where the rows are that the table has of the day.
func (d *database) source(table string, day time.Time) string {
	if p := d.find(table, day); p != nil && p.state != attached && p.marked {
		return p.name()
	}
	return table
}

// markIt tells a later run that the table may be dropped once it is detached. The
// partition has no grants of its own; who may look at the outbox may look at it still.
func (p *partition) markIt(ctx context.Context) error {
	err := p.db.inTx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf(`COMMENT ON TABLE public.%[1]s IS '%[2]s'; GRANT SELECT ON public.%[1]s TO %[3]s`, p.name(), mark, schema.RoleMaintenance))
		return err
	})
	p.marked = p.marked || err == nil
	return err
}

func (p *partition) unmark(ctx context.Context) error {
	if _, err := p.db.conn.Exec(ctx, fmt.Sprintf(`COMMENT ON TABLE public.%s IS NULL`, p.name())); err != nil {
		return fmt.Errorf("unmark %s: %w", p.name(), err)
	}
	p.marked = false
	return nil
}

// detach takes the partition out of its table, from whatever state it is in.
func (p *partition) detach(ctx context.Context, patience service.Backoff) error {
	err := service.Retry(ctx, patience, func(ctx context.Context) error {
		if p.state == attached && !p.marked {
			if err := p.markIt(ctx); err != nil {
				return ifLocked(err)
			}
		}
		how := map[state]string{attached: "CONCURRENTLY", pending: "FINALIZE"}[p.state]
		if how == "" {
			return nil
		}
		_, err := p.db.conn.Exec(ctx, fmt.Sprintf(`ALTER TABLE public.%s DETACH PARTITION public.%s %s`, p.table, p.name(), how))
		if err == nil {
			p.state = detached
			return nil
		}
		if again := p.refresh(ctx); again != nil {
			return backoff.Permanent(errors.Join(err, again))
		}
		return ifLocked(err)
	})
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	return nil
}

// refresh reads how far a detach came that failed.
func (p *partition) refresh(ctx context.Context) error {
	var detaching bool
	err := p.db.conn.QueryRow(ctx, `SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass('public.' || $1)`, p.name()).Scan(&detaching)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		p.state = detached
		return nil
	case err == nil && detaching:
		p.state = pending
	}
	return err
}

// drop drops a detached partition. With the table locked it looks for reasons once
// more, and where there are some it attaches the partition again.
func (r *run) drop(ctx context.Context, p *partition) (reasons []Reason, err error) {
	err = service.Retry(ctx, r.patience(), func(ctx context.Context) error {
		err := p.db.inTx(ctx, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, fmt.Sprintf(`LOCK TABLE public.%s IN ACCESS EXCLUSIVE MODE`, p.name())); err != nil {
				return err
			}
			found, err := r.reasons(ctx, p.day)
			if err != nil {
				return err
			}
			sql := fmt.Sprintf(`DROP TABLE public.%s`, p.name())
			if reasons = r.holding(p, found); len(reasons) > 0 {
				sql = fmt.Sprintf(`ALTER TABLE public.%[1]s ATTACH PARTITION public.%[2]s %[3]s; COMMENT ON TABLE public.%[2]s IS NULL`, p.table, p.name(), p.bounds())
			}
			_, err = tx.Exec(ctx, sql)
			return err
		})
		return ifLocked(err)
	})
	if err != nil {
		return nil, fmt.Errorf("drop: %w", err)
	}
	if len(reasons) > 0 {
		p.state, p.marked = attached, false
	}
	return reasons, nil
}

// ifLocked lets only that be tried again which failed for a lock.
func ifLocked(err error) error {
	var pg *pgconn.PgError
	if err == nil || errors.As(err, &pg) && (pg.Code == "55P03" || pg.Code == "40P01") {
		return err
	}
	return backoff.Permanent(err)
}
