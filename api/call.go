package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/internal/tracing"
)

// endpoint answers a request with what becomes the JSON body of a 200, or with
// an error, which asProblem turns into a problem.
type endpoint func(*call) (any, error)

// call is one request, from its trace to its log line.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	locale locale
	trace  traceparent
	tracer trace.Tracer // nil makes no spans
	spans  []trace.Span // that end with the request
	ids    []namedID    // for the log: what this request was about
}

type namedID struct {
	name string
	id   uuid.UUID
}

// about notes an id for the log line.
func (c *call) about(name string, id uuid.UUID) { c.ids = append(c.ids, namedID{name, id}) }

// endpoint runs h: one answer, one log line and one observation, whatever
// happens in it.
func (a *API) endpoint(route string, h endpoint) http.Handler {
	tracer := tracing.Tracer(a.cfg.Tracing)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		c := &call{w: w, r: r, locale: localeOf(r), tracer: tracer}
		c.begin(route)
		answer, err := a.guard(c, h)
		status := http.StatusOK
		if err != nil {
			if status = c.refuse(asProblem(err)); c.gone(err) {
				status = statusGone
			}
		} else {
			c.write(status, "application/json", answer)
		}
		took := time.Since(start)
		a.metrics.observe(route, r.Method, status, took)
		a.logCall(c, route, status, took, err)
		c.end(route, status, err)
	})
}

// statusGone is what is counted and logged of a request whose client went away: nobody
// was told anything, and nothing here was amiss. nginx counts it so too.
const statusGone = 499

// gone tells that err is no more than the client's going away.
func (c *call) gone(err error) bool {
	return c.r.Context().Err() != nil && errors.Is(err, context.Canceled)
}

// outcomeOf is the label of a request that ended in err.
func (c *call) outcomeOf(err error) string {
	if c.gone(err) {
		return outcomeGone
	}
	return outcomeOf(asProblem(err))
}

// guard turns a panic into an error: one request fails, the process lives.
func (a *API) guard(c *call, h endpoint) (answer any, err error) {
	defer func() {
		if v := recover(); v != nil {
			a.metrics.panics.Inc()
			a.log.Error().Str("trace_id", c.trace.traceID()).Bytes("stack", debug.Stack()).Msg("panic in a handler")
			answer, err = nil, internal(fmt.Errorf("panic: %v", v))
		}
	}()
	return h(c)
}

// logCall writes the path without the query, where a signature may stand.
func (a *API) logCall(c *call, route string, status int, took time.Duration, err error) {
	e := a.log.WithLevel(levelOf(status)).Str("trace_id", c.trace.traceID())
	if !e.Enabled() {
		return
	}
	for _, about := range c.ids {
		e = e.Stringer(about.name, about.id)
	}
	e.Str("method", c.r.Method).Str("route", route).Str("path", clip(c.r.URL.Path)).
		Int("status", status).Int64("took_ms", took.Milliseconds()).Err(err).Msg("request")
}

// levelOf keeps the hot path quiet: what succeeded is for debugging, what the
// client did wrong is news, a 503 is a warning, a 500 is ours.
func levelOf(status int) zerolog.Level {
	switch {
	case status == http.StatusServiceUnavailable:
		return zerolog.WarnLevel
	case status >= 500:
		return zerolog.ErrorLevel
	case status >= 400:
		return zerolog.InfoLevel
	}
	return zerolog.DebugLevel
}

func (c *call) refuse(p *problem) int {
	if p.allow != "" {
		c.w.Header().Set("Allow", p.allow)
	}
	if p.encoding != "" {
		c.w.Header().Set("Accept-Encoding", p.encoding)
	}
	if p.status == http.StatusServiceUnavailable {
		c.w.Header().Set("Retry-After", retryAfter)
	}
	c.write(p.status, "application/problem+json", p.body(c.locale, c.trace.traceID()))
	return p.status
}

// Headers of every answer. Header.Set would make each of them anew.
var (
	varyByLanguage = []string{"Accept-Language"}
	noStore        = []string{"no-store"}
	noSniff        = []string{"nosniff"}
)

func (c *call) write(status int, contentType string, body any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		panic(err) // every body is a struct of plain values
	}
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Language", c.locale.String())
	h["Vary"], h["Cache-Control"], h["X-Content-Type-Options"] = varyByLanguage, noStore, noSniff
	c.w.WriteHeader(status)
	_, _ = c.w.Write(b.Bytes()) // the client is gone: there is no one to tell
}
