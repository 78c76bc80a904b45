package otlp

import (
	"sync/atomic"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// queueBound counts the spans that wait to be sent, and those that found no room. The
// SDK's own queue drops too, and tells nobody: it never comes to that, because it has
// room for as many as may wait here.
type queueBound struct {
	room             int64
	waiting, dropped atomic.Int64
}

// enter tells whether there is room for one more.
func (b *queueBound) enter() bool {
	if b.waiting.Add(1) <= b.room {
		return true
	}
	b.waiting.Add(-1)
	b.dropped.Add(1)
	return false
}

func (b *queueBound) leave(spans int) { b.waiting.Add(-int64(spans)) }

// bounded is the SDK's processor behind such a bound.
type bounded struct {
	sdk.SpanProcessor

	queue *queueBound
}

// newBounded makes the processor that sends to q.
func newBounded(q *quiet) *bounded {
	size := func(o *sdk.BatchSpanProcessorOptions) { q.queue.room = int64(o.MaxQueueSize) }
	return &bounded{sdk.NewBatchSpanProcessor(q, size), &q.queue}
}

// OnEnd implements sdk.SpanProcessor.
func (b *bounded) OnEnd(s sdk.ReadOnlySpan) {
	if s.SpanContext().IsSampled() && b.queue.enter() {
		b.SpanProcessor.OnEnd(s)
	}
}
