package ops_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
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
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/awshttp"
	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/ops"
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
	patience = 60 * time.Second
)

var store = pgtest.Template{Name: "store", Setup: func(ctx context.Context, dsn string) error {
	if _, err := schema.MigrateStore(ctx, dsn); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, role := range []string{schema.RoleConsumers, schema.RoleMaintenance} {
		if _, err := conn.Exec(ctx, "ALTER ROLE "+role+" PASSWORD '"+password+"'"); err != nil {
			return err
		}
	}
	return nil
}}

// world is one test's own: a database, an AWS, the factory's queues.
type world struct {
	*testing.T
	owner     *pgxpool.Pool
	consumers *pgxpool.Pool // of the consumers' role
	aws       *localaws.Server
	topics    *sns.Client
	queues    *sqs.Client
	topic     string
	queue     topology.Queue
	cfg       ops.DLQConfig
	dlq       *ops.DLQ
}

func setup(t *testing.T, change ...func(*ops.DLQConfig)) *world {
	t.Helper()
	t.Parallel()
	w := &world{T: t}
	db := pgtest.NewDatabase(t, store)
	w.owner, w.consumers = w.connect(db.DSN), w.connect(db.RoleDSN(schema.RoleConsumers, password))
	operator := w.connect(db.RoleDSN(schema.RoleMaintenance, password))
	server, err := localaws.Start(localaws.Config{})
	require.NoError(t, err)
	client := awshttp.Wrap(nil, 32)
	cfg := server.AWSConfig()
	cfg.HTTPClient = client
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	t.Cleanup(func() {
		client.CloseIdleConnections()
		require.NoError(t, server.Close())
	})
	w.aws, w.topics, w.queues = server, sns.NewFromConfig(cfg), sqs.NewFromConfig(cfg)
	made, err := topology.Create(t.Context(), w.topics, w.queues, schema.Interests(schema.DefaultVIPThreshold))
	require.NoError(t, err)
	w.topic, w.queue = made.TopicARN, made.Queues[schema.ConsumerFactory]
	w.cfg = ops.DLQConfig{SQS: w.queues, Wait: -1, Logger: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)}
	for _, name := range []string{schema.ConsumerFactory, schema.ConsumerAds} {
		interest, _ := schema.InterestOf(name, schema.DefaultVIPThreshold)
		q := made.Queues[name]
		w.cfg.Consumers = append(w.cfg.Consumers, ops.Consumer{
			Interest: interest, QueueURL: q.URL, DLQURL: q.DLQURL, SubscriptionDLQURL: q.SubscriptionDLQURL, Inbox: operator, Outbox: operator,
		})
	}
	for _, c := range change {
		c(&w.cfg)
	}
	w.dlq, err = ops.NewDLQ(w.cfg)
	require.NoError(t, err)
	return w
}

func (w *world) connect(dsn string) *pgxpool.Pool {
	w.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(w, err)
	cfg.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(w, err)
	w.Cleanup(pool.Close)
	return pool
}

// append adds an event of a group to the outbox.
func (w *world) append(group string) schema.Event {
	w.Helper()
	e, err := schema.New(schema.NewID(), schema.ReplenishmentRequested{
		ReplenishmentID: uuid.New(), SKU: group, ProductName: "Donut", Quantity: 10, FactoryID: "FF-500293",
		Requester: "manager@example.com", CallbackURL: "http://127.0.0.1:1/stock-increase/1?sig=secret",
	}, "")
	require.NoError(w, err)
	require.NoError(w, schema.Append(w.Context(), w.owner, e))
	require.NoError(w, w.owner.QueryRow(w.Context(), `SELECT day, seq, body FROM outbox WHERE id = $1`, e.ID).Scan(&e.Day, &e.Seq, &e.Body))
	e.Body, err = schema.WithSequence(e.Body, e.Seq)
	require.NoError(w, err)
	return e
}

// publish sends an event as the relay does.
func (w *world) publish(e schema.Event) {
	w.Helper()
	in := &sns.PublishInput{
		TopicArn: &w.topic, Message: &e.Body, MessageGroupId: &e.Group, MessageDeduplicationId: aws.String(e.ID.String()),
		MessageAttributes: make(map[string]snstypes.MessageAttributeValue),
	}
	for name, a := range e.Attributes {
		in.MessageAttributes[name] = snstypes.MessageAttributeValue{DataType: aws.String(a.Type), StringValue: aws.String(a.Value)}
	}
	_, err := w.topics.Publish(w.Context(), in)
	require.NoError(w, err)
}

func (w *world) event(group string) schema.Event {
	w.Helper()
	e := w.append(group)
	w.publish(e)
	return e
}

// put sends any message to any queue.
func (w *world) put(url, group, body string) {
	w.Helper()
	_, err := w.queues.SendMessage(w.Context(), &sqs.SendMessageInput{
		QueueUrl: &url, MessageBody: &body, MessageGroupId: &group, MessageDeduplicationId: aws.String(uuid.NewString()),
		MessageAttributes: map[string]sqstypes.MessageAttributeValue{"color": {DataType: aws.String("String"), StringValue: aws.String("blue? sig=secret&more")}},
	})
	require.NoError(w, err)
}

// counts returns how many messages of a queue wait and how many are held.
func (w *world) counts(url string) (waiting, held int) {
	w.Helper()
	out, err := w.queues.GetQueueAttributes(context.Background(), &sqs.GetQueueAttributesInput{
		QueueUrl: &url, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll},
	})
	require.NoError(w, err)
	waiting, err = strconv.Atoi(out.Attributes["ApproximateNumberOfMessages"])
	require.NoError(w, err)
	held, err = strconv.Atoi(out.Attributes["ApproximateNumberOfMessagesNotVisible"])
	require.NoError(w, err)
	return waiting, held
}

// requireDead holds the worker's dead-letter queue to a number of messages, none
// of them held.
func (w *world) requireDead(n int) {
	w.Helper()
	waiting, held := w.counts(w.queue.DLQURL)
	require.Equal(w, n, waiting)
	require.Zero(w, held)
}

// states counts the factory's inbox rows by state.
func (w *world) states() map[string]int {
	w.Helper()
	rows, err := w.owner.Query(w.Context(), `SELECT state, count(*) FROM inbox GROUP BY state`)
	require.NoError(w, err)
	all := make(map[string]int)
	var state string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error { all[state] = n; return nil })
	require.NoError(w, err)
	return all
}

// factory is a handler that notes what it was given and refuses it for good
// while it is told to.
type factory struct {
	mu      sync.Mutex
	refuse  bool
	handled []consumers.Delivery
	calls   int
}

func (f *factory) Handle(_ context.Context, d consumers.Delivery) (consumers.Effect, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.refuse {
		return consumers.Effect{Call: &consumers.Call{Kind: "test", Outcome: consumers.CallFailed, Started: time.Now(), Ended: time.Now()}},
			consumers.Permanent(fmt.Errorf("refused %s", d.Event.Subject))
	}
	f.handled = append(f.handled, d)
	return consumers.Effect{}, nil
}

// byGroup are the ids handled, in order, by group.
func (f *factory) byGroup() map[string][]uuid.UUID {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string][]uuid.UUID)
	for _, d := range f.handled {
		group := d.Payload.(schema.ReplenishmentRequested).SKU
		all[group] = append(all[group], d.Event.ID)
	}
	return all
}

// work runs the factory's worker until its queue is empty.
func (w *world) work(f *factory) {
	w.Helper()
	interest, _ := schema.InterestOf(schema.ConsumerFactory, schema.DefaultVIPThreshold)
	worker, err := consumers.New(consumers.Config{
		Interest: interest, QueueURL: w.queue.URL, DLQURL: w.queue.DLQURL, SQS: w.queues, Pool: w.consumers, Handler: f,
		Backoff: service.Backoff{Rand: func() float64 { return 0 }}, Logger: w.cfg.Logger.Level(zerolog.Disabled),
	})
	require.NoError(w, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) { // the queue may be empty before it began
			require.NoError(w, err)
		}
	}()
	require.Eventually(w, func() bool {
		waiting, held := w.counts(w.queue.URL)
		return waiting+held == 0
	}, patience, 10*time.Millisecond, "the queue is worked off")
}

// die makes n events of each group and lets them die.
func (w *world) die(groups, each int) map[string][]uuid.UUID {
	w.Helper()
	want := make(map[string][]uuid.UUID)
	for range each {
		for g := range groups {
			group := fmt.Sprintf("G%02d", g)
			want[group] = append(want[group], w.event(group).ID)
		}
	}
	w.work(&factory{refuse: true})
	w.requireDead(groups * each)
	return want
}

func (w *world) redrive(s ops.Selection) ops.RedriveReport {
	w.Helper()
	report, err := w.dlq.Redrive(w.Context(), s, ops.RedriveOptions{})
	require.NoError(w, err)
	return report
}

func (w *world) list(consumers ...string) []ops.DeadEvent {
	w.Helper()
	var all []ops.DeadEvent
	for c := (ops.Cursor{Most: ops.MaxPage}); ; {
		l, err := w.dlq.List(w.Context(), c, consumers...)
		require.NoError(w, err)
		all = append(all, l.Events...)
		if c.After = l.Next; c.After == "" {
			return all
		}
	}
}
