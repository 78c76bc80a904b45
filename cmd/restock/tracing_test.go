package main

import (
	"cmp"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/restock-dev/restock/schema"
)

// collector takes spans by OTLP over HTTP.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	spans   []tracedSpan
	headers http.Header // of the last request
}

// tracedSpan is what the tests read of one.
type tracedSpan struct {
	service, slot     string
	trace, id, parent string
	name              string
	kind              tracepb.Span_SpanKind
	links             []string // trace ids
	attributes        map[string]string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var in coltrace.ExportTraceServiceRequest
		if err != nil || r.Method+" "+r.URL.Path != "POST /v1/traces" || proto.Unmarshal(body, &in) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.take(&in, r.Header)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(in *coltrace.ExportTraceServiceRequest, headers http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers = headers
	for _, of := range in.GetResourceSpans() {
		resource := texts(of.GetResource().GetAttributes())
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				one := tracedSpan{
					service: resource["service.name"], slot: resource["restock.slot"],
					trace: hex.EncodeToString(s.GetTraceId()), id: hex.EncodeToString(s.GetSpanId()), parent: hex.EncodeToString(s.GetParentSpanId()),
					name: s.GetName(), kind: s.GetKind(), attributes: texts(s.GetAttributes()),
				}
				for _, l := range s.GetLinks() {
					one.links = append(one.links, hex.EncodeToString(l.GetTraceId()))
				}
				c.spans = append(c.spans, one)
			}
		}
	}
}

func texts(attributes []*common.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range attributes {
		m[a.GetKey()] = a.GetValue().GetStringValue()
	}
	return m
}

// find returns the spans of a name.
func (c *collector) find(name string) []tracedSpan {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(func(yield func(tracedSpan) bool) {
		for _, s := range c.spans {
			if s.name == name && !yield(s) {
				return
			}
		}
	})
}

// tree draws a trace: each span by who made it and its name, below its parent. What
// was tried twice is drawn once.
func (c *collector) tree(t *testing.T, trace string) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	known, below := map[string]bool{"": true}, map[string][]tracedSpan{}
	for _, s := range c.spans {
		if s.trace == trace {
			known[s.id] = true
			below[s.parent] = append(below[s.parent], s)
		}
	}
	for parent := range below {
		require.True(t, known[parent], "a span below one that is not there")
	}
	var lines []string
	var draw func(parent, indent string)
	draw = func(parent, indent string) {
		children := below[parent]
		slices.SortFunc(children, func(a, b tracedSpan) int { return cmp.Compare(a.name, b.name) })
		for _, s := range children {
			line := indent + strings.Join(strings.Fields(s.service+" "+s.slot+" "+s.name), " ")
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
			draw(s.id, indent+"  ")
		}
	}
	draw("", "")
	return strings.Join(lines, "\n")
}

// TestOneTraceForEachCheckout plays the demo's story. What follows from a checkout, in
// every process and on both databases, is one trace.
func TestOneTraceForEachCheckout(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	code, out, errs := restock(t, []string{"OTEL_SERVICE_NAME=not read by the demo"}, anywhere(filepath.Join(t.TempDir(), "data"), "--once", "--otlp", c.URL)...)
	require.Zero(t, code, out+errs)

	traceOf := func(name string) string {
		found := c.find(name)
		require.NotEmpty(t, found, name)
		return found[0].trace
	}
	page, err := os.ReadFile("../../docs/tracing.md")
	require.NoError(t, err)
	for _, one := range []string{"process vip", "process factory"} {
		require.Contains(t, string(page), "```\n"+c.tree(t, traceOf(one))+"\n```\n", "the page shows it as it is")
	}

	// The factory knows nothing of traces: its callback is a trace by itself, linked.
	callback := c.find("POST /stock-increase/{id}")[0]
	require.Equal(t, []string{traceOf("process factory")}, callback.links)
	for _, s := range c.find("publish order.placed") {
		require.Len(t, s.links, 1, "the call that it went in")
		require.Equal(t, tracepb.Span_SPAN_KIND_PRODUCER, s.kind)
		require.NotEmpty(t, s.attributes["messaging.message.id"])
	}
	for _, s := range c.find("publish a batch") {
		require.NotEmpty(t, s.links, "each event's context")
		require.Empty(t, s.parent)
	}
	for _, s := range c.spans {
		for name, value := range s.attributes {
			require.NotContains(t, value, "sig=", name)
			require.NotContains(t, value, "@", name)
		}
	}
}

// TestADeadCollectorChangesNothing.
func TestADeadCollectorChangesNothing(t *testing.T) {
	t.Parallel()
	code, out, errs := restock(t, nil, anywhere(filepath.Join(t.TempDir(), "data"), "--once", "--otlp", "http://127.0.0.1:1")...)
	require.Zero(t, code, out+errs)
	require.Contains(t, out, "everything happened once")
	told := strings.Count(errs, "spans are not sent")
	require.Positive(t, told)
	require.LessOrEqual(t, told, 4, "once for the API, each relay and the consumers:\n%s", errs)
}

// TestTracingByTheEnvironment: the SDK's own variables say how, and the caller
// whether.
func TestTracingByTheEnvironment(t *testing.T) {
	t.Parallel()
	const caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"
	db, _ := newDatabase(t, store)
	c := newCollector(t)
	p := launch(t, []string{
		"RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleAPI, password), "RESTOCK_CALLBACK_SECRETS=0123456789abcdef",
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_SERVICE_NAME=shop", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test",
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=Basic%20c2VjcmV0,a-token-in-the-wrong-place", "OTEL_TRACES_SAMPLER=wrong",
	}, "api", "--addr", "127.0.0.1:0", "--log-format", "json", "--log-level", "debug")
	for target, traceparent := range map[string]string{"/products": caller + "01", "/orders/1": caller + "00", "/nothing": ""} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.endpoints["api"]+target, nil)
		require.NoError(t, err)
		if traceparent != "" {
			req.Header.Set("Traceparent", traceparent)
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
	}
	require.Zero(t, p.stop(), "it sends what it has when it stops")

	continued := c.find("GET /products")
	require.Len(t, continued, 1)
	require.Equal(t, caller, "00-"+continued[0].trace+"-"+continued[0].parent+"-")
	require.Equal(t, "shop", continued[0].service)
	require.Equal(t, tracepb.Span_SPAN_KIND_SERVER, continued[0].kind)
	require.Empty(t, c.find("GET /orders/{id}"), "the caller does not want it")
	begun := c.find("GET unmatched")
	require.Len(t, begun, 1)
	require.Empty(t, begun[0].parent)
	require.Equal(t, "Basic c2VjcmV0", c.headers.Get("Authorization"))

	logged := p.log.tail()
	require.Contains(t, logged, begun[0].trace, "the log line has the trace's id")
	require.Contains(t, logged, "unsupported sampler")
	require.Contains(t, logged, "parse headers")
	require.NotContains(t, logged, "a-token-in-the-wrong-place")
	require.NotContains(t, logged, "c2VjcmV0")
}

// TestTracingIsSetUpWrong.
func TestTracingIsSetUpWrong(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"localhost:4318":               "want http://host:4318",
		"grpc://127.0.0.1:4317":        "want http://host:4318",
		"http://user:hunter2@host:80":  "OTEL_EXPORTER_OTLP_HEADERS",
		"http://user:hunter2@host:%zz": "want http://host:4318",
	} {
		code, _, errs := restock(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "RESTOCK_CALLBACK_SECRETS=0123456789abcdef"},
			"api", "--database-url", "postgres://127.0.0.1:1/none")
		require.Equal(t, 2, code, endpoint)
		require.Contains(t, errs, want, endpoint)
		require.NotContains(t, errs, "hunter2")
	}
}
