package ops_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// status makes a Status of the world's store and of its two consumers.
func (w *world) status(limits ops.Limits) *ops.Status {
	w.Helper()
	cfg := ops.StatusConfig{
		Databases: []ops.StatusDatabase{{Name: "store", Pool: w.cfg.Consumers[0].Inbox}},
		SQS:       w.queues, Limits: limits, Sample: time.Nanosecond,
		Find: func(_ context.Context, in schema.Interest) (ops.Consumer, error) {
			for _, c := range w.cfg.Consumers {
				if c.Interest.Consumer == in.Consumer {
					return c, nil
				}
			}
			return ops.Consumer{}, errors.New("no such queue")
		},
	}
	for _, c := range w.cfg.Consumers {
		cfg.Interests = append(cfg.Interests, c.Interest)
	}
	return ops.NewStatus(cfg)
}

func (w *world) look(s *ops.Status) ops.StatusReport {
	w.Helper()
	r, err := s.Look(w.Context())
	require.NoError(w, err)
	return r
}

// exec runs a statement as the owner.
func (w *world) exec(sql string, args ...any) {
	w.Helper()
	_, err := w.owner.Exec(w.Context(), sql, args...)
	require.NoError(w, err)
}

// slot makes the database's slot, which goes with the test.
func (w *world) slot() (name string) {
	w.Helper()
	require.NoError(w, w.owner.QueryRow(w.Context(), `SELECT slot_name FROM pg_create_logical_replication_slot('restock_' || current_database(), 'pgoutput')`).Scan(&name))
	w.Cleanup(func() {
		_, err := w.owner.Exec(context.Background(), `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`, name)
		require.NoError(w, err)
	})
	return name
}

// hold takes the lock of a relay, or waits for it, on a connection of its name.
func (w *world) hold(slot string) {
	w.Helper()
	cfg, err := pgxpool.ParseConfig(w.owner.Config().ConnString())
	require.NoError(w, err)
	cfg.MaxConns = 1
	cfg.ConnConfig.RuntimeParams["application_name"] = slot + "_guard"
	pool, err := pgxpool.NewWithConfig(w.Context(), cfg)
	require.NoError(w, err)
	w.Cleanup(pool.Close)
	_, err = pool.Exec(w.Context(), `SELECT pg_try_advisory_lock(hashtextextended('restock:relay:' || $1, 0))`, slot)
	require.NoError(w, err)
}

// record says that an event was published a while ago.
func (w *world) record(e schema.Event, ago string) {
	w.Helper()
	w.exec(`INSERT INTO ledger (day, event_id, outcome, published_at) VALUES ($1, $2, 'published', now() - $3::text::interval)`, e.Day, e.ID, ago)
}

func concerns(r ops.StatusReport) string {
	var all []string
	for _, f := range r.Concerns {
		all = append(all, string(f.Health)+" "+f.About+": "+f.What)
	}
	return strings.Join(all, "\n")
}

// TestStatusOfARelay: from no slot at all to a relay that is behind and caught up.
func TestStatusOfARelay(t *testing.T) {
	w := setup(t)
	s := w.status(ops.Limits{})
	r := w.look(s)
	require.Equal(t, ops.Degraded, r.Health)
	require.Contains(t, concerns(r), "is missing")
	require.Contains(t, concerns(r), "no relay is active")
	require.Zero(t, r.Relays[0].LagSeconds)

	slot := w.slot()
	w.hold(slot)
	w.hold(slot)
	r = w.look(s)
	require.Equal(t, slot, r.Relays[0].Slot)
	require.Equal(t, ops.RelayStarting, r.Relays[0].State)
	require.Equal(t, 1, r.Relays[0].Standbys)
	require.Equal(t, "reserved", r.Relays[0].SlotState)
	require.Equal(t, ops.Healthy, r.Health, concerns(r))
	require.Equal(t, 14, r.Relays[0].PartitionDays)
	require.Nil(t, r.Relays[0].LeftBytes, "nothing bounds it")

	// An event from before midnight may be committed after, so both days stay open.
	old, now := w.append("a"), w.append("b")
	w.exec(`ALTER TABLE outbox DISABLE TRIGGER ALL`)
	w.exec(`UPDATE outbox SET created_at = now() - interval '3 minutes' WHERE id = $1`, old.ID)
	r = w.look(s)
	require.InDelta(t, 180, r.Relays[0].LagSeconds, 60)
	require.EqualValues(t, 2, r.Relays[0].Unpublished)
	require.Nil(t, r.Relays[0].DrainSeconds, "nothing is published")
	require.Contains(t, concerns(r), "publishing is behind: 2 events wait")

	w.record(old, "0")
	r = w.look(s)
	require.Less(t, r.Relays[0].LagSeconds, 60.0)
	require.InDelta(t, 1.0/60, r.Relays[0].EventsPerSecond, 0.001)
	require.InDelta(t, 60, *r.Relays[0].DrainSeconds, 0.1)
	w.record(now, "0")
	r = w.look(s)
	require.Zero(t, r.Relays[0].LagSeconds, "a true 0")
	require.Equal(t, ops.Healthy, r.Health, concerns(r))

	w.exec(`INSERT INTO watermarks (slot, system_identifier, timeline, sweep) VALUES ($1, '', 0, 'it was lost')`, slot)
	r = w.look(s)
	require.Equal(t, ops.RelaySweeping, r.Relays[0].State)
	require.Contains(t, concerns(r), "it was lost")
}

// TestStatusOfWhatWaitsForSomebody: parked events, old replenishments, few partitions.
func TestStatusOfWhatWaitsForSomebody(t *testing.T) {
	w := setup(t)
	w.hold(w.slot())
	e := w.append("a")
	w.exec(`INSERT INTO ledger (day, event_id, outcome) VALUES ($1, $2, 'parked')`, e.Day, e.ID)
	w.exec(`INSERT INTO parked (day, event_id, message_group, seq, reason, detail) VALUES ($1, $2, 'a', 1, 'rejected', 'no')`, e.Day, e.ID)
	w.exec(`INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email) SELECT sku, 'x', 0, 0, 1, 'f', 'm@x.example' FROM unnest(ARRAY['a', 'b']) sku`)
	w.exec(`INSERT INTO replenishments (id, sku, quantity, event_id, requested_at) VALUES
		(gen_random_uuid(), 'a', 1, gen_random_uuid(), now() - interval '2 days'), (gen_random_uuid(), 'b', 1, gen_random_uuid(), now())`)
	w.exec(`DO $$ DECLARE p text; BEGIN FOR p IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'outbox'::regclass
		AND to_date(right(c.relname, 8), 'YYYYMMDD') > (now() AT TIME ZONE 'UTC')::date + 1 LOOP EXECUTE 'DROP TABLE ' || p; END LOOP; END $$`)
	r := w.look(w.status(ops.Limits{}))
	require.Zero(t, r.Relays[0].Unpublished, "parked is dealt with")
	require.Equal(t, &ops.ReplenishmentStatus{Open: 2, Overdue: 1, OldestSeconds: r.Relays[0].Replenishments.OldestSeconds}, r.Relays[0].Replenishments)
	require.Regexp(t, "^degraded store: 1 events and 0 groups are parked\n"+
		"degraded store: partitions are made for 1 days ahead\n"+
		`degraded store: 1 replenishments are open for more than 24h0m0s, the oldest for 48h0m\d+s$`, concerns(r))
}

// TestStatusOfQueues: what waits, since when, what failed, what is dead.
func TestStatusOfQueues(t *testing.T) {
	w := setup(t)
	w.hold(w.slot())
	s := w.status(ops.Limits{})
	require.Nil(t, w.look(s).Queues[0].OldestSeconds, "nothing waits")

	handled, waits, waitsLonger := w.append("a"), w.append("b"), w.append("c")
	for e, ago := range map[*schema.Event]string{&handled: "1 hour", &waits: "2 minutes", &waitsLonger: "10 minutes"} {
		w.record(*e, ago)
	}
	w.exec(`INSERT INTO inbox (day, consumer, event_id, state, attempt) VALUES ($1, 'factory', $2, 'done', 1)`, handled.Day, handled.ID)
	w.exec(`INSERT INTO inbox (day, consumer, event_id, state, attempt, last_error) VALUES ($1, 'factory', $2, 'failed', 3, 'the factory said no: sig=secret')`, waitsLonger.Day, waitsLonger.ID)
	w.put(w.queue.URL, "b", waits.Body)
	w.put(w.queue.URL, "c", waitsLonger.Body)
	w.put(w.queue.DLQURL, "d", "{}")
	w.put(w.queue.SubscriptionDLQURL, "d", "{}")
	r := w.look(s)
	q := r.Queues[0]
	require.Empty(t, q.Error)
	require.Equal(t, []int{2, 0, 2}, []int{q.Visible, q.InFlight, q.Dead})
	require.InDelta(t, 600, *q.OldestSeconds, 60)
	require.False(t, q.OldestAtLeast)
	require.EqualValues(t, 1, q.Failing)
	require.Equal(t, "the factory said no: sig=redacted", q.LastError)
	require.InDelta(t, 2.0/60, q.AttemptsPerSecond, 0.001)
	require.Contains(t, concerns(r), "degraded factory: 2 messages are dead")
	require.Regexp(t, `degraded factory: 2 messages wait, one was published 10m\d+s ago`, concerns(r))
	require.Zero(t, r.Queues[1].Visible+r.Queues[1].Dead, "ads")

	problems, err := testutil.CollectAndLint(s.Collector())
	require.NoError(t, err)
	require.Empty(t, problems)
	require.NoError(t, testutil.CollectAndCompare(s.Collector(), strings.NewReader(`# HELP restock_status_dead_letters Messages in both dead-letter queues, about.
# TYPE restock_status_dead_letters gauge
restock_status_dead_letters{consumer="ads"} 0
restock_status_dead_letters{consumer="factory"} 2
`), "restock_status_dead_letters"))
}

// TestStatusCannotTell: what cannot be asked is said, and the rest is there. No old
// value stays in the metrics.
func TestStatusCannotTell(t *testing.T) {
	w := setup(t)
	w.hold(w.slot())
	s := w.status(ops.Limits{})
	require.Equal(t, ops.Healthy, w.look(s).Health)
	reg := prometheus.NewRegistry()
	reg.MustRegister(s.Collector())
	require.Positive(t, count(t, reg, "restock_status_dead_letters"))

	cfg := w.aws.AWSConfig()
	cfg.BaseEndpoint = aws.String("http://127.0.0.1:1")
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	*w.queues = *sqs.NewFromConfig(cfg)
	r := w.look(s)
	require.Equal(t, ops.Unknown, r.Health)
	require.NotEmpty(t, r.Queues[0].Error)
	require.NotContains(t, r.Queues[0].Error, "\n")
	require.Equal(t, ops.RelayStarting, r.Relays[0].State)
	require.Zero(t, count(t, reg, "restock_status_dead_letters"))
	require.Positive(t, count(t, reg, "restock_status_publish_lag_seconds"))

	// What the slot says is known where the ledger may not be read, and somebody is called.
	w.exec(`REVOKE SELECT ON ledger FROM restock_maintenance`)
	r = w.look(s)
	require.Contains(t, r.Relays[0].Error, "permission denied")
	require.Zero(t, count(t, reg, "restock_status_publish_lag_seconds"))
	require.Positive(t, count(t, reg, "restock_status_relay_active"))
	require.Positive(t, count(t, reg, "restock_status_slot_left_seconds"))

	w.cfg.Consumers[0].Inbox.Close()
	r = w.look(s)
	require.Equal(t, ops.Unknown, r.Health)
	require.Contains(t, r.Relays[0].Error, "closed pool")
	require.Zero(t, count(t, reg, "restock_status_publish_lag_seconds"))
	require.Zero(t, count(t, reg, "restock_status_relay_active"))
	require.Equal(t, 3, count(t, reg, "restock_status_known"))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Look(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// TestStatusOfAFrozenDatabase: one that takes connections and never answers, or drops what
// is sent to it, is waited for once and not for each question.
func TestStatusOfAFrozenDatabase(t *testing.T) {
	w := setup(t)
	frozen, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, frozen.Close()) })
	pool, err := pgxpool.New(t.Context(), "postgres://nobody@"+frozen.Addr().String()+"/store?sslmode=disable")
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	for i := range w.cfg.Consumers {
		w.cfg.Consumers[i].Inbox, w.cfg.Consumers[i].Outbox = pool, pool
	}

	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second) // one question alone takes 20
	defer cancel()
	r, err := w.status(ops.Limits{}).Look(ctx)
	require.NoError(t, err)
	require.Equal(t, ops.Unknown, r.Health)
	require.Contains(t, r.Relays[0].Error, "no answer for 5s")
	for _, q := range r.Queues {
		require.Contains(t, q.Error, "no answer for 5s")
	}
}

func count(t *testing.T, reg *prometheus.Registry, name string) int {
	t.Helper()
	n, err := testutil.GatherAndCount(reg, name)
	require.NoError(t, err)
	return n
}

// TestStatusReadsNoOldDayTwice: a day that is over and published is not asked again.
func TestStatusReadsNoOldDayTwice(t *testing.T) {
	w := setup(t)
	w.hold(w.slot())
	for _, table := range []string{"outbox", "ledger"} {
		w.exec(`CREATE TABLE ` + table + `_20200101 PARTITION OF ` + table + ` FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')`)
	}
	id := uuid.New()
	w.exec(`INSERT INTO outbox (day, id, type, message_group, attributes, body, created_at) VALUES ('2020-01-01', $1, 'x', 'g', '{}', '{}', '2020-01-01')`, id)
	s := w.status(ops.Limits{})
	r := w.look(s)
	require.EqualValues(t, 1, r.Relays[0].Unpublished)
	require.Greater(t, r.Relays[0].LagSeconds, 1e8)
	w.exec(`INSERT INTO ledger (day, event_id, outcome) VALUES ('2020-01-01', $1, 'published')`, id)
	require.Zero(t, w.look(s).Relays[0].Unpublished)
	w.exec(`DELETE FROM ledger`)
	require.Zero(t, w.look(s).Relays[0].Unpublished, "the day is settled")
	require.EqualValues(t, 1, w.look(w.status(ops.Limits{})).Relays[0].Unpublished)
}

// TestStatusOfShards: each slot of a split outbox is seen, also one that a change of the
// shards has left behind, and what is said of the database is the worst of them.
func TestStatusOfShards(t *testing.T) {
	w := setup(t)
	base := w.slot()
	w.exec(`INSERT INTO shards (slot, relay, publication, first_bucket, last_bucket, state)
		VALUES ($1 || '_1_of_2', $1, 'p1', 0, 127, 'serving'), ($1 || '_2_of_2', $1, 'p2', 128, 255, 'serving'), ($1, $1, 'restock_outbox', 0, 255, 'leaving')`, base)
	w.exec(`SELECT pg_create_logical_replication_slot($1 || '_1_of_2', 'pgoutput')`, base)
	w.Cleanup(func() {
		_, err := w.owner.Exec(context.Background(), `SELECT pg_drop_replication_slot($1 || '_1_of_2')`, base)
		require.NoError(w, err)
	})
	w.exec(`SELECT pg_advisory_lock(hashtextextended('restock:relay:' || $1 || '_1_of_2', 0))`, base)
	r := w.look(w.status(ops.Limits{}))
	require.Len(t, r.Relays, 1)
	relay := r.Relays[0]
	require.Len(t, relay.Shards, 3)
	require.Equal(t, []string{ops.RelayStarting, ops.RelayNone}, []string{relay.Shards[0].State, relay.Shards[1].State})
	require.Equal(t, []string{ops.ShardServing, ops.ShardServing, ops.ShardLeaving}, []string{relay.Shards[0].Place, relay.Shards[1].Place, relay.Shards[2].Place})
	require.Equal(t, base, relay.Slot)
	require.Equal(t, ops.RelayNone, relay.State, "the worst")
	require.Equal(t, "missing", relay.SlotState, "the worst")
	require.Equal(t, relay.Shards[2].RetainedBytes, relay.RetainedBytes, "the most, which is that of the slot left behind")
	require.Contains(t, concerns(r), "slot "+base+"_2_of_2 is missing")
	require.Contains(t, concerns(r), "no relay is active on slot "+base+"_2_of_2")
	require.Contains(t, concerns(r), "the shards are being changed, and slot "+base+" keeps WAL meanwhile")
	require.NotContains(t, concerns(r), "no relay is active on slot "+base+"\n")
}
