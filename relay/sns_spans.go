package relay

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/internal/tracing"
	"github.com/restock-dev/restock/schema"
)

// spans are those of one call: for each event one in its own trace, which shows
// there when the event went and what became of it, and one for the call, which is
// linked with all of them. What is sent stays as it is: who handles the event
// finds in it the span that wrote it, and not one of these.
// https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/#batch-publishing-with-create-spans
type spans struct {
	call   trace.Span
	events []trace.Span
}

// beginSpans makes the spans of a call, none where nobody traces or no event's own
// trace is sampled.
func (s *SNS) beginSpans(events []schema.Event) spans {
	if s.tracer == nil {
		return spans{}
	}
	sp := spans{events: make([]trace.Span, len(events))}
	var links []trace.Link
	sampled := false
	for i, e := range events {
		wrote := tracing.Parse(e.Traceparent)
		sp.events[i] = s.eventSpan(e, wrote)
		if sp.events[i].IsRecording() {
			sampled = true
			links = append(links, trace.Link{SpanContext: wrote}) // dropped where there is none
		}
	}
	if !sampled {
		return spans{}
	}
	_, sp.call = s.tracer.Start(context.Background(), "publish a batch", trace.WithSpanKind(trace.SpanKindClient), trace.WithLinks(links...),
		trace.WithAttributes(s.attributes...), trace.WithAttributes(attribute.Int("messaging.batch.message_count", len(events))))
	if !sp.call.IsRecording() {
		return sp // a trace by itself, which the sampler may not want
	}
	for _, span := range sp.events {
		span.AddLink(trace.Link{SpanContext: sp.call.SpanContext()})
	}
	return sp
}

// eventSpan is an event's, below the span that wrote it.
func (s *SNS) eventSpan(e schema.Event, wrote trace.SpanContext) trace.Span {
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), wrote)
	_, span := s.tracer.Start(ctx, "publish "+e.Type, trace.WithSpanKind(trace.SpanKindProducer))
	if !span.IsRecording() {
		return span
	}
	span.SetAttributes(s.attributes...)
	span.SetAttributes(attribute.String("restock.event_id", e.ID.String()), attribute.String("restock.event_type", e.Type))
	if e.Replay.ID != uuid.Nil {
		span.SetAttributes(attribute.String("restock.replay_id", e.Replay.ID.String()))
	}
	return span
}

// end ends the spans by what the call was answered.
func (sp spans) end(results []Result, err error) {
	if sp.call == nil {
		return
	}
	for i, span := range sp.events {
		failed := err
		if err == nil {
			failed = results[i].Err
			span.SetAttributes(attribute.String("messaging.message.id", results[i].MessageID))
		}
		tracing.End(span, failed)
	}
	tracing.End(sp.call, err)
}

// messagingAttributes tell where a span's message goes.
// https://opentelemetry.io/docs/specs/semconv/messaging/sns/
func messagingAttributes(topicARN string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "aws.sns"),
		attribute.String("messaging.destination.name", topicARN[strings.LastIndexByte(topicARN, ':')+1:]),
		attribute.String("messaging.operation.name", "publish"), attribute.String("messaging.operation.type", "send"),
		attribute.String("aws.sns.topic.arn", topicARN),
	}
}
