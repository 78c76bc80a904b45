package otlp

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/rs/zerolog"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// sayEvery is how often the log may tell that spans are lost.
const sayEvery = time.Minute

// quiet keeps the failures of an exporter from everybody but the log, and tells
// them there once in a while.
type quiet struct {
	sdk.SpanExporter

	endpoint *url.URL
	log      zerolog.Logger
	now      func() time.Time

	mu    sync.Mutex
	lost  int       // and not told yet
	until time.Time // nothing more is told of losses
	told  bool      // that they are not sent, and not yet that they are again
}

// ExportSpans implements sdk.SpanExporter.
func (q *quiet) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	q.note(len(spans), q.SpanExporter.ExportSpans(ctx, spans))
	return nil
}

func (q *quiet) note(spans int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.lost += spans
	}
	now := q.now()
	switch {
	case err != nil && !now.Before(q.until):
		q.log.Warn().Str("error", q.short(err)).Int("lost", q.lost).Msg("spans are not sent: see that the collector is there and takes OTLP over HTTP; nothing else waits for it")
		q.lost, q.until, q.told = 0, now.Add(sayEvery), true
	case err == nil && q.told:
		q.log.Info().Int("lost", q.lost).Msg("spans are sent again")
		q.lost, q.told = 0, false
	}
}

// maxError is much more than what a collector has to say, and less than what a proxy
// before it may answer.
const maxError = 300

// short is an error's text without the path, which may be secret, and without most of
// what the other side answered.
func (q *quiet) short(err error) string {
	text := strings.ReplaceAll(err.Error(), q.endpoint.String(), q.endpoint.Host)
	if len(text) > maxError {
		text = strings.ToValidUTF8(text[:maxError], "") + "…"
	}
	return text
}

// sdkLogger passes on what the SDK has to say of its configuration, without the
// values: one of them may be a credential.
func sdkLogger(log zerolog.Logger) logr.Logger { return logr.New(sink{log}) }

type sink struct{ log zerolog.Logger }

// Init implements logr.LogSink.
func (sink) Init(logr.RuntimeInfo) {}

// Enabled implements logr.LogSink. 1 are the SDK's warnings.
func (sink) Enabled(level int) bool { return level <= 1 }

// Info implements logr.LogSink.
func (s sink) Info(_ int, msg string, _ ...any) { s.log.Warn().Msg("tracing: " + msg) }

// Error implements logr.LogSink. err may quote a value.
func (s sink) Error(_ error, msg string, _ ...any) {
	s.log.Warn().Msg("tracing: " + msg + ": a variable that begins with OTEL_ has a value that is none, and is left out")
}

// WithValues implements logr.LogSink.
func (s sink) WithValues(...any) logr.LogSink { return s }

// WithName implements logr.LogSink.
func (s sink) WithName(string) logr.LogSink { return s }
