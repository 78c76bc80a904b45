package relay_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// inTrace is an event of a group with a trace context.
func inTrace(group, traceparent string) schema.Event {
	e := event(group, 50)
	e.Traceparent = traceparent
	if traceparent != "" {
		e.Attributes["traceparent"] = schema.Attribute{Type: "String", Value: traceparent}
	}
	return e
}

// messages takes n messages out of the queue: by event id, the body and attributes.
func (o *outbox) messages(n int) map[string]sqstypes.Message {
	o.t.Helper()
	all := map[string]sqstypes.Message{}
	for len(all) < n {
		out, err := o.sqs.ReceiveMessage(o.ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &o.queue, MaxNumberOfMessages: 10, WaitTimeSeconds: 20,
			MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"},
		})
		require.NoError(o.t, err)
		for _, m := range out.Messages {
			all[m.Attributes["MessageDeduplicationId"]] = m
		}
	}
	return all
}

// TestPublishingIsTraced: each event has a span in its own trace, the call has one
// that is linked with them, and what is sent is what would be sent without.
func TestPublishingIsTraced(t *testing.T) {
	t.Parallel()
	o := &outbox{t: t, ctx: t.Context()}
	o.createTopic()
	spans := tracetest.NewSpanRecorder()
	traced, err := relay.NewSNS(relay.SNSConfig{AWS: o.aws.AWSConfig(), TopicARN: o.topic, Tracing: sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))})
	require.NoError(t, err)

	const traceID, spanID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	sampled := inTrace("a", "00-"+traceID+"-"+spanID+"-01")
	unwanted := inTrace("b", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
	results, err := traced.Publish(t.Context(), []schema.Event{sampled, unwanted})
	require.NoError(t, err)

	require.Len(t, spans.Ended(), 2)
	one, call := spans.Ended()[0], spans.Ended()[1]
	require.Equal(t, "publish order.placed", one.Name())
	require.Equal(t, trace.SpanKindProducer, one.SpanKind())
	require.Equal(t, traceID, one.SpanContext().TraceID().String())
	require.Equal(t, spanID, one.Parent().SpanID().String())
	require.Equal(t, call.SpanContext().SpanID(), one.Links()[0].SpanContext.SpanID())
	got := map[string]string{}
	for _, a := range one.Attributes() {
		got[string(a.Key)] = a.Value.String()
	}
	require.Equal(t, map[string]string{
		"messaging.system": "aws.sns", "messaging.destination.name": "events.fifo", "messaging.operation.name": "publish",
		"messaging.operation.type": "send", "aws.sns.topic.arn": o.topic, "messaging.message.id": results[0].MessageID,
		"restock.event_id": sampled.ID.String(), "restock.event_type": "order.placed",
	}, got)
	require.Equal(t, "publish a batch", call.Name())
	require.False(t, call.Parent().IsValid())
	require.Len(t, call.Links(), 1, "what nobody wants to see is not linked either")
	require.Equal(t, spanID, call.Links()[0].SpanContext.SpanID().String())

	first := o.messages(2)
	for _, e := range []schema.Event{sampled, unwanted} {
		m := first[e.ID.String()]
		require.Equal(t, e.Body, *m.Body)
		require.Len(t, m.MessageAttributes, 2)
		require.Equal(t, e.Traceparent, *m.MessageAttributes["traceparent"].StringValue)
	}

	// Nobody wants to see it: no call's span either.
	_, err = traced.Publish(t.Context(), []schema.Event{inTrace("c", unwanted.Traceparent)})
	require.NoError(t, err)
	require.Len(t, spans.Ended(), 2)
}

// TestFailuresAreTraced: of an entry, and of a whole call.
func TestFailuresAreTraced(t *testing.T) {
	t.Parallel()
	o := &outbox{t: t, ctx: t.Context()}
	o.createTopic()
	spans := tracetest.NewSpanRecorder()
	traced, err := relay.NewSNS(relay.SNSConfig{AWS: o.aws.AWSConfig(), TopicARN: o.topic, Tracing: sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))})
	require.NoError(t, err)
	failed := func() (names []string) {
		for _, s := range spans.Ended() {
			if s.Status().Code == codes.Error {
				names = append(names, s.Name()+": "+s.Status().Description)
			}
		}
		spans.Reset()
		return names
	}
	batch := []schema.Event{inTrace("refused", ""), inTrace("taken", "")}
	o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Group: "refused", Code: "InternalError"})
	_, err = traced.Publish(t.Context(), batch)
	require.NoError(t, err)
	require.Len(t, failed(), 1, "the others went, and so did the call")

	o.refuseAll()
	_, err = traced.Publish(t.Context(), batch)
	require.Error(t, err)
	require.Equal(t, []string{"publish order.placed: " + err.Error(), "publish order.placed: " + err.Error(), "publish a batch: " + err.Error()}, failed())
}
