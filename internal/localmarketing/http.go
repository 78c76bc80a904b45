package localmarketing

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
)

// maxBody is more than any event of Restock has.
const maxBody = 256 << 10

// Handler serves the system's API.
func (s *System) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /webhooks", s.webhook)
	mux.HandleFunc("GET /webhooks", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"received": s.Received()})
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	return mux
}

// delivery is one request that is in order.
type delivery struct {
	Received
	at time.Time // its timestamp
}

// refusedError is why a request is not in order.
type refusedError struct {
	status int
	reason string
}

func (e *refusedError) Error() string { return e.reason }

func (s *System) webhook(w http.ResponseWriter, r *http.Request) {
	d, err := s.read(w, r)
	if err != nil {
		s.refuse(w, err)
		return
	}
	fault := s.nextFault()
	if !s.wait(r, fault.Slow) {
		panic(http.ErrAbortHandler)
	}
	if !fault.fails() || fault.Accept {
		again, err := s.take(d)
		if err != nil {
			s.refuse(w, err)
			return
		}
		s.cfg.Logger.Info().Str("webhook_id", d.ID).Bool("again", again).Msg("webhook taken")
	}
	switch {
	case fault.Cut:
		panic(http.ErrAbortHandler)
	case fault.fails():
		fault.answer(w)
	default:
		answer(w, http.StatusOK, map[string]string{"status": "taken", "id": d.ID})
	}
}

// read takes a request apart: signature first, because what is not signed is
// nobody's.
func (s *System) read(w http.ResponseWriter, r *http.Request) (delivery, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return delivery{}, &refusedError{http.StatusRequestEntityTooLarge, "body: " + err.Error()}
	}
	id, at, err := s.verifier.verify(r.Header, body, s.cfg.Now())
	if err != nil {
		return delivery{}, &refusedError{http.StatusUnauthorized, err.Error()}
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/cloudevents+json" {
		return delivery{}, &refusedError{http.StatusUnsupportedMediaType, fmt.Sprintf("content type %q: want application/cloudevents+json", r.Header.Get("Content-Type"))}
	}
	e, p, err := readEvent(body)
	if err == nil && e.ID != id {
		err = errors.New("webhook-id is not the event's id")
	}
	if err != nil {
		return delivery{}, &refusedError{http.StatusBadRequest, err.Error()}
	}
	return delivery{at: at, Received: Received{
		ID: id, CustomerID: p.CustomerID, OrderID: p.OrderID, Quantity: p.Quantity, EventTime: e.Time,
		Body: string(body), Traceparent: r.Header.Get("Traceparent"),
	}}, nil
}

func (s *System) refuse(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	var refused *refusedError
	if errors.As(err, &refused) {
		status = refused.status
	}
	s.cfg.Logger.Warn().Err(err).Int("status", status).Msg("webhook refused")
	answer(w, status, map[string]string{"error": err.Error()})
}

func (s *System) wait(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	select {
	case <-s.cfg.After(d):
		return true
	case <-r.Context().Done():
		return false
	}
}

// answer fails as the fault says.
func (f Fault) answer(w http.ResponseWriter) {
	for name, value := range map[string]string{"Retry-After": f.RetryAfter, "Location": f.Location} {
		if value != "" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(f.Status)
	_, err := io.WriteString(w, f.Body)
	filler := strings.Repeat(" ", 32<<10)
	for left := f.Size; left > 0 && err == nil; left -= int64(len(filler)) {
		_, err = io.WriteString(w, filler[:min(left, int64(len(filler)))])
	}
	// An error tells that the client is gone: there is no one to tell.
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone: there is no one to tell
}
