package api

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/internal/tracing"
)

// traceparent is a W3C trace context, version 00:
// 00-<trace id>-<parent id>-<flags>, in lower-case hexadecimal.
// https://www.w3.org/TR/trace-context/#traceparent-header
type traceparent string

// traceID is the part that all of one trace share.
func (t traceparent) traceID() string { return string(t[3:35]) }

// callerOf is the caller's trace context, not valid where there is none.
func callerOf(r *http.Request) trace.SpanContext {
	if values := r.Header.Values("Traceparent"); len(values) == 1 {
		return tracing.Parse(values[0])
	}
	return trace.SpanContext{}
}

// begin gives c its trace, the caller's or a new one, so that every event has one.
// Where requests are traced it is that of c's span.
func (c *call) begin(route string) {
	current := callerOf(c.r)
	if c.tracer != nil {
		c.startSpan(current, spanMethod(c.r.Method)+" "+route, trace.WithSpanKind(trace.SpanKindServer))
		current = c.spans[0].SpanContext()
	}
	c.trace = traceparent(tracing.Format(current))
	if c.trace == "" {
		c.trace = newTrace()
	}
}

// newTrace is one that begins here.
func newTrace() traceparent { return traceparent(tracing.Format(tracing.New())) }

// startSpan makes a span in parent's trace that ends with c.
func (c *call) startSpan(parent trace.SpanContext, name string, options ...trace.SpanStartOption) {
	ctx, span := c.tracer.Start(trace.ContextWithRemoteSpanContext(c.r.Context(), parent), name, options...)
	c.r, c.spans = c.r.WithContext(ctx), append(c.spans, span)
}

// follow moves c into the trace of the event that caused it, because its caller
// knows nothing of that. The span that it has there and the one in the caller's
// trace, or of a trace by itself, are linked.
func (c *call) follow(name, cause string) {
	causing := tracing.Parse(cause)
	if !causing.IsValid() || causing.TraceID().String() == c.trace.traceID() {
		return
	}
	if c.tracer != nil {
		caller := c.spans[0]
		c.startSpan(causing, name, trace.WithLinks(trace.Link{SpanContext: caller.SpanContext()}))
		followed := c.spans[1].SpanContext()
		caller.AddLink(trace.Link{SpanContext: followed})
		causing = followed
	}
	c.trace = traceparent(tracing.Format(causing))
}

// end ends c's spans. The query, where a signature may stand, is in none of them,
// and what the client did wrong is no failure.
func (c *call) end(route string, status int, err error) {
	if status < http.StatusInternalServerError {
		err = nil
	}
	for i := len(c.spans) - 1; i >= 0; i-- {
		span := c.spans[i]
		if span.IsRecording() {
			span.SetAttributes(attribute.String("http.request.method", spanMethod(c.r.Method)), attribute.String("http.route", route),
				attribute.Int("http.response.status_code", status))
			for _, about := range c.ids {
				span.SetAttributes(attribute.Stringer("restock."+about.name, about.id))
			}
		}
		tracing.End(span, err)
	}
}

// spanMethod is the request's, unless that is the client's own invention.
func spanMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
		return method
	}
	return "_OTHER"
}
