package retention_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/restock-dev/restock/internal/retention"
	"github.com/restock-dev/restock/schema"
)

// leaveBehind brings a partition to where a run that was cut off left it: marked,
// pending or detached.
func (b *base) leaveBehind(state, table string, day time.Time) {
	b.t.Helper()
	part := name(table, day)
	b.exec(fmt.Sprintf(`COMMENT ON TABLE %[1]s IS '%[2]s'; GRANT SELECT ON %[1]s TO %[3]s`, part, retention.Mark, schema.RoleMaintenance))
	switch state {
	case "pending":
		release := b.blocker(table)
		b.exec(`SET lock_timeout = '10ms'`)
		_, err := b.conn.Exec(b.t.Context(), fmt.Sprintf(`ALTER TABLE %s DETACH PARTITION %s CONCURRENTLY`, table, part))
		require.ErrorContains(b.t, err, "lock timeout")
		b.exec(`RESET lock_timeout`)
		release()
		b.requireState("pending", true, table, day)
	case "detached":
		b.exec(fmt.Sprintf(`ALTER TABLE %s DETACH PARTITION %s`, table, part))
	}
}

// Cut off anywhere, the next run completes it; what may not go after all is attached
// again, or unmarked.
func TestCompletesWhatWasCutOff(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"marked", "pending", "detached"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			day := s.day(50)
			s.store.partition(day)
			for _, table := range tables {
				s.store.leaveBehind(state, table, day)
			}
			planned, removed := s.run(dry), s.run()
			for _, table := range tables {
				require.Contains(t, planned["store "+name(table, day)], "planned")
				require.Contains(t, removed["store "+name(table, day)], "removed")
			}
			require.Empty(t, s.store.there(day))
		})
		t.Run("held "+state, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			day := s.day(50)
			s.store.partition(day)
			s.store.event(day, "")
			s.store.leaveBehind(state, "outbox", day)
			for _, how := range [][]func(*retention.Config){{dry}, {}} {
				require.Equal(t, "store: "+name("outbox", day)+" kept: 1 not published", s.run(how...)["store "+name("outbox", day)])
			}
			s.store.requireState("attached", false, "outbox", day)
			require.Equal(t, tables, s.store.there(day))
			s.store.exec(`INSERT INTO ledger (day, event_id, outcome, published_at) SELECT day, id, 'published', day FROM outbox`)
			s.run()
			require.Empty(t, s.store.there(day))
		})
		t.Run("dead parked "+state, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			day := s.day(50)
			s.store.partition(day, "inbox", "parked")
			s.store.inbox(day, "dead")
			s.store.leaveBehind(state, "inbox", day)
			s.store.leaveBehind("detached", "parked", day)
			require.Contains(t, s.run()["store "+name("inbox", day)], "kept: 1 dead-lettered")
			s.store.requireState("attached", false, "inbox", day)
			s.store.requireState("attached", false, "parked", day)
		})
	}
}

// eventually waits for what another session does.
func (b *base) eventually(what string, sql string, args ...any) {
	b.t.Helper()
	conn := b.connect()
	require.Eventually(b.t, func() bool {
		var yes bool
		return conn.QueryRow(b.t.Context(), sql, args...).Scan(&yes) == nil && yes
	}, patience, 5*time.Millisecond, what)
}

const isPending = `SELECT bool_or(inhdetachpending) FROM pg_inherits`

// While one run waits another does nothing; killed amid a detach, it leaves what
// the next completes.
func TestOneAtATimeAndKilled(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	day := s.day(40)
	s.store.partition(day)
	s.store.event(day, "published")
	release := s.store.blocker("outbox")
	first := make(chan error, 1)
	go func() {
		_, err := retention.Run(t.Context(), s.config())
		first <- err
	}()
	s.store.eventually("the first run detaches", isPending)
	_, err := retention.Run(t.Context(), s.config())
	require.ErrorIs(t, err, retention.ErrBusy)
	s.run(dry) // waits for nobody
	s.store.event(s.today, "")

	s.store.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'restock_maintain' AND datname = current_database()`)
	<-first
	s.store.eventually("its lock is free", `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'restock_maintain' AND datname = current_database())`)
	s.store.requireState("pending", true, "outbox", day)
	release()
	require.Contains(t, s.run()["store "+name("outbox", day)], "removed")
}

// Two that begin at the same time: between them all goes, once.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for ago := 31; ago < 35; ago++ {
		s.store.partition(s.day(ago), "outbox")
		s.customers.partition(s.day(ago), "outbox")
	}
	var g errgroup.Group
	removed := make([]int, 2)
	for i := range removed {
		g.Go(func() error {
			report, err := retention.Run(t.Context(), s.config())
			removed[i] = report.Count(retention.Removed)
			if removed[i] == 0 {
				require.ErrorIs(t, err, retention.ErrBusy)
				return nil
			}
			return err
		})
	}
	require.NoError(t, g.Wait())
	require.Equal(t, 8, removed[0]+removed[1])
}

// A table has one partition on its way out; what comes after it waits for the next
// run, and nothing waits for any of it.
func TestStuck(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.store.partition(s.day(33), "outbox")
	s.store.partition(s.day(32), "outbox")
	s.customers.partition(s.day(32), "outbox")
	release := s.store.blocker("outbox")
	quick := func(cfg *retention.Config) { cfg.LockTimeout, cfg.Tries = 10*time.Millisecond, 2 }
	for range 2 {
		lines := s.run(quick)
		require.Contains(t, lines["store "+name("outbox", s.day(33))], "failed: detach: ERROR: canceling statement due to lock timeout")
		require.Contains(t, lines["store "+name("outbox", s.day(32))], "failed: "+name("outbox", s.day(33))+" comes first")
		s.store.event(s.today, "")
		require.NoError(t, schema.EnsurePartitions(t.Context(), s.store.conn))
	}
	require.Empty(t, s.customers.there(s.day(32)), "the other database is not held up")
	release()
	s.run()
	require.Empty(t, append(s.store.there(s.day(33)), s.store.there(s.day(32))...))
}

// Checkouts, and readers whose plans know the partitions, go on while those go.
func TestCheckoutsWhileDropping(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.store.exec(`INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
		VALUES ('a', 'A', 1000000, 1000000, 10, 'F', 'm@example.com'), ('b', 'B', 1000000, 1000000, 10, 'F', 'm@example.com')`)
	for ago := 50; ago < 56; ago++ {
		s.store.partition(s.day(ago))
		s.store.event(s.day(ago), "published")
	}
	pc, err := pgxpool.ParseConfig(s.store.DSN)
	require.NoError(t, err)
	pc.MaxConns = 8
	pc.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	pc.ConnConfig.RuntimeParams["lock_timeout"] = "20s"
	pool, err := pgxpool.NewWithConfig(t.Context(), pc)
	require.NoError(t, err)
	defer pool.Close()

	work, stop := context.WithCancel(t.Context())
	defer stop()
	var g errgroup.Group
	bought := make([]int, 4)
	for i := range bought {
		g.Go(func() error {
			for work.Err() == nil {
				if err := buy(t.Context(), pool, []string{"a", "b"}[i%2]); err != nil {
					return err
				}
				bought[i]++
			}
			return nil
		})
	}
	g.Go(func() error {
		for work.Err() == nil {
			var n int
			err := pool.QueryRow(t.Context(), `SELECT count(*) FROM ledger WHERE (day, event_id) IN (SELECT * FROM unnest($1::date[], $2::uuid[]))`,
				[]time.Time{s.today, s.day(52)}, []any{schema.NewID(), schema.NewID()}).Scan(&n)
			if err != nil {
				return fmt.Errorf("look-up: %w", err)
			}
		}
		return nil
	})
	s.store.eventually("checkouts go on", `SELECT count(*) > 20 FROM outbox`)
	lines := s.run()
	require.Len(t, lines, 6*len(tables))
	for _, line := range lines {
		require.Contains(t, line, "removed")
	}
	stop()
	require.NoError(t, g.Wait())
	var committed, sum int
	for _, n := range bought {
		sum += n
	}
	require.NoError(t, s.store.conn.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE day >= $1`, s.today).Scan(&committed))
	require.Equal(t, sum, committed)
}

func buy(ctx context.Context, pool *pgxpool.Pool, sku string) error {
	var outcome string
	err := pool.QueryRow(ctx, `SELECT outcome FROM checkout_alone($1, $2, 1, NULL, '5 minutes', $3, 'order.placed', $4::text, bucket_of($4), '{}', '{"a":1}', NULL)`,
		schema.NewID(), sku, schema.NewID(), schema.NewID().String()).Scan(&outcome)
	if err == nil && outcome != "bought" {
		return fmt.Errorf("checkout: %s", outcome)
	}
	return err
}
