package retention_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/retention"
	"github.com/restock-dev/restock/schema"
)

// Days are UTC, whatever the databases' own time zones make of now: one of these two
// has another date at any time.
func TestRemovesWhatIsPast(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.store.exec(`ALTER DATABASE ` + s.store.Name + ` SET timezone = 'Pacific/Kiritimati'`)
	s.store.exec(`ALTER DATABASE ` + s.store.Name + ` SET datestyle = 'German'`)
	s.customers.exec(`ALTER DATABASE ` + s.customers.Name + ` SET timezone = 'Etc/GMT+12'`)
	for _, b := range []*base{s.store, s.customers} {
		for _, ago := range []int{30, 31, 45, 46, 400} {
			b.partition(s.day(ago))
			b.event(s.day(ago), "published")
		}
	}
	planned := s.run(dry)
	require.Len(t, planned, 2*(4+2*4)) // 4 outboxes, and all of the last two days
	require.Equal(t, "store: "+name("outbox", s.day(31))+" planned", planned["store "+name("outbox", s.day(31))])
	removed := s.run()
	require.Len(t, removed, len(planned))
	for _, b := range []*base{s.store, s.customers} {
		require.Equal(t, tables, b.there(s.day(30)))
		require.Equal(t, tables[1:], b.there(s.day(31)))
		require.Equal(t, tables[1:], b.there(s.day(45)))
		require.Empty(t, b.there(s.day(46)))
		require.Empty(t, b.there(s.day(400)))
		require.Equal(t, tables, b.there(s.today))
	}
	require.Empty(t, s.run(), "again finds nothing to do")
	require.NoError(t, schema.EnsurePartitions(t.Context(), s.store.conn))
}

// Each case puts one thing in a day that keeps it, in both databases, and takes it
// out again.
func TestReasonsToStay(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		hold, free func(*shop, time.Time)
		why        string // of the store's outbox
	}{
		"unpublished": {
			func(s *shop, day time.Time) { s.store.event(day, ""); s.store.event(day, "") },
			func(s *shop, _ time.Time) {
				s.store.exec(`INSERT INTO ledger (day, event_id, outcome, published_at) SELECT day, id, 'published', day FROM outbox ON CONFLICT DO NOTHING`)
			}, "2 not published",
		},
		"unpublished in the customers": {
			func(s *shop, day time.Time) { s.customers.event(day, "") },
			func(s *shop, _ time.Time) {
				s.customers.exec(`INSERT INTO ledger (day, event_id, outcome, published_at) SELECT day, id, 'published', day FROM outbox`)
			}, "1 not published in customers",
		},
		"recorded as parked, and not to be found there": {
			func(s *shop, day time.Time) { s.store.event(day, "parked") },
			func(s *shop, _ time.Time) { s.store.exec(`UPDATE ledger SET outcome = 'published'`) },
			"1 not published",
		},
		"parked, then skipped": {
			func(s *shop, day time.Time) {
				s.store.exec(`INSERT INTO parked (day, event_id, message_group, seq, reason, detail) VALUES ($1, $2, 'g', 1, 'rejected', '')`, day, s.store.event(day, "parked"))
			},
			func(s *shop, _ time.Time) {
				s.store.exec(`UPDATE parked SET state = 'skipped', resolved_at = now()`)
			},
			"1 parked",
		},
		"parked, then sent": {
			func(s *shop, day time.Time) {
				s.store.exec(`INSERT INTO parked (day, event_id, message_group, seq, reason, detail) VALUES ($1, $2, 'g', 1, 'rejected', '')`, day, s.store.event(day, "parked"))
			},
			func(s *shop, _ time.Time) {
				s.store.exec(`UPDATE parked SET state = 'sent', resolved_at = now()`)
			},
			"1 parked",
		},
		"to be replayed": {
			func(s *shop, day time.Time) {
				s.store.replay(day, "running", 1, s.store.event(day, "published"), s.store.event(day, "published"), s.store.event(day, "published"))
				s.store.replay(day, "cancelled", 0, s.store.event(day, "published"))
			},
			func(s *shop, _ time.Time) {
				s.store.exec(`UPDATE replays SET state = 'done', done = 3, ended_at = now() - interval '28 days' WHERE state = 'running'`)
			},
			"2 to be replayed, 1 published or replayed so late that a queue may have them still",
		},
		"replayed lately, and done or cancelled": {
			func(s *shop, day time.Time) {
				s.store.replay(day, "cancelled", 1, s.store.event(day, "published"), s.store.event(day, "published"))
				s.store.replay(day, "cancelled", 1, s.store.event(day, "published"))
				s.store.exec(`UPDATE replays SET state = 'done' WHERE done = events`)
			},
			func(s *shop, _ time.Time) { s.store.exec(`UPDATE replays SET ended_at = now() - interval '28 days'`) },
			"2 published or replayed so late that a queue may have them still",
		},
		"parked, then sent lately": {
			func(s *shop, day time.Time) {
				s.store.exec(`INSERT INTO parked (day, event_id, message_group, seq, reason, detail, state, resolved_at) VALUES ($1, $2, 'g', 1, 'rejected', '', 'sent', now())`, day, s.store.event(day, "published"))
				s.store.exec(`UPDATE ledger SET published_at = now() - interval '27 days'`)
			},
			func(s *shop, _ time.Time) {
				s.store.exec(`UPDATE ledger SET published_at = now() - interval '28 days'`)
			},
			"1 published or replayed so late that a queue may have them still",
		},
		"dead": {
			func(s *shop, day time.Time) { s.store.inbox(day, "dead") },
			func(s *shop, _ time.Time) { s.store.exec(`UPDATE inbox SET state = 'done'`) },
			"1 dead-lettered",
		},
		"dead in the other database": {
			func(s *shop, day time.Time) { s.customers.inbox(day, "dead"); s.customers.inbox(day, "done") },
			func(s *shop, _ time.Time) { s.customers.exec(`UPDATE inbox SET state = 'done'`) },
			"1 dead-lettered in customers",
		},
		"redriven and not handled yet": {
			func(s *shop, day time.Time) { s.store.inbox(day, "failed"); s.store.inbox(day, "claimed") },
			func(s *shop, _ time.Time) { s.store.exec(`UPDATE inbox SET state = 'done', lease_until = NULL`) },
			"2 begun by a consumer and not ended",
		},
		"dead or failed, then handled in a replay": {
			func(s *shop, day time.Time) {
				s.store.inbox(day, "dead")
				s.store.inbox(day, "failed")
				s.store.exec(`UPDATE inbox SET updated_at = now() - interval '28 days'`)
				s.customers.inbox(day, "dead")
				s.customers.handle()
			},
			func(s *shop, _ time.Time) {
				s.store.handle()
				s.customers.exec(`UPDATE inbox SET updated_at = now() - interval '28 days'`)
			},
			"1 dead-lettered, 1 begun by a consumer and not ended, 1 dead-lettered in customers",
		},
		"recorded and not confirmed": {
			func(s *shop, day time.Time) {
				s.store.event(day, "published")
				slot := schema.SlotName(s.store.Name)
				s.store.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, slot)
				s.store.exec(`SELECT pg_logical_emit_message(true, 'x', 'y')`)
				s.store.exec(`INSERT INTO watermarks (slot, system_identifier, timeline, recorded_lsn) VALUES ($1, '1', 1, pg_current_wal_insert_lsn())`, slot)
			},
			func(s *shop, _ time.Time) {
				s.store.exec(`SELECT pg_replication_slot_advance(slot, pg_current_wal_flush_lsn()) FROM watermarks`)
			},
			"1 slot has not confirmed what is recorded",
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			day := s.day(60)
			s.store.partition(day)
			s.customers.partition(day)
			c.hold(s, day)
			outbox := "store " + name("outbox", day)
			for _, run := range [][]func(*retention.Config){{dry}, {}} {
				lines := s.run(run...)
				require.Len(t, lines, 10)
				require.Equal(t, "store: "+name("outbox", day)+" kept: "+c.why, lines[outbox])
				require.Equal(t, tables, s.store.there(day))
				require.Equal(t, tables, s.customers.there(day))
			}
			c.free(s, day)
			require.Equal(t, "store: "+name("outbox", day)+" removed", s.run()[outbox])
			require.Empty(t, s.store.there(day))
			require.Empty(t, s.customers.there(day))
		})
	}
}

func (b *base) inbox(day time.Time, state string) {
	b.t.Helper()
	b.exec(`INSERT INTO inbox (day, consumer, event_id, state, attempt, lease_until)
		VALUES ($1, 'factory', gen_random_uuid(), $2, 1, CASE WHEN $2 = 'claimed' THEN now() END)`, day, state)
}

// handle has every event of the inbox handled in a replay.
func (b *base) handle() {
	b.t.Helper()
	b.exec(`INSERT INTO inbox (day, consumer, event_id, replay_id, state, attempt) SELECT day, consumer, event_id, gen_random_uuid(), 'done', 1 FROM inbox`)
}

// A dead letter expires after 14 days; somebody has to be able to let go of its day.
func TestSettledByHand(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	settled, other := s.day(40), s.day(41)
	for _, day := range []time.Time{settled, other} {
		s.store.partition(day)
		s.store.inbox(day, "dead")
	}
	settle := func(cfg *retention.Config) { cfg.Settled = []time.Time{settled} }
	lines := s.run(settle)
	require.Contains(t, lines["store "+name("outbox", settled)], "removed")
	require.Contains(t, lines["store "+name("outbox", other)], "1 dead-lettered")

	s.store.partition(s.day(42))
	s.store.event(s.day(42), "")
	s.store.inbox(s.day(42), "dead")
	lines = s.run(func(cfg *retention.Config) { cfg.Settled = []time.Time{s.day(42)} })
	require.Contains(t, lines["store "+name("outbox", s.day(42))], "kept: 1 not published", "nothing else is settled")
}

// The items of a replay that has long been over go, and its row stays; those of a
// young one, or one that goes on, stay.
func TestForgetsOldReplays(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, state := range []string{"cancelled", "running"} {
		s.store.replay(s.today, state, 0, uuid.New())
		s.store.replay(s.today, state, 0, uuid.New())
	}
	s.store.exec(`UPDATE replays SET asked_at = now() - interval '46 days', ended_at = ended_at - interval '46 days' WHERE turn IN (1, 3)`)
	count := func(table string) (n int) {
		require.NoError(t, s.store.conn.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n))
		return n
	}
	s.run(dry)
	require.Equal(t, 4, count("replay_items"))
	s.run()
	require.Equal(t, 3, count("replay_items"))
	require.Equal(t, 4, count("replays"))
}

// A replay that is resumed while old ones are forgotten keeps its items.
func TestForgetsNoneThatIsResumed(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.store.replay(s.today, "cancelled", 0, uuid.New())
	s.store.exec(`UPDATE replays SET ended_at = ended_at - interval '46 days'`)
	operator, err := pgx.ConnectConfig(t.Context(), s.store.conn.Config())
	require.NoError(t, err)
	defer func() { _ = operator.Close(context.Background()) }()
	_, err = operator.Exec(t.Context(), `BEGIN; UPDATE replays SET state = 'waiting', ended_at = NULL`)
	require.NoError(t, err)
	resumed := make(chan error, 1)
	go func() {
		for waiting := false; !waiting; {
			err := operator.QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid`).Scan(&waiting)
			if err != nil {
				resumed <- err
				return
			}
		}
		_, err := operator.Exec(t.Context(), `COMMIT`)
		resumed <- err
	}()
	s.run()
	require.NoError(t, <-resumed)
	var items int
	require.NoError(t, s.store.conn.QueryRow(t.Context(), `SELECT count(*) FROM replay_items`).Scan(&items))
	require.Equal(t, 1, items)
}

// A replay of more items than one delete takes is forgotten in pieces, and what a resume
// would begin with goes first.
func TestForgetsALargeReplay(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.store.exec(`CREATE TABLE deleted (n int GENERATED ALWAYS AS IDENTITY, items int, first int)`)
	s.store.exec(`CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
		BEGIN INSERT INTO deleted (items, first) SELECT count(*), min(place) FROM gone; RETURN NULL; END $$`)
	s.store.exec(`CREATE TRIGGER note AFTER DELETE ON replay_items REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION note()`)
	s.store.exec(`WITH r AS (INSERT INTO replays (id, selection, rate, events, state, done, asked_by, ended_at)
			VALUES (gen_random_uuid(), '{}', 0, 25000, 'cancelled', 1000, 'x', now() - interval '46 days') RETURNING id)
		INSERT INTO replay_items SELECT r.id, i, $1, gen_random_uuid() FROM r, generate_series(1, 25000) i`, s.today)
	s.run()
	var deleted string
	require.NoError(t, s.store.conn.QueryRow(t.Context(), `SELECT string_agg(items || ' from ' || first, ', ' ORDER BY n) FROM deleted`).Scan(&deleted))
	require.Equal(t, "10000 from 1001, 10000 from 11001, 4000 from 21001, 1000 from 1", deleted)
}

// More keys than one delete takes, and not the ones of today.
func TestForgetsKeys(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.store.exec(`INSERT INTO idempotency_keys (scope, key, fingerprint, status, language, answer, created_at)
		SELECT '', n::text, '', 200, 'ko', '{}', now() - CASE WHEN n <= 10050 THEN interval '24 hours 1 second' ELSE interval '23 hours 59 minutes' END
		  FROM generate_series(1, 10060) n`)
	count := func() (n int) {
		require.NoError(t, s.store.conn.QueryRow(t.Context(), `SELECT count(*) FROM idempotency_keys`).Scan(&n))
		return n
	}
	s.run(dry)
	require.Equal(t, 10060, count())
	s.run()
	require.Equal(t, 10, count())
}

// What is past RecordDays waits for the outbox of its day, in either database.
func TestRecordsWaitForTheOutbox(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	day := s.day(60)
	s.store.partition(day, "outbox")
	s.customers.partition(day, "inbox")
	release := s.store.blocker(name("outbox", day))
	quick := func(cfg *retention.Config) { cfg.LockTimeout = 10 * time.Millisecond }
	lines := s.run(quick)
	require.Contains(t, lines["store "+name("outbox", day)], "failed: detach: ")
	require.Equal(t, "customers: "+name("inbox", day)+" kept: 1 outbox partition of the day is still there in store", lines["customers "+name("inbox", day)])
	release()
	s.run()
	require.Empty(t, s.store.there(day))
	require.Empty(t, s.customers.there(day))
}

// Who is not the owner may look, and no more.
func TestRoles(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.store.partition(s.day(31))
	s.store.partition(s.day(32))
	s.store.event(s.day(32), "")
	s.store.leaveBehind("detached", "outbox", s.day(31))
	asMaintenance := func(cfg *retention.Config) {
		cfg.DryRun = true
		cfg.Databases[0].DSN = s.store.RoleDSN(schema.RoleMaintenance, password)
	}
	lines := s.run(asMaintenance)
	require.Contains(t, lines["store "+name("outbox", s.day(31))], "planned")
	require.Contains(t, lines["store "+name("outbox", s.day(32))], "kept: 1 not published")
	cfg := s.config()
	asMaintenance(&cfg)
	cfg.DryRun = false
	_, err := retention.Run(t.Context(), cfg)
	require.ErrorIs(t, err, retention.ErrUnfit)
	require.ErrorContains(t, err, schema.RoleMaintenance+" does not own the tables")
}

// A table that only looks like a partition is let be.
func TestKnowsItsOwn(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	day := s.day(50)
	s.store.partition(day)
	s.store.exec(`ALTER TABLE outbox DETACH PARTITION ` + name("outbox", day)) // to keep it
	s.store.exec(`CREATE TABLE outbox_20209999 (a int); CREATE TABLE outbox_20200101_copy (a int)`)
	s.store.exec(`CREATE TABLE outbox_20190101 (LIKE outbox INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
		ALTER TABLE outbox ATTACH PARTITION outbox_20190101 FOR VALUES FROM ('2019-01-01') TO ('2019-02-01')`)
	lines := s.run()
	require.Equal(t, "store: "+name("outbox", day)+" kept: 1 table that somebody else has detached", lines["store "+name("outbox", day)])
	s.store.requireState("detached", false, "outbox", day)
	require.Empty(t, s.store.there(day)[1:], "it holds nothing else")
	s.store.exec(`SELECT FROM outbox_20209999, outbox_20200101_copy, outbox_20190101`)
}

// Whatever time-outs the database or the role have, a run takes the time that it needs.
func TestTakesItsTime(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.store.partition(s.day(60))
	s.store.event(s.day(60), "published")
	for _, b := range []*base{s.store, s.customers} {
		b.exec(`DO $$ DECLARE name text; BEGIN
			FOR name IN SELECT s.name FROM pg_settings s WHERE s.name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout') LOOP
				EXECUTE format('ALTER DATABASE %I SET %I = 1', current_database(), name);
			END LOOP; END $$`)
	}
	s.run()
	require.Empty(t, s.store.there(s.day(60)))
}
