package tracing_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/internal/tracing"
)

const given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestTraceparent(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		given: given,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00":       "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff":       "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later": given,
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01later":  "",
		given + "-later": "",
		given + "\r\n":   "",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "",
		"0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01": "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00F067aa0ba902b7-01": "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A": "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01": "",
		"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7":    "",
		"": "",
	} {
		sc := tracing.Parse(text)
		require.Equal(t, want != "", sc.IsValid(), text)
		require.Equal(t, want, tracing.Format(sc), text)
	}
	begun := tracing.New()
	require.True(t, begun.IsValid())
	require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`, tracing.Format(begun))
	require.NotEqual(t, begun, tracing.New())
}

// FuzzParse: what we take OpenTelemetry takes, and reads alike.
func FuzzParse(f *testing.F) {
	f.Add(given)
	f.Add("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later")
	f.Fuzz(func(t *testing.T, text string) {
		got := tracing.Parse(text)
		if !got.IsValid() {
			return
		}
		carrier := propagation.MapCarrier{"traceparent": tracing.Format(got)}
		want := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
		require.True(t, got.Equal(want), text)
	})
}

func TestWhoTracesNothingPaysNothing(t *testing.T) {
	require.Nil(t, tracing.Tracer(nil))
	ctx := context.Background()
	below, span := tracing.Start(ctx, "call", trace.SpanKindClient)
	require.Equal(t, ctx, below)
	tracing.End(span, errors.New("failed"))
	require.Equal(t, given, tracing.Current(ctx, given))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, span := tracing.Start(ctx, "call", trace.SpanKindClient)
		tracing.End(span, nil)
		tracing.Parse(given)
		tracing.Current(ctx, given)
	}))
}

func TestSpansBelowOthers(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))
	ctx, above := tracing.Tracer(provider).Start(t.Context(), "above")
	ctx, below := tracing.Start(ctx, "below", trace.SpanKindClient)
	require.Equal(t, tracing.Format(below.SpanContext()), tracing.Current(ctx, ""))
	tracing.End(below, errors.New("no answer"))
	tracing.End(above, nil)
	require.Len(t, spans.Ended(), 2)
	require.Equal(t, above.SpanContext().SpanID(), spans.Ended()[0].Parent().SpanID())
	require.Equal(t, "no answer", spans.Ended()[0].Status().Description)
}
