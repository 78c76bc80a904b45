package relay

import (
	"fmt"
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// metrics are the relay's, each with the label slot.
type metrics struct {
	slot           string
	hidden         error // why they are not registered
	unregister     func()
	active         prometheus.Gauge
	read           prometheus.Counter
	skipped        prometheus.Counter
	foreign        prometheus.Counter
	published      prometheus.Counter
	parked         prometheus.Counter
	released       prometheus.Counter
	replayed       prometheus.Counter
	replayFailed   prometheus.Counter
	parkedGroups   prometheus.Gauge
	callFailures   prometheus.Counter
	entryFailures  prometheus.Counter
	ledgerFailures prometheus.Counter
	sessions       prometheus.Counter
	sweeps         prometheus.Counter
	swept          prometheus.Counter
	confirmed      prometheus.Gauge
	slotRetained   prometheus.Gauge
	slotLag        prometheus.Gauge
	slotBytesLeft  prometheus.Gauge
	slotLeft       prometheus.Gauge
	batchEntries   prometheus.Histogram
	publishSeconds prometheus.Histogram
	ledgerSeconds  prometheus.Histogram
}

// newMetrics registers them. Where they cannot be, because another relay of the name has
// the same registry, they are counted all the same, and nobody sees them.
func newMetrics(cfg Config, r *Relay) *metrics {
	reg := &registered{Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"slot": cfg.Slot}, cfg.Metrics)}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "restock_relay_" + name, Help: help})
		reg.add(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "restock_relay_" + name, Help: help})
		reg.add(g)
		return g
	}
	gaugeFunc := func(name, help string, f func() float64) {
		reg.add(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "restock_relay_" + name, Help: help}, f))
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "restock_relay_" + name, Help: help, Buckets: buckets})
		reg.add(h)
		return h
	}
	gaugeFunc("publish_lag_seconds", "Age of the oldest commit with an event not yet published or parked; 0 when there is none.",
		func() float64 { return r.PublishLag().Seconds() })
	gaugeFunc("read_lag_seconds", "How far reading is behind the database, by the heartbeat.",
		func() float64 { return r.readLag().Seconds() })
	gaugeFunc("stalled_seconds", "How long nothing was recorded or confirmed although events wait, or the database could not be streamed from; 0 while idle or standing by.",
		func() float64 { return r.stand().stalled().Seconds() })
	gaugeFunc("window_bytes", "Memory of the events between being read and being recorded.", func() float64 {
		if s := r.current.Load(); s != nil {
			return float64(s.window.bytes())
		}
		return 0
	})
	reg.add(service.PoolMetrics("relay", r.pool)...)
	seconds := prometheus.ExponentialBuckets(0.0005, 2, 15)
	m := &metrics{
		slot: cfg.Slot, unregister: reg.unregister,
		active:         gauge("active", "1 while this relay holds the slot and streams, else 0."),
		read:           counter("events_read_total", "Events read from the stream, repeats included."),
		skipped:        counter("events_skipped_total", "Events read again that the ledger held already, or that a sweep had taken up."),
		foreign:        counter("messages_foreign_total", "Logical messages of others in the stream."),
		published:      counter("events_published_total", "Events that SNS accepted."),
		parked:         counter("events_parked_total", "Events parked: impossible to publish, or of a parked group."),
		released:       counter("events_released_total", "Events that had been parked and that SNS accepted after all."),
		replayed:       counter("events_replayed_total", "Events of replays that SNS accepted and that are recorded."),
		replayFailed:   counter("replay_failures_total", "Events of replays that were given up: each has its error in replay_items."),
		parkedGroups:   gauge("parked_groups", "Message groups that are parked, those being released included."),
		callFailures:   counter("publish_failures_total", "Calls to SNS that failed as a whole."),
		entryFailures:  counter("entry_failures_total", "Entries that SNS refused for now."),
		ledgerFailures: counter("ledger_failures_total", "Writes of the ledger that failed."),
		sessions:       counter("sessions_total", "Times that streaming began."),
		sweeps:         counter("sweeps_total", "Times that the outbox was swept for events that had gone past the slot."),
		swept:          counter("events_swept_total", "Events that a sweep found missing in the ledger."),
		confirmed:      gauge("confirmed_lsn", "Position last confirmed to Postgres, in bytes."),
		slotRetained:   gauge("slot_retained_bytes", "WAL that is kept for the slot, from its restart position on."),
		slotLag:        gauge("slot_lag_bytes", "WAL that the slot has not confirmed."),
		slotBytesLeft:  gauge("slot_left_bytes", "WAL that may be written until the slot is lost; +Inf where nothing bounds it."),
		slotLeft:       gauge("slot_left_seconds", "Time until the slot is lost if it moves no more, at the present rate of WAL; +Inf where nothing bounds it."),
		batchEntries:   histogram("batch_entries", "Events in a call to SNS.", prometheus.LinearBuckets(1, 1, 10)),
		publishSeconds: histogram("publish_seconds", "Time of a call to SNS.", seconds),
		ledgerSeconds:  histogram("ledger_seconds", "Time of a write of the ledger.", seconds),
	}
	if reg.err != nil {
		reg.unregister()
		m.hidden = fmt.Errorf("register the metrics of slot %s: %w", cfg.Slot, reg.err)
	}
	return m
}

// registered remembers what was registered, so that it can be taken back, and what could
// not be.
type registered struct {
	prometheus.Registerer
	all []prometheus.Collector
	err error
}

func (r *registered) add(all ...prometheus.Collector) {
	for _, c := range all {
		if err := r.Register(c); err != nil {
			r.err = err
			continue
		}
		r.all = append(r.all, c)
	}
}

func (r *registered) unregister() {
	for _, c := range r.all {
		r.Unregister(c)
	}
	r.all = nil // one of the same name may be another's by now
}

func (m *metrics) showSlot(o schema.SlotOutlook) {
	m.slotRetained.Set(float64(o.Retained))
	m.slotLag.Set(float64(o.Lag))
	m.slotBytesLeft.Set(o.Bytes)
	m.slotLeft.Set(o.Left.Seconds())
	if o.Left == schema.Forever {
		m.slotLeft.Set(math.Inf(1))
	}
}
