package otlp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// failing exports nothing, for as long as it has an error.
type failing struct {
	sdk.SpanExporter
	err error
}

func (f *failing) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return f.err }

// TestLossesAreToldOnceAMinute.
func TestLossesAreToldOnceAMinute(t *testing.T) {
	t.Parallel()
	var told bytes.Buffer
	now := time.Now()
	broken := &failing{err: errors.New("refused")}
	q := &quiet{SpanExporter: broken, endpoint: &url.URL{Scheme: "http", Host: "host"}, log: zerolog.New(&told), now: func() time.Time { return now }}
	lines := func() int { return strings.Count(told.String(), "\n") }
	send := func(spans int) {
		require.NoError(t, q.ExportSpans(t.Context(), make(tracetest.SpanStubs, spans).Snapshots()))
	}
	send(3)
	require.Equal(t, 1, lines())
	for range 100 {
		send(5)
	}
	require.Equal(t, 1, lines(), "quiet until the minute is over")
	now = now.Add(sayEvery)
	send(5)
	require.Equal(t, 2, lines())
	require.Contains(t, told.String(), `"lost":505`)

	broken.err = nil
	send(1)
	send(1)
	require.Equal(t, 3, lines(), "said once that they are sent again")
	for range 100 { // now and then one fails
		broken.err = errors.New("refused")
		send(1)
		broken.err = nil
		send(1)
	}
	require.Equal(t, 3, lines())
}

// TestACollectorThatRefuses may say a lot, and is told by its host alone.
func TestACollectorThatRefuses(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(http.StatusForbidden)
		_, _ = rw.Write(bytes.Repeat([]byte("누구세요"), 10_000))
	}))
	t.Cleanup(server.Close)
	var told bytes.Buffer
	tracing, err := Start(t.Context(), Config{Service: "test", Endpoint: server.URL + "/key-in-the-path", Logger: zerolog.New(&told)})
	require.NoError(t, err)
	end(t, tracing, 1)
	tracing.Flush(t.Context())
	tracing.Stop()
	require.Equal(t, 1, strings.Count(told.String(), "\n"))
	require.Contains(t, told.String(), "403 Forbidden")
	require.Contains(t, told.String(), strings.TrimPrefix(server.URL, "http://"))
	require.NotContains(t, told.String(), "key-in-the-path")
	require.Less(t, told.Len(), 1000)
}

// TestACollectorThatTakesSome: what it refuses is lost, and what it warns of is not.
func TestACollectorThatTakesSome(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		refused int64
		why     string
		want    string
	}{
		{3, "too old (9 spans rejected)", `"lost":3,"dropped":0`},
		{0, "the schema is old", `"lost":0,"dropped":0`},
	} {
		answer, err := proto.Marshal(&coltrace.ExportTraceServiceResponse{PartialSuccess: &coltrace.ExportTracePartialSuccess{RejectedSpans: test.refused, ErrorMessage: test.why}})
		require.NoError(t, err)
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/x-protobuf")
			_, _ = rw.Write(answer)
		}))
		t.Cleanup(server.Close)
		var told bytes.Buffer
		tracing, err := Start(t.Context(), Config{Service: "test", Collector: server.URL, Logger: zerolog.New(&told)})
		require.NoError(t, err)
		end(t, tracing, 10)
		tracing.Stop()
		require.Equal(t, 1, strings.Count(told.String(), "\n"), told.String())
		require.Contains(t, told.String(), test.want)
		require.Contains(t, told.String(), test.why)
		require.Contains(t, told.String(), "takes some spans only, or warns")
	}
}

// end makes spans that are over.
func end(t *testing.T, tracing *Tracing, spans int) {
	t.Helper()
	tracer := tracing.Provider().Tracer("")
	for range spans {
		_, span := tracer.Start(t.Context(), "span")
		span.End()
	}
}

// TestAFullQueue: each span arrives, or is told to have been dropped.
func TestAFullQueue(t *testing.T) {
	t.Parallel()
	const spans = 10_000
	var arrived atomic.Int64
	busy, first := make(chan struct{}), make(chan struct{})
	var once sync.Once
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(first); <-busy })
		text, err := io.ReadAll(r.Body)
		var in coltrace.ExportTraceServiceRequest
		if err == nil && proto.Unmarshal(text, &in) == nil {
			arrived.Add(int64(len(in.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans())))
		}
	}))
	t.Cleanup(server.Close)
	var told bytes.Buffer
	tracing, err := Start(t.Context(), Config{Service: "test", Collector: server.URL, Logger: zerolog.New(&told)})
	require.NoError(t, err)
	end(t, tracing, spans)
	<-first
	close(busy)
	tracing.Stop()
	require.Positive(t, arrived.Load())
	dropped := int64(0)
	for _, line := range strings.Split(strings.TrimSpace(told.String()), "\n") {
		var said struct{ Lost, Dropped int64 }
		require.NoError(t, json.Unmarshal([]byte(line), &said), line)
		require.Zero(t, said.Lost, line)
		dropped += said.Dropped
	}
	require.Equal(t, int64(spans), arrived.Load()+dropped)
	require.GreaterOrEqual(t, dropped, int64(spans-2*sdk.DefaultMaxQueueSize))
	require.Contains(t, told.String(), "OTEL_BSP_MAX_QUEUE_SIZE")
}

// TestACollectorThatHangs holds up neither who makes spans nor, for long, the end.
func TestACollectorThatHangs(t *testing.T) {
	t.Parallel()
	hanging := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hanging }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(hanging) })
	var told bytes.Buffer
	tracing, err := Start(t.Context(), Config{Service: "test", Collector: server.URL, Logger: zerolog.New(&told)})
	require.NoError(t, err)
	end(t, tracing, 10_000) // more than the queue has room for
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tracing.Flush(ended)
	tracing.Stop()
	require.Contains(t, told.String(), "the last spans may not have been sent")
}

func TestNoTracing(t *testing.T) {
	t.Parallel()
	none, err := Start(t.Context(), Config{Service: "test"})
	require.NoError(t, err)
	require.True(t, none.Provider() == nil, "and not an interface that holds nil")
	none.Flush(t.Context())
	none.Stop()
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ collector, endpoint, want, says string }{
		{"http://127.0.0.1:4318", "", "http://127.0.0.1:4318/v1/traces", ""},
		{"https://host/otlp/", "", "https://host/otlp/v1/traces", ""},
		{"https://host", "https://other/in", "https://other/in", ""},
		{"", "http://host:4318", "http://host:4318", ""},
		{"localhost:4318", "", "", "want http://host:4318"},
		{"grpc://host:4317", "", "", "want http://host:4318"},
		{"http://me:hunter2@host", "", "", "OTEL_EXPORTER_OTLP_HEADERS"},
		{"https://host?key=hunter2", "", "", "take it out"},
		{"http://me:hunter2@host:%zz", "", "", "want http://host:4318"},
	} {
		got, err := endpointOf(Config{Collector: test.collector, Endpoint: test.endpoint})
		if test.says != "" {
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), "hunter2")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, test.want, got.String())
	}
}
