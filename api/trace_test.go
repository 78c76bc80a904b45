package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/api"
	"github.com/restock-dev/restock/schema"
)

const (
	callersTrace   = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersSpan    = "00f067aa0ba902b7"
	caller         = "00-" + callersTrace + "-" + callersSpan + "-01"
	anotherCaller  = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unwantedCaller = "00-" + callersTrace + "-" + callersSpan + "-00"
)

func traced() (*tracetest.SpanRecorder, func(*api.Config)) {
	spans := tracetest.NewSpanRecorder()
	return spans, func(c *api.Config) { c.Tracing = sdk.NewTracerProvider(sdk.WithSpanProcessor(spans)) }
}

func traceparentOf(span sdk.ReadOnlySpan) string {
	return "00-" + span.SpanContext().TraceID().String() + "-" + span.SpanContext().SpanID().String() + "-01"
}

func attributesOf(span sdk.ReadOnlySpan) map[string]string {
	m := map[string]string{}
	for _, a := range span.Attributes() {
		m[string(a.Key)] = a.Value.String()
	}
	return m
}

// lastLine is the newest line of the log.
func (s *shop) lastLine() map[string]any {
	s.t.Helper()
	lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
	var line map[string]any
	require.NoError(s.t, json.Unmarshal([]byte(lines[len(lines)-1]), &line))
	return line
}

// callBack delivers all ten donuts, as the factory was asked to.
func (s *shop) callBack(headers ...string) {
	s.t.Helper()
	target := strings.TrimPrefix(one[string](s, `SELECT attributes->'callbackUrl'->>'value' FROM outbox WHERE type = $1`, schema.TypeReplenishmentRequested), publicly)
	got := s.send("POST", target, `{"MessageAttributeProductId":"CP-502101","MessageAttributeProductCnt":"10"}`, headers...)
	require.Equal(s.t, http.StatusOK, got.status, got.raw)
}

// TestRequestSpan: an event stands below the span of the request that wrote it, and
// that below its caller's.
func TestRequestSpan(t *testing.T) {
	t.Parallel()
	spans, tracing := traced()
	s := newShop(t, tracing)
	bought := s.checkout(`{}`, "traceparent", caller)
	require.Equal(t, http.StatusOK, bought.status)
	require.Len(t, spans.Ended(), 1)
	span := spans.Ended()[0]
	require.Equal(t, "POST /checkout", span.Name())
	require.Equal(t, trace.SpanKindServer, span.SpanKind())
	require.Equal(t, callersTrace, span.SpanContext().TraceID().String())
	require.Equal(t, callersSpan, span.Parent().SpanID().String())
	require.Equal(t, codes.Unset, span.Status().Code)
	event := one[string](s, `SELECT id::text FROM outbox`)
	require.Equal(t, map[string]string{
		"http.request.method": "POST", "http.route": "/checkout", "http.response.status_code": "200",
		"restock.order_id": bought.str("orderId"), "restock.event_id": event,
	}, attributesOf(span))
	require.Equal(t, traceparentOf(span), one[string](s, `SELECT traceparent FROM outbox`))
	require.Equal(t, traceparentOf(span), one[string](s, `SELECT attributes->'traceparent'->>'value' FROM outbox`))
	require.Equal(t, callersTrace, s.lastLine()["trace_id"])

	require.Equal(t, http.StatusConflict, s.checkout(`{}`).status)
	short := spans.Ended()[1]
	require.False(t, short.Parent().IsValid(), "a trace of its own")
	require.Equal(t, codes.Unset, short.Status().Code, "sold out is no failure")
	require.Equal(t, traceparentOf(short), one[string](s, `SELECT traceparent FROM outbox WHERE type = $1`, schema.TypeReplenishmentRequested))

	s.checkout(`{}`, "traceparent", caller, "traceparent", anotherCaller)
	require.False(t, spans.Ended()[2].Parent().IsValid(), "two callers are none")
}

// TestCallerDoesNotWantToBeTraced: its events have its trace all the same.
func TestCallerDoesNotWantToBeTraced(t *testing.T) {
	t.Parallel()
	spans, tracing := traced()
	s := newShop(t, tracing)
	require.Equal(t, http.StatusOK, s.checkout(`{}`, "traceparent", unwantedCaller).status)
	require.Empty(t, spans.Ended())
	require.Regexp(t, "^00-"+callersTrace+"-[0-9a-f]{16}-00$", one[string](s, `SELECT traceparent FROM outbox`))
}

// TestPanicIsAFailedSpan.
func TestPanicIsAFailedSpan(t *testing.T) {
	t.Parallel()
	spans, tracing := traced()
	s := newShop(t, tracing)
	s.handler = s.api.Panicking()
	require.Equal(t, http.StatusInternalServerError, s.send("BREW", "/panicking", "").status)
	require.Equal(t, "_OTHER /panicking", spans.Ended()[0].Name())
	require.Equal(t, codes.Error, spans.Ended()[0].Status().Code)
}

// TestCallbackFollowsItsReplenishment: whatever the factory sends, a delivery is in
// the trace of the checkout that it was asked for.
func TestCallbackFollowsItsReplenishment(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		header  string
		follows bool // by a span beside the request's, with which it is linked
	}{
		"a factory that knows nothing of traces": {"", true},
		"a factory with a trace of its own":      {anotherCaller, true},
		"a factory that passes ours on":          {caller, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spans, tracing := traced()
			s := newShop(t, tracing)
			s.buy(donut, 1)
			require.Equal(t, http.StatusConflict, s.checkout(`{}`, "traceparent", caller).status)
			checkout := spans.Ended()[1]
			id := one[string](s, `SELECT id::text FROM replenishments`)
			var headers []string
			if test.header != "" {
				headers = []string{"traceparent", test.header}
			}
			s.callBack(headers...)

			ended := spans.Ended()[2:]
			event := one[string](s, `SELECT traceparent FROM outbox WHERE type = $1`, schema.TypeStockReplenished)
			require.Equal(t, callersTrace, s.lastLine()["trace_id"])
			require.Equal(t, traceparentOf(ended[0]), event)
			require.Equal(t, id, attributesOf(ended[0])["restock.replenishment_id"])
			if !test.follows {
				require.Len(t, ended, 1)
				require.Equal(t, "POST /stock-increase/{id}", ended[0].Name())
				require.Equal(t, callersSpan, ended[0].Parent().SpanID().String())
				return
			}
			require.Len(t, ended, 2)
			followed, request := ended[0], ended[1]
			require.Equal(t, "deliver replenishment", followed.Name())
			require.Equal(t, checkout.SpanContext().SpanID(), followed.Parent().SpanID())
			require.Equal(t, request.SpanContext().SpanID(), followed.Links()[0].SpanContext.SpanID())
			require.Equal(t, followed.SpanContext().SpanID(), request.Links()[0].SpanContext.SpanID())
			require.NotEqual(t, callersTrace, request.SpanContext().TraceID().String())
			require.NotContains(t, attributesOf(request), "url.query")
		})
	}
}

// TestOneTraceWithoutTracing: the ids go on where nobody makes spans.
func TestOneTraceWithoutTracing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.buy(donut, 1)
	s.checkout(`{}`, "traceparent", caller)
	s.callBack("traceparent", anotherCaller)
	require.Equal(t, caller, one[string](s, `SELECT traceparent FROM outbox WHERE type = $1`, schema.TypeReplenishmentRequested))
	require.Equal(t, caller, one[string](s, `SELECT traceparent FROM outbox WHERE type = $1`, schema.TypeStockReplenished))
	require.Equal(t, callersTrace, s.lastLine()["trace_id"])
}

// TestStockIsWorthMoreThanATrace: a delivery is taken where its cause cannot be read.
func TestStockIsWorthMoreThanATrace(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.buy(donut, 1)
	s.checkout(`{}`, "traceparent", caller)
	s.exec(`REVOKE SELECT (traceparent) ON outbox FROM restock_api`)
	s.callBack("traceparent", anotherCaller)
	require.Equal(t, anotherCaller, one[string](s, `SELECT traceparent FROM outbox WHERE type = $1`, schema.TypeStockReplenished))
	require.Contains(t, s.log.String(), "run restock migrate")
}
