package main

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/otlp"
)

// tracing begins to send the spans of a part, under the name that it has elsewhere.
func (f flags) tracing(ctx context.Context, part string, log zerolog.Logger) (*otlp.Tracing, error) {
	return otlp.Start(ctx, otlp.Config{Service: "restock-" + part, Collector: f.OTLP, Endpoint: f.OTLPTraces, Logger: log})
}

// flushTime is how long an invocation may wait for its spans to be sent: Lambda
// stops the process between two, and may never let it go on. A collector beside the
// function, as an extension, answers at once.
const flushTime = 500 * time.Millisecond

func flush(t *otlp.Tracing) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	t.Flush(ctx)
}
