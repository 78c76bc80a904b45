package consumers_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
)

// receive receives a batch as somebody else than the worker does.
func (w *world) receive() []consumers.Message {
	w.Helper()
	out, err := w.queues.ReceiveMessage(w.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: aws.String(w.queue.URL), MaxNumberOfMessages: 10, VisibilityTimeout: 600,
		MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"},
	})
	require.NoError(w, err)
	batch := make([]consumers.Message, len(out.Messages))
	for i, m := range out.Messages {
		batch[i] = consumers.Message{ID: *m.MessageId, Receipt: *m.ReceiptHandle, Body: *m.Body, System: m.Attributes}
	}
	return batch
}

// invocation is a context whose deadline passes when the test says so.
type invocation struct {
	context.Context
	deadline time.Time
	once     sync.Once
	over     chan struct{}
}

func newInvocation(t *testing.T, left time.Duration) *invocation {
	i := &invocation{Context: t.Context(), deadline: time.Now().Add(left), over: make(chan struct{})}
	t.Cleanup(i.end)
	return i
}

func (i *invocation) end() { i.once.Do(func() { close(i.over) }) }

func (i *invocation) Deadline() (time.Time, bool) { return i.deadline, true }
func (i *invocation) Done() <-chan struct{}       { return i.over }

func (i *invocation) Err() error {
	select {
	case <-i.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A call that outlasts every invocation is an attempt that failed: the event is
// dead after as many as any other, and not called without end.
func TestCallThatOutlastsItsInvocationsGivesUp(t *testing.T) {
	w := setup(t)
	e := w.event("G")
	calls := 0
	var now *invocation
	worker := w.prepare(handlerFunc(func(ctx context.Context, _ consumers.Delivery) (consumers.Effect, error) {
		calls++
		now.end()
		<-ctx.Done()
		return consumers.Effect{}, consumers.Uncertain(ctx.Err())
	}), func(c *consumers.Config) { c.MaxAttempts = 3 })
	for attempt := 1; attempt < 3; attempt++ {
		now = newInvocation(t, time.Hour)
		require.Len(t, worker.ProcessBatch(now, w.receive()), 1)
		row := w.inbox(e.ID, uuid.Nil)
		require.Equal(t, "failed", row.state)
		require.Equal(t, []int{attempt, attempt}, []int{row.attempt, row.uncertain})
		waiting, inFlight := w.counts(w.queue.URL)
		require.Equal(t, []int{0, 1}, []int{waiting, inFlight}, "it waits for its backoff")
		w.comeBack()
	}
	now = newInvocation(t, time.Hour)
	require.Empty(t, worker.ProcessBatch(now, w.receive()))
	require.Equal(t, 3, calls)
	row := w.inbox(e.ID, uuid.Nil)
	require.Equal(t, "dead", row.state)
	require.Regexp(t, `^gave up after 3 attempts in .*: context deadline exceeded$`, row.lastError)
	require.Len(t, w.deadLetters(), 1)
	require.InDelta(t, 3, worker.metric(w, "attempts_total"), 0)
}

// Calls that outlast their invocations open the circuit as other failures do.
func TestCallsThatOutlastTheirInvocationOpenTheCircuit(t *testing.T) {
	w := setup(t)
	w.event("G")
	w.event("H")
	now := newInvocation(t, time.Hour)
	var entered sync.WaitGroup
	entered.Add(2)
	worker := w.prepare(handlerFunc(func(ctx context.Context, _ consumers.Delivery) (consumers.Effect, error) {
		entered.Done()
		entered.Wait()
		now.end()
		<-ctx.Done()
		return consumers.Effect{}, consumers.Uncertain(ctx.Err())
	}), func(c *consumers.Config) { c.CircuitFailures, c.CircuitOpen = 2, time.Hour })
	require.Len(t, worker.ProcessBatch(now, w.receive()), 2)
	require.InDelta(t, 2, worker.metric(w, "circuit_state"), 0)
}

// All of ours bound their calls: three quarters of a lease are more than a function
// has left after its first call.
var _ = []consumers.Bounded{(*consumers.Factory)(nil), (*consumers.Ads)(nil), (*consumers.VIP)(nil), (*consumers.Marketing)(nil)}

// brief is a handler that bounds its calls.
type brief struct {
	recorder
	longest time.Duration
}

func (b *brief) Longest() time.Duration { return b.longest }

// With less time left than an attempt may take none is begun but the first of each
// group, which any batch owes it. The rest goes back at once, untried.
func TestBatchBeginsNothingItHasNoTimeFor(t *testing.T) {
	for name, test := range map[string]struct {
		left, longest, lease time.Duration
		handled              []string
	}{
		"time for a call":            {left: 2 * time.Hour, longest: time.Hour, lease: 100 * time.Hour, handled: []string{"G", "G", "G", "H"}},
		"none left":                  {left: time.Hour, longest: 2 * time.Hour, lease: 100 * time.Hour, handled: []string{"G", "H"}},
		"the lease bounds it before": {left: 2 * time.Hour, longest: 9 * time.Hour, lease: time.Hour, handled: []string{"G", "G", "G", "H"}},
		"the lease is longer":        {left: time.Hour, longest: 9 * time.Hour, lease: 2 * time.Hour, handled: []string{"G", "H"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t)
			for _, group := range []string{"G", "G", "G", "H"} {
				w.event(group)
			}
			h := &brief{longest: test.longest}
			worker := w.prepare(h, func(c *consumers.Config) { c.Lease = test.lease })
			batch := w.receive()
			failed := worker.ProcessBatch(newInvocation(t, test.left), batch)
			require.Len(t, failed, 4-len(test.handled))
			var handled []string
			for _, d := range h.seen() {
				handled = append(handled, sku(d))
			}
			require.ElementsMatch(t, test.handled, handled)
			require.Equal(t, len(test.handled), scan[int](w, `SELECT count(*) FROM inbox`))
			waiting, inFlight := w.counts(w.queue.URL)
			require.Equal(t, []int{len(failed), len(test.handled)}, []int{waiting, inFlight}, "what is left is there at once")
		})
	}
}

// Of a handler that does not say how long its calls take, the lease says it.
func TestBatchTakesTheLeaseForTheLongestCall(t *testing.T) {
	w := setup(t)
	w.event("G")
	w.event("G")
	r := &recorder{}
	worker := w.prepare(r, func(c *consumers.Config) { c.Lease = 2 * time.Hour })
	require.Len(t, worker.ProcessBatch(newInvocation(t, time.Hour), w.receive()), 1)
	require.Len(t, r.seen(), 1)
}

// What was not tried, or cut, comes back after a while and not at once: nobody
// here can stop receiving, and SQS moves a message away that it gave out too often.
func TestBatchDuringAnOutageIsHidden(t *testing.T) {
	w := setup(t)
	e := w.event("G")
	r := &recorder{fail: func(consumers.Delivery) error { return consumers.Unavailable(errOops) }}
	worker := w.prepare(r, func(c *consumers.Config) { c.CircuitFailures, c.CircuitOpen = 1, time.Hour })
	for range 2 { // the second finds the circuit open
		batch := w.receive()
		require.Equal(t, []string{batch[0].ID}, worker.ProcessBatch(t.Context(), batch))
		waiting, inFlight := w.counts(w.queue.URL)
		require.Equal(t, []int{0, 1}, []int{waiting, inFlight})
		w.comeBack()
	}
	require.Equal(t, 1, r.calls)
	require.Zero(t, w.inbox(e.ID, uuid.Nil).attempt)

	ctx, cancel := context.WithCancel(t.Context())
	cut := w.prepare(handlerFunc(func(ctx context.Context, _ consumers.Delivery) (consumers.Effect, error) {
		cancel()
		<-ctx.Done()
		return consumers.Effect{}, ctx.Err()
	}))
	require.Len(t, cut.ProcessBatch(ctx, w.receive()), 1)
	waiting, inFlight := w.counts(w.queue.URL)
	require.Equal(t, []int{0, 1}, []int{waiting, inFlight})
}
