package api

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/restock-dev/restock/internal/service"
)

// Outcomes of a checkout and of a callback, as labels.
const (
	outcomeBought      = "bought"
	outcomeShort       = "short"
	outcomeInvalid     = "invalid"
	outcomeUnavailable = "unavailable"
	outcomeOverloaded  = "overloaded"
	outcomeUnsure      = "unknown"
	outcomeGone        = "gone"
	outcomeInProgress  = "in-progress"
	outcomeError       = "error"
	outcomeDelivered   = "delivered"
	outcomeRepeated    = "repeated"
	outcomeConflict    = "conflict"
	outcomeForbidden   = "forbidden"
)

// metrics are what the API counts. Every label has a handful of values, none of
// which a client can choose.
type metrics struct {
	requests       *prometheus.HistogramVec // route, method, class
	checkouts      *prometheus.CounterVec   // outcome
	keys           *prometheus.CounterVec   // outcome
	batch          prometheus.Histogram
	wait           prometheus.Histogram
	splits         prometheus.Counter
	callbacks      *prometheus.CounterVec // outcome
	replenishments prometheus.Counter
	ambiguous      *prometheus.CounterVec // operation, found
	retries        *prometheus.CounterVec // reason
	panics         prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, pool *pgxpool.Pool, c *committer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "restock_api_" + name, Help: help}, labels)
	}
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "restock_api_request_seconds",
			Help:    "Time to answer a request, by route, method and class of status.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method", "class"}),
		checkouts: counter("checkouts_total", "Checkouts by outcome.", "outcome"),
		keys:      counter("idempotency_keys_total", "Requests with an Idempotency-Key: new, repeated (answered as before), key-reused (for another request), request-in-progress.", "outcome"),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "restock_api_checkout_batch", Help: "Checkouts decided in one transaction.", Buckets: []float64{1, 2, 4, 8, 16, 32, 64, maxBatch},
		}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "restock_api_checkout_wait_seconds", Help: "Time that a checkout waited to be taken into a transaction.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
		splits:         prometheus.NewCounter(prometheus.CounterOpts{Name: "restock_api_checkout_batches_split_total", Help: "Batches that were rolled back, after which their checkouts were decided one by one."}),
		callbacks:      counter("callbacks_total", "Callbacks of the factory by outcome; conflict is another count than the one delivered.", "outcome"),
		replenishments: prometheus.NewCounter(prometheus.CounterOpts{Name: "restock_api_replenishments_opened_total", Help: "Replenishments that failed checkouts opened."}),
		ambiguous:      counter("ambiguous_commits_total", "Commits that got no answer, and whether a look-up found what they wrote.", "operation", "found"),
		retries:        counter("retries_total", "Transactions run again after a definite rollback, by reason.", "reason"),
		panics:         prometheus.NewCounter(prometheus.CounterOpts{Name: "restock_api_panics_total", Help: "Handlers that panicked."}),
	}
	queue := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "restock_api_checkout_queue", Help: "Checkouts that wait to be taken."}, func() float64 { return float64(len(c.queue)) })
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "restock_api_products_held", Help: "Products that another transaction has locked, whose checkouts wait by themselves."}, func() float64 { return float64(c.held.Load()) })
	all := append([]prometheus.Collector{m.requests, m.checkouts, m.keys, queue, held, m.batch, m.wait, m.splits, m.callbacks, m.replenishments, m.ambiguous, m.retries, m.panics}, service.PoolMetrics("api", pool)...)
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	m.show()
	return m, nil
}

// show makes the series of every label value that is known beforehand, at 0: a series
// that begins with its first event hides that event from increase().
func (m *metrics) show() {
	for _, outcome := range []string{outcomeBought, outcomeShort, outcomeRepeated, outcomeInProgress, outcomeInvalid, outcomeUnavailable, outcomeOverloaded, outcomeUnsure, outcomeGone, outcomeError} {
		m.checkouts.WithLabelValues(outcome)
	}
	for _, outcome := range []string{outcomeDelivered, outcomeRepeated, outcomeConflict, outcomeForbidden, outcomeInvalid, outcomeUnavailable, outcomeUnsure, outcomeGone, outcomeError} {
		m.callbacks.WithLabelValues(outcome)
	}
	for _, outcome := range []string{"new", outcomeRepeated, kindKeyReused, kindInProgress} {
		m.keys.WithLabelValues(outcome)
	}
	for _, reason := range []string{retryDeadlock, retrySerialization, retryConnection, retryPartition} {
		m.retries.WithLabelValues(reason)
	}
	for _, operation := range []string{"checkout", "callback", "replenishment"} {
		m.ambiguous.WithLabelValues(operation, "yes")
		m.ambiguous.WithLabelValues(operation, "no")
	}
}

func (m *metrics) observe(route, method string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		method = "other" // the client's own invention
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status/100)+"xx").Observe(took.Seconds())
}

// outcomeOf is the label of a request that ended in a problem.
func outcomeOf(p *problem) string {
	switch p.kind {
	case kindOutOfStock:
		return outcomeShort
	case kindInProgress:
		return outcomeInProgress
	case kindOverloaded:
		return outcomeOverloaded
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
