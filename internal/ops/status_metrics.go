package ops

import (
	"math"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector shows the latest look as metrics. What could not be asked is left out, so
// that no old value passes for a new one.
func (s *Status) Collector() prometheus.Collector { return &s.latest }

type statusCollector struct{ latest atomic.Pointer[StatusReport] }

func (c *statusCollector) store(r *StatusReport) { c.latest.Store(r) }

func statusDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("restock_status_"+name, help, labels, nil)
}

var (
	statusLooked = statusDesc("looked_timestamp_seconds", "When restock status looked last, in Unix time.")
	statusKnown  = statusDesc("known", "1 where the last look could ask all of a database or a queue, else 0.", "about")
)

// gauge is one metric of a look.
type gauge[T any] struct {
	desc  *prometheus.Desc
	value func(T) float64
}

// slotGauges are of what is asked first: they are there also where the rest could not be
// asked, because nobody is called while nobody relays but by them.
var slotGauges = []gauge[RelayStatus]{
	{statusDesc("relay_active", "1 while a relay streams or sweeps, else 0.", "database"), func(r RelayStatus) float64 {
		if r.State == RelayActive || r.State == RelaySweeping {
			return 1
		}
		return 0
	}},
	{statusDesc("relay_standbys", "Relays that stand by.", "database"), func(r RelayStatus) float64 { return float64(r.Standbys) }},
	{statusDesc("slot_lag_bytes", "WAL that the slot has not confirmed.", "database"), func(r RelayStatus) float64 { return float64(r.LagBytes) }},
	{statusDesc("slot_retained_bytes", "WAL that is kept for the slot.", "database"), func(r RelayStatus) float64 { return float64(r.RetainedBytes) }},
	{statusDesc("slot_left_seconds", "Time until the slot is lost if it moves no more, at the present rate of WAL; +Inf where nothing bounds it.", "database"),
		func(r RelayStatus) float64 {
			if r.LeftSeconds == nil {
				return math.Inf(1)
			}
			return *r.LeftSeconds
		}},
}

var relayGauges = []gauge[RelayStatus]{
	{statusDesc("publish_lag_seconds", "Age of the oldest event that is committed and neither published nor parked; 0 where there is none.", "database"),
		func(r RelayStatus) float64 { return r.LagSeconds }},
	{statusDesc("unpublished_events", "Events that are committed and neither published nor parked.", "database"), func(r RelayStatus) float64 { return float64(r.Unpublished) }},
	{statusDesc("parked_events", "Events that are parked, those being sent included.", "database"), func(r RelayStatus) float64 { return float64(r.ParkedEvents) }},
	{statusDesc("parked_groups", "Message groups that are parked, those being sent included.", "database"), func(r RelayStatus) float64 { return float64(r.ParkedGroups) }},
	{statusDesc("partitions_ahead", "Daily partitions of the outbox from tomorrow on.", "database"), func(r RelayStatus) float64 { return float64(r.PartitionDays) }},
}

var replenishmentGauges = []gauge[ReplenishmentStatus]{
	{statusDesc("replenishments_open", "Replenishments that are requested or accepted."), func(r ReplenishmentStatus) float64 { return float64(r.Open) }},
	{statusDesc("replenishments_overdue", "Replenishments that are open for too long."), func(r ReplenishmentStatus) float64 { return float64(r.Overdue) }},
}

var queueGauges = []gauge[QueueStatus]{
	{statusDesc("queue_visible", "Messages that wait in the queue, about.", "consumer"), func(q QueueStatus) float64 { return float64(q.Visible) }},
	{statusDesc("queue_in_flight", "Messages that were received and are neither deleted nor back, about.", "consumer"), func(q QueueStatus) float64 { return float64(q.InFlight) }},
	{statusDesc("queue_oldest_seconds", "Since when the oldest event that seems to be in the queue has been published, by ledger and inbox; 0 where there is none.", "consumer"),
		func(q QueueStatus) float64 {
			if q.OldestSeconds == nil {
				return 0
			}
			return *q.OldestSeconds
		}},
	{statusDesc("dead_letters", "Messages in both dead-letter queues, about.", "consumer"), func(q QueueStatus) float64 { return float64(q.Dead) }},
	{statusDesc("failing_events", "Events of the last two days that failed and are to be tried again.", "consumer"), func(q QueueStatus) float64 { return float64(q.Failing) }},
}

// Describe is of prometheus.Collector.
func (c *statusCollector) Describe(to chan<- *prometheus.Desc) {
	to <- statusLooked
	to <- statusKnown
	for _, g := range slices.Concat(slotGauges, relayGauges) {
		to <- g.desc
	}
	for _, g := range replenishmentGauges {
		to <- g.desc
	}
	for _, g := range queueGauges {
		to <- g.desc
	}
}

// Collect is of prometheus.Collector.
func (c *statusCollector) Collect(to chan<- prometheus.Metric) {
	r := c.latest.Load()
	if r == nil {
		return
	}
	send := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	known := func(about, trouble string) bool {
		if trouble == "" {
			send(statusKnown, 1, about)
			return true
		}
		send(statusKnown, 0, about)
		return false
	}
	send(statusLooked, float64(r.At.UnixMilli())/1000)
	for _, relay := range r.Relays {
		if relay.State != "" {
			for _, g := range slotGauges {
				send(g.desc, g.value(relay), relay.Database)
			}
		}
		if !known(relay.Database, relay.Error) {
			continue
		}
		for _, g := range relayGauges {
			send(g.desc, g.value(relay), relay.Database)
		}
		if relay.Replenishments != nil {
			for _, g := range replenishmentGauges {
				send(g.desc, g.value(*relay.Replenishments))
			}
		}
	}
	for _, q := range r.Queues {
		if !known(q.Consumer, q.Error) {
			continue
		}
		for _, g := range queueGauges {
			send(g.desc, g.value(q), q.Consumer)
		}
	}
}
