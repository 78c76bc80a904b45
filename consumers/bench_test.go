package consumers_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// BenchmarkWorker takes 100,000 messages of 5,000 groups through one worker with
// its inbox on a Postgres that syncs, and a handler of 1 ms whose call is audited
// as a real one's is. Run it with make bench. Worker, stand-in for SQS and Postgres
// share the machine's processors.
func BenchmarkWorker(b *testing.B) {
	for b.Loop() {
		r := runWorker(b, 5_000, 20)
		show := func(name string, value float64, unit string, goal figure.Goal) {
			figure.Print(os.Stdout, "worker_"+name, unit, goal, value)
		}
		show("messages_per_second", float64(r.messages)/r.took.Seconds(), "msg/s", figure.Goal{})
		receives, deletes, changes := r.perThousand("ReceiveMessage"), r.perThousand("DeleteMessageBatch"), r.perThousand("ChangeMessageVisibilityBatch")
		show("calls_per_1000", receives+deletes+changes, "calls", figure.AtMost(220))
		show("receives_per_1000", receives, "calls", figure.Goal{})
		show("deletes_per_1000", deletes, "calls", figure.Goal{})
		show("visibility_changes_per_1000", changes, "calls", figure.Goal{})
		show("order_violations", float64(r.violations), "messages", figure.AtMost(0))
		show("attempts_burned", float64(r.burned), "attempts", figure.AtMost(0))
	}
}

type workerResult struct {
	messages   int
	took       time.Duration
	calls      *countedCalls
	violations int
	burned     int
}

func (r workerResult) perThousand(action string) float64 {
	return 1000 * float64(r.calls.of(action)) / float64(r.messages)
}

// runWorker fills the queue, empties it through a worker, and holds every message
// to account.
func runWorker(t testing.TB, groups, each int) workerResult {
	w := &world{TB: t, consumer: schema.ConsumerFactory, role: schema.RoleConsumers, db: syncedStore(t)}
	w.begin(localaws.Config{})
	pool := w.connect(w.db.RoleDSN(w.role, password), func(c *pgxpool.Config) { c.MaxConns = 16 })
	w.fill(groups, each)
	r := workerResult{messages: groups * each, calls: &countedCalls{}}
	client := sqs.New(w.queues.Options(), func(o *sqs.Options) { o.HTTPClient = r.calls.wrap(o.HTTPClient) })
	h := newOrdered()
	started := time.Now()
	worker := w.start(h, func(c *consumers.Config) { c.SQS, c.Pool, c.Concurrency = client, pool, 32 })
	require.Eventually(w, func() bool {
		waiting, inFlight := w.counts(w.queue.URL)
		return waiting+inFlight == 0
	}, 5*time.Minute, 20*time.Millisecond)
	r.took = time.Since(started)
	require.NoError(t, worker.stop())

	require.Equal(t, r.messages, scan[int](w, `SELECT count(*) FROM inbox WHERE state = 'done'`))
	require.Equal(t, r.messages, scan[int](w, `SELECT count(*) FROM effects`))
	r.violations = int(h.violations.Load())
	r.burned = scan[int](w, `SELECT sum(attempt + repeated_uncertain) - count(*) FROM inbox`)
	return r
}

// syncedStore is a store on a server of its own that syncs, as one in production does.
func syncedStore(t testing.TB) *pgtest.Database {
	t.Helper()
	server := pgtest.NewServer(t, localpg.Config{Fsync: true})
	ctx := t.Context()
	require.NoError(t, server.CreateDatabase(ctx, "store", ""))
	db := &pgtest.Database{Name: "store", DSN: server.DSN("store"), Server: server}
	require.NoError(t, store.Setup(ctx, db.DSN))
	return db
}

// fill puts each messages of every group into the queue, the groups taking turns.
func (w *world) fill(groups, each int) {
	w.Helper()
	at := `{"time":"` + time.Now().UTC().Format(time.RFC3339) + `",`
	var entries []sqstypes.SendMessageBatchRequestEntry
	for i := range groups * each {
		group := fmt.Sprintf("G%d", i%groups)
		e, err := schema.New(schema.NewID(), w.replenishment(group), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		require.NoError(w, err)
		body, err := schema.WithSequence(strings.Replace(e.Body, `{`, at, 1), int64(i+1))
		require.NoError(w, err)
		entries = append(entries, sqstypes.SendMessageBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), MessageBody: aws.String(body),
			MessageGroupId: aws.String(group), MessageDeduplicationId: aws.String(e.ID.String()),
		})
		if len(entries) == 10 || i == groups*each-1 {
			out, err := w.queues.SendMessageBatch(w.Context(), &sqs.SendMessageBatchInput{QueueUrl: aws.String(w.queue.URL), Entries: entries})
			require.NoError(w, err)
			require.Empty(w, out.Failed)
			entries = entries[:0]
		}
	}
}

// ordered is a handler of 1 ms that counts events out of their group's order, and
// those that it is given twice.
type ordered struct {
	mu         sync.Mutex
	last       map[string]int64
	violations atomic.Int64
}

func newOrdered() *ordered { return &ordered{last: make(map[string]int64)} }

func (o *ordered) Handle(ctx context.Context, d consumers.Delivery) (consumers.Effect, error) {
	call := &consumers.Call{Kind: "bench", Outcome: consumers.CallOK, Reference: uuid.Nil.String(), Started: time.Now()}
	err := service.Sleep(ctx, time.Millisecond)
	call.Ended = time.Now()
	if err != nil {
		return consumers.Effect{}, err
	}
	group, seq := sku(d), d.Event.Seq()
	o.mu.Lock()
	defer o.mu.Unlock()
	if seq <= o.last[group] {
		o.violations.Add(1)
	}
	o.last[group] = seq
	return consumers.Effect{Reference: call.Reference, Call: call}, nil
}

// countedCalls counts the calls of an AWS client by action.
type countedCalls struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *countedCalls) of(action string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[action]
}

func (c *countedCalls) wrap(next sqs.HTTPClient) sqs.HTTPClient {
	return doer(func(r *http.Request) (*http.Response, error) {
		action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
		c.mu.Lock()
		if c.counts == nil {
			c.counts = make(map[string]int)
		}
		c.counts[action]++
		c.mu.Unlock()
		return next.Do(r)
	})
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }
