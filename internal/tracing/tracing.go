// Package tracing is what the parts share to make one trace of all that follows
// from a request: W3C trace contexts as text, the form in which they stand in an
// outbox row, in a message and in a header, and spans that cost nothing when
// nobody traces.
//
// A part that is given no tracer provider makes no spans and allocates nothing for
// them; trace contexts go on all the same, so that log lines and events of one
// request carry one trace id whether it is traced or not. Sending spans is
// internal/otlp's, which only cmd knows.
package tracing

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// scope names the instrumentation in each span.
const scope = "github.com/restock-dev/restock"

// Tracer is that of a part, nil where its provider is: such a part makes no spans.
func Tracer(provider trace.TracerProvider) trace.Tracer {
	if provider == nil {
		return nil
	}
	return provider.Tracer(scope)
}

// Off is the span of who makes none. All its methods do nothing.
var Off = trace.SpanFromContext(context.Background())

// Start begins a span below the one that ctx carries, by the same provider. Where
// ctx carries none it returns ctx and Off.
func Start(ctx context.Context, name string, kind trace.SpanKind) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, Off
	}
	return Tracer(trace.SpanFromContext(ctx).TracerProvider()).Start(ctx, name, trace.WithSpanKind(kind))
}

// End ends a span, as failed where err is not nil.
func End(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// Current is the traceparent of ctx's span, and otherwise where it carries none.
func Current(ctx context.Context, otherwise string) string {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		return Format(sc)
	}
	return otherwise
}

// New is a trace that begins here without a span. It is marked as sampled: that
// nobody traces here is no wish that others should not.
func New() trace.SpanContext {
	var c trace.SpanContextConfig
	_, _ = rand.Read(c.TraceID[:]) // never fails
	_, _ = rand.Read(c.SpanID[:])
	c.TraceFlags = trace.FlagsSampled
	return trace.NewSpanContext(c)
}

// Parse reads a W3C traceparent; what is none gives a context that is not valid. A
// later version may append fields: what precedes them is read as version 00.
// https://www.w3.org/TR/trace-context/#traceparent-header
func Parse(traceparent string) trace.SpanContext {
	const traceAt, spanAt, flagsAt, end = 3, 36, 53, 55
	s := traceparent
	if len(s) < end || s[traceAt-1] != '-' || s[spanAt-1] != '-' || s[flagsAt-1] != '-' || len(s) > end && (s[:2] == "00" || s[end] != '-') {
		return trace.SpanContext{}
	}
	version, known := hexByte(s[:2])
	flags, set := hexByte(s[flagsAt:end])
	traceID, err := trace.TraceIDFromHex(s[traceAt : spanAt-1])
	spanID, spanErr := trace.SpanIDFromHex(s[spanAt : flagsAt-1])
	if !known || !set || version == 0xff || err != nil || spanErr != nil {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: spanID, TraceFlags: trace.TraceFlags(flags) & knownFlags, Remote: true,
	})
}

// knownFlags are those that version 00 gives a meaning.
const knownFlags = trace.FlagsSampled | trace.FlagsRandom

// Format is sc as a traceparent, empty where it is not valid. A trace's state has no
// place in an event and is left out.
func Format(sc trace.SpanContext) string {
	if !sc.IsValid() {
		return ""
	}
	traceID, spanID := sc.TraceID(), sc.SpanID()
	b := make([]byte, 0, len("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
	b = hex.AppendEncode(append(b, "00-"...), traceID[:])
	b = hex.AppendEncode(append(b, '-'), spanID[:])
	b = hex.AppendEncode(append(b, '-'), []byte{byte(sc.TraceFlags() & knownFlags)})
	return string(b)
}

// hexByte reads two digits in lower case, as the others have to be.
func hexByte(s string) (byte, bool) {
	digit := func(c byte) int { return strings.IndexByte("0123456789abcdef", c) }
	high, low := digit(s[0]), digit(s[1])
	return byte(high<<4 | low), high >= 0 && low >= 0
}
