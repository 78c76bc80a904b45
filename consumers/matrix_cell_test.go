package consumers_test

import (
	"math"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/matrix"
	"github.com/restock-dev/restock/schema"
)

// cell is one consumer under one fault. The clock of its queues stands still but
// for what it is moved by, so that nothing comes back by itself.
type cell struct {
	*world
	subject *matrix.Subject
	clock   *clock
	wire    *wire
	tick    chan time.Time // of the renewals
	workers []*running
	events  []uuid.UUID
}

func newCell(t *testing.T, consumer string) *cell {
	t.Helper()
	c := &cell{clock: newClock(), wire: &wire{}, tick: make(chan time.Time)}
	database, role := store, schema.RoleConsumers
	if consumer == schema.ConsumerVIP || consumer == schema.ConsumerMarketing {
		database, role = customers, schema.RoleCustomers
	}
	c.world = setupWith(t, consumer, database, role, localaws.Config{Now: c.clock.now})
	c.pool = c.connect(c.db.RoleDSN(role, password), c.wire.use)
	c.subject = matrix.NewSubject(t, consumer, c.owner, c.aws)
	return c
}

// handler makes the consumer's, without a limit that a busy machine could reach.
func (c *cell) handler() consumers.Handler {
	c.Helper()
	switch c.consumer {
	case schema.ConsumerFactory:
		return c.factoryAt(c.subject.Outside.URL, func(cfg *consumers.FactoryConfig) { cfg.Timeout = patience })
	case schema.ConsumerAds:
		cfg := c.aws.AWSConfig()
		cfg.BaseEndpoint = aws.String(c.subject.Outside.URL)
		ads, err := consumers.NewAds(consumers.AdsConfig{Pool: c.pool, SES: sesv2.NewFromConfig(cfg), From: "ads@restock.example", Timeout: patience})
		require.NoError(c, err)
		return ads
	case schema.ConsumerMarketing:
		return marketingAt(c.TB, c.subject.Outside.URL+"/webhooks", func(cfg *consumers.MarketingConfig) {
			cfg.Secrets, cfg.Timeout = []string{matrix.WebhookSecret}, patience
		})
	}
	return newVIP(c)
}

// begin starts a worker.
func (c *cell) begin(change ...func(*consumers.Config)) {
	c.Helper()
	quick := func(cfg *consumers.Config) {
		cfg.Lease, cfg.CircuitFailures, cfg.CircuitOpen = 10*time.Minute, 2, 5*time.Millisecond
	}
	r := c.prepare(c.handler(), append([]func(*consumers.Config){quick}, change...)...)
	r.SetRenewTick(c.tick)
	c.run(r)
	c.workers = append(c.workers, r)
}

// end stops all workers, which then have put back what they had.
func (c *cell) end() {
	c.Helper()
	for _, r := range c.workers {
		require.NoError(c, r.stop())
	}
}

// commit makes an event that the consumer is to answer for.
func (c *cell) commit(group string) schema.Event {
	c.Helper()
	e := c.subject.Event(group)
	c.events = append(c.events, e.ID)
	return e
}

// reaches publishes a new event.
func (c *cell) reaches(group string) schema.Event {
	c.Helper()
	e := c.commit(group)
	c.publish(e)
	return e
}

// fails makes the other side fail, or where there is none the database, by sql.
func (c *cell) fails(f matrix.Fault, sql string) {
	c.Helper()
	if c.subject.Outside != nil {
		c.subject.Outside.Fail(f)
		return
	}
	if f.Times == 0 {
		f.Times = math.MaxInt32
	}
	c.failing(f.Times, sql)
}

// later moves the clock of the queues.
func (c *cell) later(d time.Duration) {
	c.clock.advance(d)
	c.aws.Tick()
}

// metric sums a metric over all workers.
func (c *cell) metric(name string, label ...string) float64 {
	c.Helper()
	sum := 0.0
	for _, r := range c.workers {
		sum += r.metric(c.world, name, label...)
	}
	return sum
}

// until waits for a state, and lets time pass when all that there is waits for a
// later time. What is in hand is left alone: it would come back from under its
// attempt.
func (c *cell) until(what string, done func() bool) {
	c.Helper()
	idle := 0
	c.eventually(what, func() bool {
		if done() {
			return true
		}
		idle++
		if waiting, hidden := c.counts(c.queue.URL); waiting > 0 || hidden == 0 || c.metric("in_flight") > 0 {
			idle = 0
		}
		if idle == 10 {
			idle = 0
			c.later(time.Hour)
		}
		return false
	})
}

// settled waits until every event has come to its end and the queue is empty.
func (c *cell) settled() {
	c.Helper()
	c.until("everything is through", func() bool {
		waiting, hidden := c.counts(c.queue.URL)
		return waiting+hidden == 0
	})
	c.end()
	require.Equal(c, len(c.events), scan[int](c.world, `SELECT count(*) FROM inbox WHERE consumer = $1 AND event_id = ANY ($2) AND state IN ('done', 'dead')`,
		c.consumer, c.events), "events that came to an end")
	require.Equal(c, len(c.events), scan[int](c.world, `SELECT count(*) FROM inbox`))
}

// deadFor holds every dead event to its reason, and to be in the dead-letter queue
// once.
func (c *cell) deadFor(reason string) {
	c.Helper()
	want := make(map[uuid.UUID]int)
	rows, err := c.owner.Query(c.Context(), `SELECT event_id, last_error FROM inbox WHERE state = 'dead'`)
	require.NoError(c, err)
	var id uuid.UUID
	var text string
	_, err = pgx.ForEachRow(rows, []any{&id, &text}, func() error {
		require.Contains(c, text, reason)
		want[id]++
		return nil
	})
	require.NoError(c, err)
	got := make(map[uuid.UUID]int)
	for _, m := range c.deadLetters() {
		id, _, ok := schema.ParseDeadLetterID(m.Attributes["MessageDeduplicationId"])
		require.True(c, ok, m.Attributes["MessageDeduplicationId"])
		got[id]++
	}
	require.Equal(c, want, got)
}
