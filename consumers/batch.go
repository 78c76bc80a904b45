package consumers

import (
	"context"
	"sync"
	"time"
)

// Message is one message of a queue as somebody else received it.
type Message struct {
	ID, Receipt string
	Body        string
	Attributes  map[string]MessageAttribute
	System      map[string]string // what SQS says of the message, under the names of SQS
}

// MessageAttribute is one of a message's own attributes: a text, or Binary where
// that is not nil.
type MessageAttribute struct {
	Type, Text string
	Binary     []byte
}

// ProcessBatch handles messages that somebody else received from the worker's
// queue, in their order, and returns the ids of those that are not through: he is
// to leave these in the queue and to delete all others. Groups go in parallel, up
// to Concurrency, and a group stops at its first failure: its later messages are
// returned untried. A dead event is sent to the dead-letter queue and is through.
//
// A message that failed is hidden for its backoff, by its receipt where there is
// one, and one that was not tried, or cut, as in an outage. The attempts end with
// ctx and must leave time to record them: ctx should end some seconds before the
// process is stopped. Where it ends by its deadline, a call that was cut counts as
// an attempt that failed: the next batch may have no more time for it. The rest of
// what the package promises holds as it does for Run, which must not be called on the
// same Worker.
//
// No attempt is begun when less time is left until ctx's deadline than one may take
// (Bounded), but for the first of each group: it would be cut, and its call made
// again. What is left so is put back at once.
func (w *Worker) ProcessBatch(ctx context.Context, messages []Message) (failed []string) {
	now := time.Now()
	all := make([]*held, len(messages))
	for i, m := range messages {
		all[i] = newHeldOf(m, now)
	}
	var mu sync.Mutex
	var groups sync.WaitGroup
	left := make(map[*held]bool)
	for _, group := range byGroup(all, func(h *held) string { return h.group }) {
		w.slots <- struct{}{}
		groups.Go(func() {
			defer func() { <-w.slots }()
			back, delay := runGroup(group, func(h *held) (time.Duration, bool) {
				// The first is tried in any case, or a short batch would never get on.
				if ctx.Err() != nil || h != group[0] && !timeFor(ctx, w.processor.longest()) {
					return 0, false
				}
				delay, through := w.settle(ctx, h)
				if !through && delay == 0 {
					// Not tried for an open circuit, or cut. A worker that polls would pause; here
					// the message would come back at once, until it was received too often.
					delay = outageDelay(h.message)
				}
				return delay, through
			})
			w.putBack(ctx, withReceipt(back), delay)
			mu.Lock()
			defer mu.Unlock()
			for _, h := range back {
				left[h] = true
			}
		})
	}
	groups.Wait()
	for _, h := range all { // in the order given
		if left[h] {
			failed = append(failed, h.id)
		}
	}
	return failed
}

// timeFor tells whether that much is left until ctx's deadline.
func timeFor(ctx context.Context, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) >= d
}

// withReceipt are the messages that can be put back. Without the first of them,
// which stopped the group, none is.
func withReceipt(messages []*held) []*held {
	for i, h := range messages {
		if h.receipt == "" {
			return messages[:i]
		}
	}
	return messages
}
