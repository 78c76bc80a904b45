package ops

import (
	"fmt"
	"time"
)

// judge says what is not as it should be. It is pure.
func (r *StatusReport) judge(l Limits) {
	r.Concerns = []Concern{}
	for _, relay := range r.Relays {
		relay.judge(l, r.finding(relay.Database))
	}
	for _, q := range r.Queues {
		q.judge(l, r.finding(q.Consumer))
	}
	r.Health = Healthy
	for _, f := range r.Concerns {
		if r.Health == Healthy || f.Health == Unknown {
			r.Health = f.Health
		}
	}
}

// tell adds a finding.
type tell func(health Health, mend, what string, args ...any)

func (r *StatusReport) finding(about string) tell {
	return func(health Health, mend, what string, args ...any) {
		r.Concerns = append(r.Concerns, Concern{Health: health, About: about, What: fmt.Sprintf(what, args...), Mend: mend})
	}
}

func (s RelayStatus) judge(l Limits, found tell) {
	if s.Error != "" {
		found(Unknown, "mend the connection, then restock status", "%s", s.Error)
	}
	if s.State != "" {
		s.judgeSlot(l, found)
	}
	if s.Error == "" {
		s.judgeEvents(l, found)
	}
}

func (s RelayStatus) judgeEvents(l Limits, found tell) {
	lag, quiet := seconds(s.LagSeconds), time.Duration(0)
	if s.QuietSeconds != nil {
		quiet = seconds(*s.QuietSeconds)
	}
	switch {
	case lag < l.Lag:
	case s.State == RelayActive && quiet >= l.Lag:
		found(Degraded, "the relay's log and /progressz say what SNS answers; restock doctor", "the relay is stuck: %d events wait, the oldest for %s, and nothing was recorded for %s",
			s.Unpublished, round(lag), round(quiet))
	default:
		found(Degraded, "restock status --watch shows whether it falls; docs/runbooks.md#restockpublishlag", "publishing is behind: %d events wait, the oldest for %s", s.Unpublished, round(lag))
	}
	if s.ParkedEvents+s.ParkedGroups > 0 {
		from := ""
		if s.Database == CustomersDatabase {
			from = " --outbox customers"
		}
		found(Degraded, fmt.Sprintf("restock parked list%s, then restock parked send --all%s, or restock parked skip", from, from), "%d events and %d groups are parked", s.ParkedEvents, s.ParkedGroups)
	}
	if s.PartitionDays < l.PartitionDays {
		found(Degraded, "the log of any part says why it could not make them; SELECT ensure_partitions() does", "partitions are made for %d days ahead", s.PartitionDays)
	}
	if o := s.Replenishments; o != nil && o.Overdue > 0 {
		found(Degraded, "restock replenishments list, then restock replenishments retry ID --reason WHY, or cancel", "%d replenishments are open for more than %s, the oldest for %s",
			o.Overdue, l.Overdue, round(seconds(o.OldestSeconds)))
	}
}

// judgeSlot judges each slot by itself, and what stands by once.
func (s RelayStatus) judgeSlot(l Limits, found tell) {
	shards := s.Shards
	if len(shards) == 0 {
		shards = []ShardStatus{{Slot: s.Slot, Place: ShardServing, State: s.State, Sweep: s.Sweep, SlotState: s.SlotState, LeftSeconds: s.LeftSeconds}}
	}
	serving, unended := 0, ""
	for _, shard := range shards {
		if shard.Place == ShardServing {
			shard.judge(s.Database, l, s.Standbys, found)
			serving++
			continue
		}
		shard.judgeLeft(l, found)
		unended = shard.Slot
	}
	if unended != "" {
		found(Degraded, fmt.Sprintf("wait for restock shards, or run it again: with %d it gives the change up or ends it, with the other number it goes on", serving),
			"the shards are being changed, and slot %s keeps WAL meanwhile", unended)
	}
}

func (s ShardStatus) judge(database string, l Limits, standbys int, found tell) {
	if s.SlotState == "lost" || s.SlotState == "missing" {
		found(Degraded, "start restock relay on the "+database+" database: it makes a slot and publishes what had gone past it; then restock reconcile", "slot %s is %s", s.Slot, s.SlotState)
	} else {
		s.judgeLeft(l, found)
	}
	switch {
	case s.State == RelaySweeping:
		found(Degraded, "wait: the relay publishes them before it goes on", "events may have gone past the slot: %s", s.Sweep)
	case s.State == RelayActive && s.Sweep != "":
		found(Degraded, "the relay's log says what is refused; wait until it is published or parked", "some events that had gone past the slot are still to be published: %s", s.Sweep)
	case s.State == RelayNone && standbys > 0:
		found(Degraded, "the log of the one that stands by says why it does not take over", "no relay is active on slot %s, and %d stand by", s.Slot, standbys)
	case s.State == RelayNone:
		found(Degraded, "start restock relay on the "+database+" database", "no relay is active on slot %s", s.Slot)
	}
}

func (s ShardStatus) judgeLeft(l Limits, found tell) {
	if s.LeftSeconds != nil && seconds(*s.LeftSeconds) < l.SlotLeft {
		found(Degraded, "find why publishing is behind, or raise max_slot_wal_keep_size", "slot %s will be lost in %s if it does not move", s.Slot, round(seconds(*s.LeftSeconds)))
	}
}

func (q QueueStatus) judge(l Limits, found tell) {
	if q.Error != "" {
		found(Unknown, "mend the connection or the rights that it names, then restock status", "%s", q.Error)
	}
	if q.Dead > 0 {
		found(Degraded, "restock dlq list "+q.Consumer+", then restock dlq redrive --consumer "+q.Consumer, "%d messages are dead", q.Dead)
	}
	if q.OldestSeconds != nil && seconds(*q.OldestSeconds) >= l.Waiting {
		found(Degraded, "the consumer's log and /readyz say why; docs/runbooks.md#restockqueueold", "%d messages wait, one was published %s ago",
			q.Visible+q.InFlight, round(seconds(*q.OldestSeconds)))
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func round(d time.Duration) time.Duration { return d.Round(time.Second) }
