package ops

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ReconcileMetrics are what a Reconciler found last.
type ReconcileMetrics struct {
	missing, seconds, at prometheus.Gauge
	outbox, consumer     map[string]*prometheus.GaugeVec
	failures             prometheus.Counter
}

// NewReconcileMetrics makes and registers them.
func NewReconcileMetrics(reg prometheus.Registerer) *ReconcileMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "restock_reconcile_" + name, Help: help})
		reg.MustRegister(g)
		return g
	}
	vec := func(name, help, label string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "restock_reconcile_" + name, Help: help}, []string{label})
		reg.MustRegister(g)
		return g
	}
	m := &ReconcileMetrics{
		missing: gauge("missing", "Events that are missing: unpublished and unhandled ones together. 0 is well."),
		seconds: gauge("duration_seconds", "How long the last comparison took."),
		at:      gauge("last_success_timestamp_seconds", "When the last comparison ended that could tell."),
		outbox: map[string]*prometheus.GaugeVec{
			"events":      vec("events", "Events in the outbox.", "database"),
			"unpublished": vec("unpublished", "Events past the grace that are neither published nor parked.", "database"),
			"parked":      vec("parked", "Events that are parked.", "database"),
		},
		consumer: map[string]*prometheus.GaugeVec{
			"wanted":    vec("wanted", "Events in the outbox that the consumer wants.", "consumer"),
			"unhandled": vec("unhandled", "Events that were published before the grace and of which nothing came.", "consumer"),
			"waiting":   vec("waiting", "Events that were begun and not ended, or are behind such a one.", "consumer"),
			"dead":      vec("dead", "Events that the consumer gave up.", "consumer"),
			"repeated":  vec("repeated", "Events for which a call to the outside succeeded more than once.", "consumer"),
			"uncertain": vec("uncertain", "Events for which a call may have been made more than once.", "consumer"),
		},
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "restock_reconcile_failures_total", Help: "Comparisons that could not tell."}),
	}
	reg.MustRegister(m.failures)
	return m
}

func (m *ReconcileMetrics) set(r Reconciliation) {
	m.missing.Set(float64(r.Missing))
	m.seconds.Set(r.Seconds)
	m.at.Set(float64(time.Now().UnixNano()) / 1e9)
	for _, o := range r.Outboxes {
		for name, n := range map[string]int64{"events": o.Events, "unpublished": o.Unpublished, "parked": o.Parked} {
			m.outbox[name].WithLabelValues(o.Database).Set(float64(n))
		}
	}
	for _, c := range r.Consumers {
		for name, n := range map[string]int64{
			"wanted": c.Wanted, "unhandled": c.Unhandled, "waiting": c.Waiting, "dead": c.Dead, "repeated": c.Repeated, "uncertain": c.Uncertain,
		} {
			m.consumer[name].WithLabelValues(c.Consumer).Set(float64(n))
		}
	}
}

// Tell shows what was found, or counts a comparison that could not tell all.
func (m *ReconcileMetrics) Tell(r Reconciliation, err error) {
	if err != nil || len(r.Unreachable) > 0 {
		m.failures.Inc()
		return
	}
	m.set(r)
}
