package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/schema"
)

// size is how much a run of the pipeline does.
type size struct{ checkouts, skus, clients, stock, reorder int }

// TestPipeline is BenchmarkPipeline, small.
func TestPipeline(t *testing.T) {
	t.Parallel()
	r := runPipeline(t, size{checkouts: 2000, skus: 50, clients: 8, stock: 20, reorder: 10})
	require.Less(t, slices.Max(r.residentKiB), 256<<10, "memory of the relay")
}

// BenchmarkPipeline sells 20,000 times over 500 products from 32 clients, with the
// relay and the factory's consumer on, and prints what came of it. Run it with
// make bench. What the absolute figures mean depends on the machine.
func BenchmarkPipeline(b *testing.B) {
	for b.Loop() {
		print := func(name string, value float64, unit string) {
			figure.Print(os.Stdout, "pipeline_"+name, unit, figure.Goal{}, value)
		}
		s := size{checkouts: 20_000, skus: 500, clients: 32, stock: 20, reorder: 10}
		r := runPipeline(b, s)
		print("checkouts_per_second", float64(s.checkouts)/r.selling.Seconds(), "1/s")
		print("events_per_second", float64(r.events)/r.publishing.Seconds(), "1/s")
		print("commit_to_published_p50", r.p50*1000, "ms")
		print("commit_to_published_p99", r.p99*1000, "ms")
		for i, kib := range r.residentKiB {
			print(fmt.Sprintf("relay_resident_after_%d_of_4", i), float64(kib)/1024, "MiB")
		}
	}
}

type pipelineResult struct {
	selling, publishing time.Duration
	events              int
	p50, p99            float64 // seconds from commit to the ledger
	residentKiB         []int   // of the relay: before, and after each quarter
}

// runPipeline sells, waits until all that follows has happened, and holds every
// unit and every event to account.
func runPipeline(t testing.TB, n size) pipelineResult {
	s := newStack(t)
	skus := make([]string, n.skus)
	for i := range skus {
		skus[i] = "SKU-" + strconv.Itoa(i)
	}
	s.sell(n.stock, n.reorder, skus...)
	queue := s.subscribe()

	var r pipelineResult
	r.residentKiB = append(r.residentKiB, s.relay.residentKiB())
	started := time.Now()
	for quarter := range 4 {
		s.shop(n, skus, quarter)
		r.residentKiB = append(r.residentKiB, s.relay.residentKiB())
	}
	r.selling = time.Since(started)
	s.settled()
	r.publishing = time.Since(started)
	s.conserved()
	r.events = s.count(`outbox`)
	require.Equal(t, r.events, s.count(`ledger WHERE outcome = 'published'`))
	s.publishedInOrder(queue, r.events)
	require.NoError(t, s.pool.QueryRow(s.ctx, `SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY lag), percentile_cont(0.99) WITHIN GROUP (ORDER BY lag)
		FROM (SELECT extract(epoch FROM l.published_at - o.created_at)::float8 AS lag FROM outbox o JOIN ledger l ON l.day = o.day AND l.event_id = o.id) lags`).
		Scan(&r.p50, &r.p99))
	return r
}

// shop makes a quarter of the checkouts. Each is answered, sold or sold out.
func (s *stack) shop(n size, skus []string, quarter int) {
	s.t.Helper()
	var wg sync.WaitGroup
	var other atomic.Int64
	for c := range n.clients {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			random := rand.New(rand.NewPCG(uint64(quarter), uint64(c)))
			for range n.checkouts / 4 / n.clients {
				sku := skus[random.IntN(len(skus))]
				switch s.checkout(client, sku, "customer-of-"+sku) {
				case http.StatusOK, http.StatusConflict:
				default:
					other.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.Zero(s.t, other.Load(), "checkouts that were neither sold nor sold out")
}

// subscribe makes a queue that gets every event.
func (s *stack) subscribe() (url string) {
	s.t.Helper()
	queue, err := s.sqs.CreateQueue(s.ctx, &sqs.CreateQueueInput{QueueName: aws.String("everything.fifo"), Attributes: map[string]string{
		"FifoQueue": "true", "VisibilityTimeout": "600",
		"Policy": `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sqs:SendMessage","Resource":"*"}]}`,
	}})
	require.NoError(s.t, err)
	arn, err := s.sqs.GetQueueAttributes(s.ctx, &sqs.GetQueueAttributesInput{QueueUrl: queue.QueueUrl, AttributeNames: []types.QueueAttributeName{"QueueArn"}})
	require.NoError(s.t, err)
	_, err = s.sns.Subscribe(s.ctx, &sns.SubscribeInput{
		TopicArn: &s.topic, Protocol: aws.String("sqs"), Endpoint: aws.String(arn.Attributes["QueueArn"]),
		Attributes: map[string]string{"RawMessageDelivery": "true"},
	})
	require.NoError(s.t, err)
	return *queue.QueueUrl
}

// publishedInOrder empties the queue: every committed event is in it once, and
// within its group in the order in which it was committed. Every group here is
// behind one product's row lock, so that order is the sequence.
func (s *stack) publishedInOrder(queue string, events int) {
	s.t.Helper()
	seen := map[string]bool{}
	last := map[string]int64{}
	for len(seen) < events {
		out, err := s.sqs.ReceiveMessage(s.ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &queue, MaxNumberOfMessages: 10, WaitTimeSeconds: 5, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"MessageGroupId"},
		})
		require.NoError(s.t, err)
		require.NotEmpty(s.t, out.Messages, "%d of %d events were published", len(seen), events)
		var done []types.DeleteMessageBatchRequestEntry
		for i, m := range out.Messages {
			e, err := schema.Decode([]byte(*m.Body))
			require.NoError(s.t, err)
			group := m.Attributes["MessageGroupId"]
			require.False(s.t, seen[e.ID.String()], "%s was published twice", e.ID)
			require.Greater(s.t, e.Seq(), last[group], "group %s is out of order", group)
			seen[e.ID.String()], last[group] = true, e.Seq()
			done = append(done, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
		}
		_, err = s.sqs.DeleteMessageBatch(s.ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &queue, Entries: done})
		require.NoError(s.t, err)
	}
	out, err := s.sqs.ReceiveMessage(s.ctx, &sqs.ReceiveMessageInput{QueueUrl: &queue, MaxNumberOfMessages: 10})
	require.NoError(s.t, err)
	require.Empty(s.t, out.Messages)
}
