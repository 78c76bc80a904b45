package relay_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	_ "github.com/restock-dev/restock/internal/pinned" // property tests
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}

const password = "only-for-tests"

// patience bounds every wait for something that must happen.
const patience = 60 * time.Second

func migrate(ctx context.Context, dsn string) error {
	if _, err := schema.MigrateStore(ctx, dsn); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, role := range []string{schema.RoleRelay, schema.RoleMaintenance} {
		if _, err := conn.Exec(ctx, "ALTER ROLE "+role+" PASSWORD '"+password+"'"); err != nil {
			return err
		}
	}
	return nil
}

// outbox is a database with an outbox and a slot, a topic, and a queue that
// takes all that the topic gets.
type outbox struct {
	t        *testing.T
	ctx      context.Context
	pg       *localpg.Server
	database string
	slot     string
	pool     *pgxpool.Pool // of the owner
	aws      *localaws.Server
	sqs      *sqs.Client
	topic    string
	queue    string
}

// newOutbox makes one on the tests' shared Postgres.
func newOutbox(t *testing.T) *outbox {
	t.Helper()
	db := pgtest.NewDatabase(t, pgtest.Template{Name: "store", Setup: migrate})
	return setUp(t, db.Server, db.Name)
}

// newOutboxOn makes one on a Postgres of its own, which the test may kill.
func newOutboxOn(t *testing.T, pg *localpg.Server) *outbox {
	t.Helper()
	require.NoError(t, pg.CreateDatabase(t.Context(), "store", ""))
	require.NoError(t, migrate(t.Context(), pg.DSN("store")))
	return setUp(t, pg, "store")
}

func init() {
	relay.TestStore = func(t *testing.T) *pgxpool.Pool {
		pool, err := pgxpool.New(t.Context(), pgtest.NewDatabase(t, pgtest.Template{Name: "store", Setup: migrate}).DSN)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
}

func setUp(t *testing.T, pg *localpg.Server, database string) *outbox {
	t.Helper()
	o := &outbox{t: t, ctx: t.Context(), pg: pg, database: database, slot: schema.SlotName(database)}
	pool, err := pgxpool.New(o.ctx, pg.DSN(database))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	o.pool = pool
	made, err := relay.CreateSlot(o.ctx, pg.DSN(database), o.slot, schema.Publication, relay.RefuseExisting, time.Minute)
	require.NoError(t, err)
	require.True(t, made)

	o.createTopic()
	return o
}

func (o *outbox) createTopic() {
	var err error
	o.aws, err = localaws.Start(localaws.Config{})
	require.NoError(o.t, err)
	o.t.Cleanup(func() { require.NoError(o.t, o.aws.Close()) })
	o.sqs = sqs.NewFromConfig(o.aws.AWSConfig())
	topics := sns.NewFromConfig(o.aws.AWSConfig())
	topic, err := topics.CreateTopic(o.ctx, &sns.CreateTopicInput{Name: aws.String("events.fifo"), Attributes: map[string]string{"FifoTopic": "true"}})
	require.NoError(o.t, err)
	o.topic = *topic.TopicArn
	queue, err := o.sqs.CreateQueue(o.ctx, &sqs.CreateQueueInput{QueueName: aws.String("all.fifo"), Attributes: map[string]string{
		"FifoQueue": "true",
		"Policy":    `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sqs:SendMessage","Resource":"*"}]}`,
	}})
	require.NoError(o.t, err)
	o.queue = *queue.QueueUrl
	arn, err := o.sqs.GetQueueAttributes(o.ctx, &sqs.GetQueueAttributesInput{QueueUrl: &o.queue, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"}})
	require.NoError(o.t, err)
	_, err = topics.Subscribe(o.ctx, &sns.SubscribeInput{
		TopicArn: &o.topic, Protocol: aws.String("sqs"), Endpoint: aws.String(arn.Attributes["QueueArn"]),
		Attributes: map[string]string{"RawMessageDelivery": "true"},
	})
	require.NoError(o.t, err)
}

// running is a relay at work.
type running struct {
	*relay.Relay
	reg  *prometheus.Registry
	done chan struct{} // closed when Run has returned
	stop func() error  // stops it and returns Run's error; may be called again
}

// start runs a relay until the test ends or stop is called.
func (o *outbox) start(change ...func(*relay.Config)) *running {
	o.t.Helper()
	publisher, err := relay.NewSNS(relay.SNSConfig{AWS: o.aws.AWSConfig(), TopicARN: o.topic})
	require.NoError(o.t, err)
	reg := prometheus.NewRegistry()
	cfg := relay.Config{
		DSN:  o.pg.RoleDSN(schema.RoleRelay, password, o.database),
		Slot: o.slot, Publication: schema.Publication, Publisher: publisher,
		Logger: zerolog.New(zerolog.NewTestWriter(o.t)).Level(zerolog.InfoLevel), Metrics: reg,
		Backoff: service.Backoff{Initial: time.Millisecond, Max: 50 * time.Millisecond},
		// The slot is told at a heartbeat what was only idle.
		HeartbeatEvery: 200 * time.Millisecond,
	}
	for _, c := range change {
		c(&cfg)
	}
	r, err := relay.New(cfg)
	require.NoError(o.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var result error
	go func() {
		defer close(done)
		result = r.Run(ctx)
	}()
	run := &running{Relay: r, reg: reg, done: done, stop: func() error {
		cancel()
		<-done
		return result
	}}
	o.t.Cleanup(func() { _ = run.stop() })
	return run
}

// metric is the sum of a metric's series, or of a histogram's counts.
func (r *running) metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	require.NoError(t, err)
	total := 0.0
	for _, f := range families {
		if f.GetName() == "restock_relay_"+name {
			for _, m := range f.GetMetric() {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return total
}

// event is a row of n bytes of data in a group.
func event(group string, n int) schema.Event {
	id := schema.NewID()
	return schema.Event{
		ID: id, Type: "order.placed", Group: group,
		Attributes: map[string]schema.Attribute{"eventType": {Type: "String", Value: "order.placed"}},
		Body:       `{"specversion":"1.0","id":"` + id.String() + `","data":"` + strings.Repeat("x", n) + `"}`,
	}
}

// commit appends the events in one transaction and returns their ids.
func (o *outbox) commit(events ...schema.Event) []uuid.UUID {
	o.t.Helper()
	ids := make([]uuid.UUID, len(events))
	require.NoError(o.t, pgx.BeginFunc(o.ctx, o.pool, func(tx pgx.Tx) error {
		for i, e := range events {
			ids[i] = e.ID
			if err := schema.Append(o.ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	}))
	return ids
}

// each commits n transactions of one event, over the given groups in turn.
func (o *outbox) each(n int, groups ...string) map[string][]uuid.UUID {
	o.t.Helper()
	ids := map[string][]uuid.UUID{}
	for i := range n {
		g := groups[i%len(groups)]
		ids[g] = append(ids[g], o.commit(event(g, 50))...)
	}
	return ids
}

func (o *outbox) one(dst any, sql string, args ...any) {
	o.t.Helper()
	require.NoError(o.t, o.pool.QueryRow(o.ctx, sql, args...).Scan(dst))
}

func (o *outbox) count(sql string, args ...any) int {
	o.t.Helper()
	var n int
	o.one(&n, "SELECT count(*) FROM "+sql, args...)
	return n
}

// eventually waits until something that must happen has.
func (o *outbox) eventually(what string, happened func() bool) {
	o.t.Helper()
	require.Eventually(o.t, happened, patience, 10*time.Millisecond, what)
}

// settled waits until every outbox row is in the ledger.
func (o *outbox) settled() {
	o.t.Helper()
	o.eventually("ledger = outbox", func() bool {
		return o.count(`outbox o LEFT JOIN ledger l ON l.day = o.day AND l.event_id = o.id WHERE l.event_id IS NULL`) == 0
	})
}

// confirmed waits until the slot is past what is committed now.
func (o *outbox) confirmedUpToNow() {
	o.t.Helper()
	var now string
	o.one(&now, `SELECT pg_current_wal_lsn()::text`)
	o.eventually("slot past "+now, func() bool {
		return o.count(`pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn >= $2::text::pg_lsn`, o.slot, now) == 1
	})
}

// received takes n messages out of the queue and returns their event ids by
// group, in the order in which they came. More than n are not waited for; that
// there are none is for drained to say.
func (o *outbox) received(n int) map[string][]uuid.UUID {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.ctx, patience)
	defer cancel()
	ids := map[string][]uuid.UUID{}
	for got := 0; got < n; {
		out, err := o.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &o.queue, MaxNumberOfMessages: 10, WaitTimeSeconds: 20,
			MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"},
		})
		require.NoError(o.t, err, "%d of %d messages came", got, n)
		for _, m := range out.Messages {
			got++
			ids[m.Attributes["MessageGroupId"]] = append(ids[m.Attributes["MessageGroupId"]], uuid.MustParse(m.Attributes["MessageDeduplicationId"]))
			_, err := o.sqs.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &o.queue, ReceiptHandle: m.ReceiptHandle})
			require.NoError(o.t, err)
		}
	}
	return ids
}

// drained says that the queue holds nothing more.
func (o *outbox) drained() {
	o.t.Helper()
	out, err := o.sqs.ReceiveMessage(o.ctx, &sqs.ReceiveMessageInput{QueueUrl: &o.queue, MaxNumberOfMessages: 10})
	require.NoError(o.t, err)
	require.Empty(o.t, out.Messages)
}

// refuseAll makes SNS refuse every publish until the returned function is called.
func (o *outbox) refuseAll() (accept func()) {
	id := o.aws.Faults().Add(localaws.Rule{Effect: localaws.InternalError, Service: "sns", Action: "PublishBatch"})
	return func() { o.aws.Faults().Remove(id) }
}

// forgetRepeats makes topic and queue take an event again, as they would five
// minutes later.
func (o *outbox) forgetRepeats() {
	o.aws.Faults().ExpireDeduplication("events.fifo")
	o.aws.Faults().ExpireDeduplication("all.fifo")
}
