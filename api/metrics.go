package api

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of a checkout and of a callback, as labels.
const (
	outcomeBought      = "bought"
	outcomeShort       = "short"
	outcomeInvalid     = "invalid"
	outcomeUnavailable = "unavailable"
	outcomeUnsure      = "unknown"
	outcomeError       = "error"
	outcomeDelivered   = "delivered"
	outcomeRepeated    = "repeated"
	outcomeConflict    = "conflict"
	outcomeForbidden   = "forbidden"
)

// metrics are what the API counts. Every label has a handful of values, none of
// which a client can choose.
type metrics struct {
	requests       *prometheus.HistogramVec // route, class
	checkouts      *prometheus.CounterVec   // outcome
	callbacks      *prometheus.CounterVec   // outcome
	replenishments prometheus.Counter
	ambiguous      *prometheus.CounterVec // operation, found
	retries        *prometheus.CounterVec // reason
	panics         prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, pool *pgxpool.Pool) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "restock_api_" + name, Help: help}, labels)
	}
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "restock_api_request_seconds",
			Help:    "Time to answer a request, by route and class of status.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "class"}),
		checkouts:      counter("checkouts_total", "Checkouts by outcome.", "outcome"),
		callbacks:      counter("callbacks_total", "Callbacks of the factory by outcome; conflict is another count than the one delivered.", "outcome"),
		replenishments: prometheus.NewCounter(prometheus.CounterOpts{Name: "restock_api_replenishments_opened_total", Help: "Replenishments that failed checkouts opened."}),
		ambiguous:      counter("ambiguous_commits_total", "Commits that got no answer, and whether a look-up found what they wrote.", "operation", "found"),
		retries:        counter("retries_total", "Transactions run again after a definite rollback, by reason.", "reason"),
		panics:         prometheus.NewCounter(prometheus.CounterOpts{Name: "restock_api_panics_total", Help: "Handlers that panicked."}),
	}
	all := append([]prometheus.Collector{m.requests, m.checkouts, m.callbacks, m.replenishments, m.ambiguous, m.retries, m.panics}, poolMetrics(pool)...)
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func poolMetrics(pool *pgxpool.Pool) []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "restock_api_pool_waits_total", Help: "Times that a request waited for a database connection."},
			func() float64 { return float64(pool.Stat().EmptyAcquireCount()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "restock_api_pool_wait_seconds_total", Help: "Time that requests waited for a database connection."},
			func() float64 { return pool.Stat().EmptyAcquireWaitTime().Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "restock_api_pool_connections", Help: "Database connections in use."},
			func() float64 { return float64(pool.Stat().AcquiredConns()) }),
	}
}

func (m *metrics) observe(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status/100)+"xx").Observe(took.Seconds())
}

// outcomeOf is the label of a request that ended in a problem.
func outcomeOf(p *problem) string {
	switch p.kind {
	case "out-of-stock":
		return outcomeShort
	case "callback-conflict":
		return outcomeConflict
	case "outcome-unknown":
		return outcomeUnsure
	}
	switch {
	case p.status == http.StatusForbidden:
		return outcomeForbidden
	case p.status == http.StatusServiceUnavailable:
		return outcomeUnavailable
	case p.status >= 500:
		return outcomeError
	default:
		return outcomeInvalid
	}
}
