package consumers_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/schema"
)

func traced() (*tracetest.SpanRecorder, func(*consumers.Config)) {
	spans := tracetest.NewSpanRecorder()
	return spans, func(c *consumers.Config) { c.Tracing = sdk.NewTracerProvider(sdk.WithSpanProcessor(spans)) }
}

// traceparent is a span as what is below it knows it.
func traceparent(span sdk.ReadOnlySpan) string {
	return "00-" + span.SpanContext().TraceID().String() + "-" + span.SpanContext().SpanID().String() + "-01"
}

// parent is the span above, likewise.
func parent(span sdk.ReadOnlySpan) string {
	return "00-" + span.Parent().TraceID().String() + "-" + span.Parent().SpanID().String() + "-01"
}

func attribute(span sdk.ReadOnlySpan, name string) string {
	for _, a := range span.Attributes() {
		if string(a.Key) == name {
			return a.Value.String()
		}
	}
	return ""
}

// TestDeliveryIsTraced: each attempt has a span below its event's, with that of its
// call below it, which is what the other side is told.
func TestDeliveryIsTraced(t *testing.T) {
	w := setupMarketing(t)
	told := make(chan string, 2)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		told <- r.Header.Get("Traceparent")
		if len(told) == 1 {
			rw.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(server.Close)
	spans, tracing := traced()
	worker := w.startMarketing(marketingAt(t, server.URL+"/in?key=secret"), tracing)
	e := w.promote("c-42")
	w.eventually("handled", func() bool {
		if worker.metric(w, "in_flight") == 0 {
			w.webhookBack()
		}
		return w.inbox(e.ID, uuid.Nil).state == "done"
	})
	require.NoError(t, worker.stop())

	// A message that comes back too soon, or before it is deleted, is not tried.
	all := slices.DeleteFunc(spans.Ended(), func(s sdk.ReadOnlySpan) bool {
		return slices.Contains([]string{"busy", "duplicate"}, attribute(s, "restock.verdict"))
	})
	require.Len(t, all, 4)
	for i, want := range []struct {
		verdict, attempt, status string
		code                     codes.Code
	}{{"failed", "1", "500", codes.Error}, {"handled", "2", "200", codes.Unset}} {
		call, delivery := all[2*i], all[2*i+1]
		require.Equal(t, "process marketing", delivery.Name())
		require.Equal(t, trace.SpanKindConsumer, delivery.SpanKind())
		require.Equal(t, e.Traceparent, parent(delivery))
		require.Equal(t, want.verdict, attribute(delivery, "restock.verdict"))
		require.Equal(t, want.attempt, attribute(delivery, "restock.attempt"))
		require.Equal(t, e.ID.String(), attribute(delivery, "restock.event_id"))
		require.Equal(t, schema.QueueName(schema.ConsumerMarketing), attribute(delivery, "messaging.destination.name"))
		require.Equal(t, want.code, delivery.Status().Code)

		require.Equal(t, "POST to the marketing system", call.Name())
		require.Equal(t, trace.SpanKindClient, call.SpanKind())
		require.Equal(t, traceparent(delivery), parent(call))
		require.Equal(t, want.status, attribute(call, "http.response.status_code"))
		require.Equal(t, want.code, call.Status().Code)
		require.Equal(t, traceparent(call), <-told)
	}
	for _, span := range all {
		for _, a := range span.Attributes() {
			require.NotContains(t, a.Value.String(), "key=secret")
		}
	}
}

// TestPromotionContinuesTheTrace: what the vip consumer tells is below its own span.
func TestPromotionContinuesTheTrace(t *testing.T) {
	w := setupVIP(t)
	e := w.order("c-1", 100)
	w.publish(e)
	spans, tracing := traced()
	worker := w.start(newVIP(t), tracing)
	w.await(e.ID, "done")
	require.NoError(t, worker.stop())
	require.Len(t, spans.Ended(), 1)
	require.Equal(t, e.Traceparent, parent(spans.Ended()[0]))
	require.Equal(t, traceparent(spans.Ended()[0]), w.told("c-1")[0].Traceparent)
}

// TestNotSampled: where the sampler says no there are no spans, and the other side
// is told so.
func TestNotSampled(t *testing.T) {
	w := setup(t)
	told := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told <- r.Header.Get("Traceparent") }))
	t.Cleanup(server.Close)
	spans := tracetest.NewSpanRecorder()
	worker := w.start(w.factoryAt(server.URL), func(c *consumers.Config) {
		c.Tracing = sdk.NewTracerProvider(sdk.WithSpanProcessor(spans), sdk.WithSampler(sdk.NeverSample()))
	})
	e := w.request()
	w.await(e.ID, "done")
	require.NoError(t, worker.stop())
	require.Empty(t, spans.Ended())
	got := <-told
	require.Equal(t, schema.TraceID(e.Traceparent), schema.TraceID(got))
	require.Equal(t, "00", got[53:])
}
