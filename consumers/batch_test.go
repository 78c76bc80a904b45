package consumers_test

import (
	"context"
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
