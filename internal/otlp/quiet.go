package otlp

import (
	"context"
	"net/url"
	"regexp"
	"strconv"
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
	queue    queueBound

	mu      sync.Mutex
	lost    int64     // not taken by the collector, and not told yet
	dropped int64     // for want of room, and not told yet
	until   time.Time // nothing more is told of losses
	told    bool      // that spans are lost, and not yet that they are sent again
}

// ExportSpans implements sdk.SpanExporter.
func (q *quiet) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := q.SpanExporter.ExportSpans(ctx, spans)
	q.queue.leave(len(spans))
	q.note(int64(len(spans)), err)
	return nil
}

func (q *quiet) note(spans int64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	refused, partly := partialSuccess(err)
	switch {
	case partly:
		q.lost += min(refused, spans)
	case err != nil:
		q.lost += spans
	}
	q.dropped += q.queue.dropped.Swap(0)
	well, now := err == nil && q.dropped == 0, q.now()
	switch {
	case !well && !now.Before(q.until):
		q.tell(q.log.Warn(), err, partly)
		q.until, q.told = now.Add(sayEvery), true
	case well && q.told:
		q.count(q.log.Info()).Msg("spans are sent again")
		q.told = false
	}
}

// tell says what is wrong, the collector before the queue, which may be full because of it.
func (q *quiet) tell(line *zerolog.Event, err error, partly bool) {
	line = q.count(line)
	switch {
	case partly:
		line.Str("error", q.short(err)).Msg("the collector takes some spans only, or warns: its answer says why")
	case err != nil:
		line.Str("error", q.short(err)).Msg("spans are not sent: see that the collector is there and takes OTLP over HTTP; nothing else waits for it")
	default:
		line.Msg("spans are dropped, because they end faster than the collector takes them: OTEL_BSP_MAX_QUEUE_SIZE keeps more, OTEL_TRACES_SAMPLER makes fewer")
	}
}

// tellRest tells what was lost since the last line, at the end.
func (q *quiet) tellRest() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropped += q.queue.dropped.Swap(0)
	if q.lost+q.dropped > 0 {
		q.count(q.log.Warn()).Msg("more spans were lost before the end")
	}
}

// count adds what was lost since it was told last.
func (q *quiet) count(line *zerolog.Event) *zerolog.Event {
	line = line.Int64("lost", q.lost).Int64("dropped", q.dropped)
	q.lost, q.dropped = 0, 0
	return line
}

// rejection is the end of what the exporter says of a partial success. Its type is not
// for others.
var rejection = regexp.MustCompile(`(?m)OTLP partial success: .*\((\d+) spans rejected\)$`)

// partialSuccess tells whether the collector took the batch but for some spans, and how
// many these are.
func partialSuccess(err error) (refused int64, partly bool) {
	if err == nil {
		return 0, false
	}
	found := rejection.FindStringSubmatch(err.Error())
	if found == nil {
		return 0, false
	}
	refused, err = strconv.ParseInt(found[1], 10, 64)
	return refused, err == nil
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
