package consumers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	_ "github.com/restock-dev/restock/internal/pinned" // property tests
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

const (
	password = "only-for-tests"
	// patience is more than a visibility timeout: a poll that a stop has cut may
	// have taken a message, which then comes back by itself.
	patience = 90 * time.Second
)

// The two databases that consumers have their inbox in, each with their role.
var (
	store     = template("store", schema.MigrateStore, schema.RoleConsumers)
	customers = template("customers", schema.MigrateCustomers, schema.RoleCustomers)
)

func template(name string, migrate func(context.Context, string) ([]string, error), role string) pgtest.Template {
	return pgtest.Template{Name: name, Setup: func(ctx context.Context, dsn string) error {
		if _, err := migrate(ctx, dsn); err != nil {
			return err
		}
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "ALTER ROLE "+role+" PASSWORD '"+password+"'")
		return err
	}}
}

// world is one test's own: a database, an AWS, and workers of one consumer.
type world struct {
	testing.TB
	consumer string
	role     string
	db       *pgtest.Database
	owner    *pgxpool.Pool
	pool     *pgxpool.Pool // of the role
	aws      *localaws.Server
	topics   *sns.Client
	queues   *sqs.Client
	made     topology.Topology
	queue    topology.Queue // the consumer's
	skus     atomic.Int64
}

// setup is a world of the factory's consumer.
func setup(t *testing.T) *world {
	t.Helper()
	return setupOf(t, schema.ConsumerFactory, store, schema.RoleConsumers)
}

func setupOf(t *testing.T, consumer string, database pgtest.Template, role string) *world {
	t.Helper()
	return setupWith(t, consumer, database, role, localaws.Config{})
}

func setupWith(t *testing.T, consumer string, database pgtest.Template, role string, cfg localaws.Config) *world {
	t.Helper()
	t.Parallel()
	w := &world{TB: t, consumer: consumer, role: role, db: pgtest.NewDatabase(t, database)}
	w.begin(cfg)
	return w
}

// begin connects to the database and starts an AWS.
func (w *world) begin(cfg localaws.Config) {
	w.Helper()
	w.owner = w.connect(w.db.DSN)
	w.pool = w.consumersPool()
	server, err := localaws.Start(cfg)
	require.NoError(w, err)
	w.useAWS(server)
}

// useAWS makes the topic and the queues on a server, which ends with the test.
func (w *world) useAWS(server *localaws.Server) {
	w.Helper()
	cfg := server.AWSConfig()
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	w.Cleanup(func() { require.NoError(w, server.Close()) })
	w.aws, w.topics, w.queues = server, sns.NewFromConfig(cfg), sqs.NewFromConfig(cfg)
	var err error
	w.made, err = topology.Create(w.Context(), w.topics, w.queues, schema.Interests(schema.DefaultVIPThreshold))
	require.NoError(w, err)
	w.queue = w.made.Queues[w.consumer]
}

// clock is a clock of a test's own.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// connect connects as restock consume does, unless the test says otherwise.
func (w *world) connect(dsn string, change ...func(*pgxpool.Config)) *pgxpool.Pool {
	w.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(w, err)
	cfg.MaxConns = 4
	for _, c := range change {
		c(cfg)
	}
	cfg.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(w, err)
	w.Cleanup(pool.Close)
	return pool
}

func (w *world) consumersPool() *pgxpool.Pool {
	return w.connect(w.db.RoleDSN(w.role, password))
}

// exec runs a statement as the owner.
func (w *world) exec(sql string, args ...any) {
	w.Helper()
	_, err := w.owner.Exec(w.Context(), sql, args...)
	require.NoError(w, err)
}

func scan[T any](w *world, sql string, args ...any) T {
	w.Helper()
	var v T
	require.NoError(w, w.owner.QueryRow(w.Context(), sql, args...).Scan(&v))
	return v
}

// eventually waits for a state that nothing signals.
func (w *world) eventually(what string, done func() bool) {
	w.Helper()
	require.Eventually(w, done, patience, 10*time.Millisecond, what)
}

// request opens a replenishment as a failing checkout does and publishes its
// event as the relay does. Each has a product of its own.
func (w *world) request() schema.Event {
	w.Helper()
	p := w.replenishment(fmt.Sprintf("SKU-%d", w.skus.Add(1)))
	w.exec(`INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
		VALUES ($1, 'Donut', 0, 0, 10, 'FF-500293', 'manager@example.com')`, p.SKU)
	e := w.append(p)
	w.exec(`INSERT INTO replenishments (id, sku, quantity, event_id) VALUES ($1, $2, $3, $4)`, p.ReplenishmentID, p.SKU, p.Quantity, e.ID)
	w.publish(e)
	return e
}

func (w *world) replenishment(sku string) schema.ReplenishmentRequested {
	return schema.ReplenishmentRequested{
		ReplenishmentID: uuid.New(), SKU: sku, ProductName: "Donut", Quantity: 10, FactoryID: "FF-500293",
		Requester: "manager@example.com", CallbackURL: "http://127.0.0.1:1/stock-increase/1?sig=secret",
	}
}

// event appends and publishes an event of a group for handlers of the test's own.
func (w *world) event(sku string) schema.Event {
	w.Helper()
	e := w.append(w.replenishment(sku))
	w.publish(e)
	return e
}

func (w *world) append(p schema.Payload) schema.Event {
	w.Helper()
	e, err := schema.New(schema.NewID(), p, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	require.NoError(w, err)
	require.NoError(w, schema.Append(w.Context(), w.owner, e))
	require.NoError(w, w.owner.QueryRow(w.Context(), `SELECT day, seq, body FROM outbox WHERE id = $1`, e.ID).Scan(&e.Day, &e.Seq, &e.Body))
	e.Body, err = schema.WithSequence(e.Body, e.Seq)
	require.NoError(w, err)
	return e
}

// publish sends an event to the topic; a replay or a repeat has a deduplication
// id of its own.
func (w *world) publish(e schema.Event, replay ...schema.Replay) {
	w.Helper()
	in := &sns.PublishInput{
		TopicArn: aws.String(w.made.TopicARN), Message: aws.String(e.Body), MessageGroupId: aws.String(e.Group),
		MessageDeduplicationId: aws.String(uuid.NewString()), MessageAttributes: make(map[string]snstypes.MessageAttributeValue),
	}
	if e.Subject != "" {
		in.Subject = aws.String(e.Subject)
	}
	for name, a := range e.Attributes {
		in.MessageAttributes[name] = snstypes.MessageAttributeValue{DataType: aws.String(a.Type), StringValue: aws.String(a.Value)}
	}
	for _, r := range replay {
		in.MessageAttributes["replay"] = snstypes.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(r.String())}
	}
	_, err := w.topics.Publish(w.Context(), in)
	require.NoError(w, err)
}

// forced is a replay that is handled whatever the inbox says of before.
func forced(id uuid.UUID) schema.Replay { return schema.Replay{ID: id, Force: true} }

// send puts any body into the queue.
func (w *world) send(group, body string) {
	w.Helper()
	_, err := w.queues.SendMessage(w.Context(), &sqs.SendMessageInput{
		QueueUrl: aws.String(w.queue.URL), MessageBody: aws.String(body), MessageGroupId: aws.String(group),
		MessageDeduplicationId: aws.String(uuid.NewString()),
		MessageAttributes:      map[string]sqstypes.MessageAttributeValue{"color": {DataType: aws.String("String"), StringValue: aws.String("blue")}},
	})
	require.NoError(w, err)
}

// row is an inbox row.
type row struct {
	state     string
	attempt   int
	uncertain int
	lastError string
	effect    string
}

func (w *world) inbox(event, replay uuid.UUID) row {
	w.Helper()
	var r row
	err := w.owner.QueryRow(w.Context(), `SELECT state, attempt, repeated_uncertain, coalesce(last_error, ''), coalesce(effect, '')
		FROM inbox WHERE event_id = $1 AND replay_id = $2`, event, replay).Scan(&r.state, &r.attempt, &r.uncertain, &r.lastError, &r.effect)
	if err != nil {
		require.ErrorIs(w, err, pgx.ErrNoRows)
	}
	return r
}

// await waits for the event's inbox row to be in a state.
func (w *world) await(event uuid.UUID, state string) row {
	w.Helper()
	w.eventually("inbox row becomes "+state, func() bool { return w.inbox(event, uuid.Nil).state == state })
	return w.inbox(event, uuid.Nil)
}

// counts returns how many messages of a queue wait and how many are in flight.
func (w *world) counts(url string) (waiting, inFlight int) {
	w.Helper()
	out, err := w.queues.GetQueueAttributes(context.Background(), &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(url), AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll},
	})
	require.NoError(w, err)
	waiting, err = strconv.Atoi(out.Attributes["ApproximateNumberOfMessages"])
	require.NoError(w, err)
	inFlight, err = strconv.Atoi(out.Attributes["ApproximateNumberOfMessagesNotVisible"])
	require.NoError(w, err)
	return waiting, inFlight
}

// awaitEmpty waits until the queue holds nothing more.
func (w *world) awaitEmpty() {
	w.Helper()
	w.eventually("queue is empty", func() bool {
		waiting, inFlight := w.counts(w.queue.URL)
		return waiting+inFlight == 0
	})
}

// deadLetters receives what is in the dead-letter queue.
func (w *world) deadLetters() []sqstypes.Message {
	w.Helper()
	var all []sqstypes.Message
	for {
		out, err := w.queues.ReceiveMessage(w.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: aws.String(w.queue.DLQURL), MaxNumberOfMessages: 10, VisibilityTimeout: 3600,
			MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"},
		})
		require.NoError(w, err)
		if len(out.Messages) == 0 {
			return all
		}
		all = append(all, out.Messages...)
	}
}

// comeBack ends the wait of messages that were put back with a delay.
func (w *world) comeBack() { w.aws.Faults().ExpireVisibility(schema.QueueName(w.consumer)) }

// handlerFunc is a handler of a test.
type handlerFunc func(ctx context.Context, d consumers.Delivery) (consumers.Effect, error)

func (f handlerFunc) Handle(ctx context.Context, d consumers.Delivery) (consumers.Effect, error) {
	return f(ctx, d)
}

// running is a worker that runs.
type running struct {
	*consumers.Worker
	metrics *prometheus.Registry
	cancel  context.CancelFunc
	done    chan error
	once    sync.Once
	err     error
}

// stop stops the worker and returns what Run did.
func (r *running) stop() error {
	r.once.Do(func() {
		r.cancel()
		r.err = <-r.done
	})
	return r.err
}

// metric sums the values of a metric over its labels, or those with one value.
func (r *running) metric(w *world, name string, label ...string) float64 {
	w.Helper()
	families, err := r.metrics.Gather()
	require.NoError(w, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != "restock_consumer_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			match := len(label) == 0
			for _, l := range m.GetLabel() {
				match = match || l.GetValue() == label[0]
			}
			if match {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// comeBack ends the wait of messages once the worker has let go of all. Those in its
// hands would come back faster than it can delete them.
func (r *running) comeBack(w *world) {
	w.Helper()
	if r.metric(w, "in_flight") == 0 {
		w.comeBack()
	}
}

// start runs a worker of the consumer's queue until the test ends. Failed messages
// come back at once, unless the test says otherwise.
func (w *world) start(h consumers.Handler, change ...func(*consumers.Config)) *running {
	w.Helper()
	r := w.prepare(h, change...)
	w.run(r)
	return r
}

// prepare makes a worker that does not run yet.
func (w *world) prepare(h consumers.Handler, change ...func(*consumers.Config)) *running {
	w.Helper()
	interest, _ := schema.InterestOf(w.consumer, schema.DefaultVIPThreshold)
	r := &running{metrics: prometheus.NewRegistry(), done: make(chan error, 1)}
	cfg := consumers.Config{
		Interest: interest, QueueURL: w.queue.URL, DLQURL: w.queue.DLQURL, SQS: w.queues, Pool: w.pool, Handler: h,
		Backoff: service.Backoff{Rand: func() float64 { return 0 }},
		Metrics: r.metrics,
	}
	for _, c := range change {
		c(&cfg)
	}
	worker, err := consumers.New(cfg)
	require.NoError(w, err)
	r.Worker = worker
	return r
}

func (w *world) run(r *running) {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- r.Run(ctx) }()
	w.Cleanup(func() { require.NoError(w, r.stop()) })
}

// payload is the SKU of a delivery, which is its group.
func sku(d consumers.Delivery) string {
	return d.Payload.(schema.ReplenishmentRequested).SKU
}

func decode[T any](w *world, text string) T {
	w.Helper()
	var v T
	require.NoError(w, json.Unmarshal([]byte(text), &v))
	return v
}
