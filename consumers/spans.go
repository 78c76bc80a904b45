package consumers

import (
	"context"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/internal/tracing"
	"github.com/restock-dev/restock/schema"
)

// beginSpan makes the span of one delivery, in the trace of its event: what the handler
// does with its context is below it. A receive brings what lies in the queue, of
// many traces, and has no span.
func (p *processor) beginSpan(ctx context.Context, a arrival) (context.Context, trace.Span) {
	if p.tracer == nil {
		return ctx, tracing.Off
	}
	ctx = trace.ContextWithRemoteSpanContext(ctx, tracing.Parse(a.event.Traceparent))
	return p.tracer.Start(ctx, "process "+p.interest.Consumer, trace.WithSpanKind(trace.SpanKindConsumer))
}

// endSpan ends the span of a delivery by what became of it. It has failed where the
// delivery was in vain, and not where there was nothing to do.
func (p *processor) endSpan(span trace.Span, m message, a arrival, r result) {
	if !span.IsRecording() {
		span.End()
		return
	}
	span.SetAttributes(
		// https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/#messaging-attributes
		attribute.String("messaging.system", "aws_sqs"), attribute.String("messaging.destination.name", p.queue),
		attribute.String("messaging.operation.name", "process"), attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.message.id", m.id), attribute.String("messaging.consumer.group.name", p.interest.Consumer),
		attribute.String("restock.event_id", a.eventID.String()), attribute.String("restock.event_type", a.event.Type),
		attribute.String("restock.verdict", string(r.verdict)), attribute.Int("restock.attempt", r.attempt),
		attribute.Int("restock.receives", m.receiveCount),
	)
	if a.replay.ID != uuid.Nil {
		span.SetAttributes(attribute.String("restock.replay_id", a.replay.ID.String()))
	}
	switch r.verdict {
	case failed, deferred, dead:
		tracing.End(span, r.err)
	default:
		span.End()
	}
}

// traceID is that of the event, empty where it has none.
func (a arrival) traceID() string { return schema.TraceID(a.event.Traceparent) }
