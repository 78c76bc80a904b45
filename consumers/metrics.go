package consumers

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/restock-dev/restock/schema"
)

// metrics are one worker's. Each carries the label consumer.
type metrics struct {
	messages      *prometheus.CounterVec // by result
	attempts      prometheus.Counter
	uncertain     prometheus.Counter
	handleSeconds prometheus.Histogram
	inversions    *prometheus.CounterVec // by type
	circuit       prometheus.Gauge
	inboxUp       prometheus.Gauge
	inFlight      prometheus.Gauge
	polls         prometheus.Gauge
	receives      *prometheus.CounterVec // by result
	received      prometheus.Counter
	renewals      *prometheus.CounterVec // by result
	deletes       *prometheus.CounterVec // by result
	deadLetters   *prometheus.CounterVec // by result
}

// newMetrics registers the metrics of one consumer; a nil registerer keeps them
// unseen.
func newMetrics(in schema.Interest, to prometheus.Registerer, p *progress) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "restock", Subsystem: "consumer", Name: name, Help: help}, labels)
	}
	plain := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "restock", Subsystem: "consumer", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "restock", Subsystem: "consumer", Name: name, Help: help})
	}
	m := &metrics{
		messages: counter("messages_total",
			"Messages by what became of them: handled, duplicate, unwanted, dead (acknowledged), failed, busy, deferred (put back).", "result"),
		attempts:  plain("attempts_total", "Attempts that counted."),
		uncertain: plain("repeated_uncertain_total", "Attempts repeated although the call before may have been accepted."),
		received:  plain("received_total", "Messages received."),
		handleSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "restock", Subsystem: "consumer", Name: "handle_seconds",
			Help:    "Time in the handler, each attempt.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12),
		}),
		inversions: counter("sequence_inversions_total",
			"Events handled after a later one of their group. Groups that no row lock orders, as those of order.placed, may show some without a fault.", "type"),
		circuit:  gauge("circuit_state", "Circuit to the other side: 0 closed, 1 half-open, 2 open."),
		inboxUp:  gauge("inbox_up", "Whether the inbox database answered last: 1 or 0."),
		inFlight: gauge("in_flight", "Messages in hand."),
		polls:    gauge("polls", "Receives under way."),
		receives: counter("receives_total", "Polls of the queue: messages, empty, error.", "result"),
		renewals: counter("renewals_total", "Renewals of a message's visibility: ok, error.", "result"),
		deletes:  counter("deletes_total", "Deletions of messages: ok, error (retried), lost (given up: seen again as a duplicate).", "result"),
		deadLetters: counter("dead_letters_total",
			"Messages sent to the dead-letter queue, repeats included: ok, error.", "result"),
	}
	all := []prometheus.Collector{
		m.messages, m.attempts, m.uncertain, m.handleSeconds, m.inversions, m.circuit, m.inboxUp, m.inFlight, m.polls,
		m.receives, m.received, m.renewals, m.deletes, m.deadLetters,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "restock", Subsystem: "consumer", Name: "stalled_seconds",
			Help: "For how long messages have been in hand without an attempt that ended; 0 while there are none."},
			func() float64 { return p.stalled().Seconds() }),
	}
	m.show(in.Types)
	if to == nil {
		return m, nil
	}
	to = prometheus.WrapRegistererWith(prometheus.Labels{"consumer": in.Consumer}, to)
	for _, c := range all {
		if err := to.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of consumer %s: %w", in.Consumer, err)
		}
	}
	return m, nil
}

// show makes the series of every label value that is known beforehand, at 0: a series
// that begins with its first event hides that event from increase().
func (m *metrics) show(wanted []string) {
	for _, v := range []verdict{handled, duplicate, unwanted, dead, failed, busy, deferred} {
		m.messages.WithLabelValues(string(v))
	}
	for vec, results := range map[*prometheus.CounterVec][]string{
		m.receives: {"messages", "empty", "error"}, m.renewals: {"ok", "error"}, m.deletes: {"ok", "error", "lost"}, m.deadLetters: {"ok", "error"},
	} {
		for _, result := range results {
			vec.WithLabelValues(result)
		}
	}
	for _, eventType := range wanted {
		m.inversions.WithLabelValues(eventType)
	}
}
