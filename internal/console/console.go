package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/service"
)

// Defaults of Config.
const (
	DefaultInterval       = 5 * time.Second
	DefaultReconcileEvery = 5 * time.Minute
	DefaultWithin         = 30 * time.Second
	DefaultLongest        = 15 * time.Minute
)

// Config is what a Console needs. Guard, Pipeline and Status must be given.
type Config struct {
	Guard    *Guard
	Pipeline ops.Pipeline
	// Status is looked at every Interval, by the console alone. Looking costs the databases
	// a little; where a look takes longer than Interval the next one waits as long as it
	// took. Default DefaultInterval.
	Status   *ops.Status
	Interval time.Duration
	// Reconciler compares every ReconcileEvery, default DefaultReconcileEvery. Nil: nothing
	// is compared. Reconciled is told of each result. Default: nobody.
	Reconciler     *ops.Reconciler
	ReconcileEvery time.Duration
	Reconciled     func(ops.Reconciliation, error)
	// Within is how long an ordinary request may take, and Longest one that walks a queue or
	// plans for millions of events. Default DefaultWithin and DefaultLongest.
	Within, Longest time.Duration
	// DLQ says how dead-letter queues are walked. Whose they are is filled in.
	DLQ    ops.DLQConfig
	Logger zerolog.Logger
}

// Console is the operators' side of Restock over HTTP. Its Handler answers as long as its
// Run runs.
type Console struct {
	cfg        Config
	sampler    *sampler
	reconciled atomic.Pointer[comparison]
	long       chan struct{} // a place for each long request
}

// New makes a Console. It calls nothing yet.
func New(cfg Config) *Console {
	for field, preset := range map[*time.Duration]time.Duration{
		&cfg.Interval: DefaultInterval, &cfg.ReconcileEvery: DefaultReconcileEvery, &cfg.Within: DefaultWithin, &cfg.Longest: DefaultLongest,
	} {
		if *field == 0 {
			*field = preset
		}
	}
	if cfg.Reconciled == nil {
		cfg.Reconciled = func(ops.Reconciliation, error) {}
	}
	return &Console{cfg: cfg, sampler: newSampler(), long: make(chan struct{}, MostLong)}
}

// Run looks and compares until ctx ends, also when nobody watches.
func (c *Console) Run(ctx context.Context) error {
	return service.Run(ctx, c.sample, c.reconcile)
}

// Handler serves the page and the API, to whom the guard lets in.
func (c *Console) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /api/status":                      c.status,
		"GET /api/history":                     c.history,
		"GET /api/events":                      c.events,
		"GET /api/trace/{id}":                  c.trace,
		"GET /api/replays":                     c.replays,
		"GET /api/replays/{id}":                c.replay,
		"POST /api/replays/{id}/resume":        c.resumeReplay,
		"POST /api/replays/{id}/cancel":        c.cancelReplay,
		"GET /api/parked":                      c.parked,
		"GET /api/parked/{id}":                 c.parkedEvent,
		"POST /api/parked/send":                c.sendParked,
		"POST /api/parked/skip":                c.skipParked,
		"GET /api/replenishments":              c.replenishments,
		"POST /api/replenishments/{id}/retry":  c.retryReplenishment,
		"POST /api/replenishments/{id}/cancel": c.cancelReplenishment,
		"GET /api/reconcile":                   c.reconciliation,
	} {
		mux.Handle(pattern, c.answer(h))
	}
	for pattern, h := range map[string]handler{
		"POST /api/replays":      c.startReplay,
		"POST /api/replays/plan": c.planReplay,
		"GET /api/dlq":           c.deadEvents,
		"GET /api/dlq/{id}":      c.deadEvent,
		"POST /api/dlq/redrive":  c.redrive,
	} {
		mux.Handle(pattern, c.unhurried(h))
	}
	mux.HandleFunc("GET /api/live", c.live)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, r.Method+" "+r.URL.Path+" is nothing that is served here: docs/console.md lists what is")
	})
	mux.Handle("/", page())
	return c.logged(c.cfg.Guard.Wrap(mux))
}

// handler answers with what is to be sent as JSON.
type handler func(w http.ResponseWriter, r *http.Request) (any, error)

// answerTime is what is left to write an answer, or the reason why there is none, once
// the time for the work is over.
const answerTime = 10 * time.Second

// errTooLong is why a request ends that takes longer than it may.
var errTooLong = errors.New("it takes too long")

// answer bounds an ordinary request.
func (c *Console) answer(h handler) http.Handler { return c.within(c.cfg.Within, h) }

// within carries out h for so long at most. The connection outlives the work, whatever
// the server's bounds are: one that was cut would leave the client without a word of what
// was done.
func (c *Console) within(longest time.Duration, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeoutCause(r.Context(), longest, errTooLong)
		defer cancel()
		ctx, stop := untilStopping(ctx)
		defer stop()
		body, err := any(nil), patient(http.NewResponseController(w).SetWriteDeadline(time.Now().Add(longest+answerTime)))
		if err == nil {
			err = checkURL(r.URL)
		}
		if err == nil {
			err = takeBody(w, r)
		}
		if err == nil {
			body, err = h(w, r.WithContext(ctx))
		}
		if err != nil {
			status := statusOf(err)
			switch {
			case errors.Is(context.Cause(ctx), errTooLong):
				err = fmt.Errorf("not done within %s, and given up: what was done is done; ask again for the rest, or for less, or use the command, which has no bound", longest)
				status = http.StatusServiceUnavailable
			case ctx.Err() != nil: // the client is gone, or everybody is sent away
				err = errors.New("stopped before its end: what was done is done, ask again for the rest")
				status = http.StatusServiceUnavailable
			case status == http.StatusInternalServerError:
				c.cfg.Logger.Error().Err(err).Str("by", by(r)).Str("path", r.URL.Path).Msg("a request of the admin API failed")
			}
			problem(w, status, ops.Unable(err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body) // the client may be gone
	})
}

// checkURL refuses what no text of a database can hold, in the path and in the query.
func checkURL(u *url.URL) error {
	texts := []string{u.Path}
	for name, values := range u.Query() {
		texts = append(append(texts, name), values...)
	}
	for _, text := range texts {
		if strings.ContainsRune(text, 0) || !utf8.ValidString(text) {
			return refused(http.StatusBadRequest, "path and query may hold neither NUL nor what is not UTF-8: %.40q does", text)
		}
	}
	return nil
}

// escapedNUL is NUL in a text of JSON, where it cannot be as it is.
var escapedNUL = regexp.MustCompile(`(?:^|[^\\])(?:\\\\)*\\u0000`)

// takeBody reads the body within the server's time, and lifts that: a connection whose
// time to be read from is over takes its request down with it.
func takeBody(w http.ResponseWriter, r *http.Request) error {
	text, err := io.ReadAll(r.Body)
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return refused(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes: what has more ids goes by restock replay --ids-file FILE", maxBody)
	case err != nil:
		return refused(http.StatusBadRequest, "read the body: %s", err.Error())
	case escapedNUL.Match(text):
		return refused(http.StatusUnprocessableEntity, "a text must hold no NUL: no database can keep it")
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	return patient(http.NewResponseController(w).SetReadDeadline(time.Time{}))
}

// patient forgives a connection that has no deadlines.
func patient(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// untilStopping ends with the request, or as soon as the server is asked to stop: what is
// begun here can be cut off anywhere, and run again.
func untilStopping(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if stopping := service.Stopping(ctx); stopping != nil {
		go func() {
			select {
			case <-stopping:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return ctx, cancel
}

// MostLong is how many requests go on at once that walk a queue or plan for millions of
// events: each holds two connections of a database, and waiting for the second must not
// be for ever.
const MostLong = 4

const placeWait = 10 * time.Second // until one of them may begin

// unhurried gives a request more time, and a place among those that take it.
func (c *Console) unhurried(h handler) http.Handler {
	return c.within(c.cfg.Longest, func(w http.ResponseWriter, r *http.Request) (any, error) {
		place, cancel := context.WithTimeout(r.Context(), placeWait)
		defer cancel()
		select {
		case c.long <- struct{}{}:
			defer func() { <-c.long }()
		case <-place.Done():
			return nil, refused(http.StatusServiceUnavailable, "%d long requests go on already: ask again when one of them has ended", MostLong)
		}
		return h(w, r)
	})
}

// read reads a body, which must have no member that v does not.
func read(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil && d.More() {
		err = errors.New("more than one value")
	}
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrongType):
		return refused(http.StatusUnprocessableEntity, "%s cannot be a %s", wrongType.Field, wrongType.Value)
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		return refused(http.StatusUnprocessableEntity, "no member is called %s here", strings.TrimPrefix(err.Error(), "json: unknown field "))
	case errors.As(err, new(*json.SyntaxError)):
		return refused(http.StatusBadRequest, "not JSON: %s", err.Error())
	}
	return unprocessable(fmt.Errorf("read the body: %w", err))
}

// logged notes who was turned away, and what was changed.
func (c *Console) logged(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(seen, r)
		line := c.cfg.Logger.Debug()
		switch {
		case turnedAway(r, seen.status):
			line = c.cfg.Logger.Warn()
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			line = c.cfg.Logger.Info()
		}
		line.Str("method", r.Method).Str("path", r.URL.Path).Str("from", r.RemoteAddr).Int("status", seen.status).Msg("admin request")
	})
}

// turnedAway tells that somebody was who should not have come. A page that asks before
// anybody has signed in is none.
func turnedAway(r *http.Request, status int) bool {
	switch status {
	case http.StatusUnauthorized:
		return r.Header.Get("Authorization") != "" || r.URL.Path == "/login"
	case http.StatusForbidden, http.StatusMisdirectedRequest:
		return true
	}
	return false
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
