package service

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTimeout bounds one readiness test, below the usual time-out of a probe.
const readyTimeout = 3 * time.Second

// Readiness is the body of /readyz.
type Readiness struct {
	Status string `json:"status"` // "ready" or "not ready"
	Reason string `json:"reason,omitempty"`
}

// Health adds the three endpoints that every part serves: /healthz, 200 while the
// process can answer at all; /readyz, 200 or 503 with a [Readiness] as ready says;
// and /metrics from gatherer. A nil ready is always ready.
func Health(mux *http.ServeMux, ready func(context.Context) error, gatherer prometheus.Gatherer) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		if ready != nil {
			if err := ready(ctx); err != nil {
				answer(w, http.StatusServiceUnavailable, Readiness{Status: "not ready", Reason: err.Error()})
				return
			}
		}
		answer(w, http.StatusOK, Readiness{Status: "ready"})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
}

// Progression is the body of /progressz.
type Progression struct {
	Status string `json:"status"` // "progress" or "stalled"
	Reason string `json:"reason,omitempty"`
}

// Progress adds /progressz for a part that works by itself: 200 while it gets on, or
// has nothing to do; 503 with a [Progression] while it does not although there is
// work. It is apart from /healthz and /readyz because the cause may be outside, where
// a restart mends nothing.
func Progress(mux *http.ServeMux, progress func() error) {
	mux.HandleFunc("GET /progressz", func(w http.ResponseWriter, _ *http.Request) {
		if err := progress(); err != nil {
			answer(w, http.StatusServiceUnavailable, Progression{Status: "stalled", Reason: err.Error()})
			return
		}
		answer(w, http.StatusOK, Progression{Status: "progress"})
	})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone: there is no one to tell
}
