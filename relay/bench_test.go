package relay

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/restock-dev/restock/schema"
)

// benchRow is a row as Postgres sends it.
func benchRow() pgoutput {
	return insertMessage(1, "2026-11-22", "01938f5e-0000-7000-8000-000000000001", "7", "order.placed", "customer-17", "null",
		`{"eventId": {"type": "String", "value": "01938f5e-0000-7000-8000-000000000001"}, "quantity": {"type": "Number", "value": "3"}, `+
			`"eventType": {"type": "String", "value": "order.placed"}, "traceparent": {"type": "String", "value": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}`,
		`{"time":"2026-01-01T00:00:00Z","specversion":"1.0","id":"01938f5e-0000-7000-8000-000000000001","type":"order.placed","data":{"quantity":3,"text":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}}`,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
}

func benchDecoder(b *testing.B) *decoder {
	d := newDecoder("restock:s")
	_, err := d.decode(relationMessage(1, columns[:]...))
	require.NoError(b, err)
	return d
}

// BenchmarkDecode is what the reader does with a row.
func BenchmarkDecode(b *testing.B) {
	d, row := benchDecoder(b), benchRow()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = d.decode(row)
	}
}

// BenchmarkEvent is what is read of a row when it goes.
func BenchmarkEvent(b *testing.B) {
	d, row := benchDecoder(b), benchRow()
	c, err := d.decode(row)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.entry.event()
	}
}

// TestUntracedEvents: what is published pays nothing where nobody traces.
func TestUntracedEvents(t *testing.T) {
	s, events, results := &SNS{}, make([]schema.Event, maxBatchEntries), make([]Result, maxBatchEntries)
	require.Zero(t, testing.AllocsPerRun(100, func() { s.beginSpans(events).end(results, nil) }))
}

// BenchmarkTracingOff is what a batch of ten pays for tracing where nobody traces.
func BenchmarkTracingOff(b *testing.B) {
	s, events, results := &SNS{}, make([]schema.Event, maxBatchEntries), make([]Result, maxBatchEntries)
	b.ReportAllocs()
	for b.Loop() {
		s.beginSpans(events).end(results, nil)
	}
}

// BenchmarkTracingOn is what the spans of a batch of ten take, without their sending.
func BenchmarkTracingOn(b *testing.B) {
	provider := sdk.NewTracerProvider(sdk.WithBatcher(tracetest.NewNoopExporter()))
	b.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	s := &SNS{tracer: provider.Tracer(""), attributes: messagingAttributes("arn:aws:sns:ap-northeast-2:1:events.fifo")}
	events, results := make([]schema.Event, maxBatchEntries), make([]Result, maxBatchEntries)
	for i := range events {
		events[i] = schema.Event{Type: "order.placed", Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	}
	b.ReportAllocs()
	for b.Loop() {
		s.beginSpans(events).end(results, nil)
	}
}
