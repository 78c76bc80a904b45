package schema

import (
	"math"
	"time"
)

// SlotSample is what the server says of a slot and its WAL at one moment. Positions are
// bytes of WAL, 0 where the slot has none.
type SlotSample struct {
	At        time.Time
	WAL       int64  // where the server writes
	Restart   int64  // from where on it keeps WAL for the slot
	Confirmed int64  // up to where the slot's reader has confirmed
	Safe      *int64 // bytes that may be written until the slot is in danger; nil where nothing bounds it
	Status    string // of its WAL: reserved, extended, unreserved, lost; missing where there is no slot
}

// SlotOutlook is how long a slot can last if it moves no more.
type SlotOutlook struct {
	Retained int64         // bytes of WAL that are kept for it
	Lag      int64         // bytes of WAL that it has not confirmed
	Rate     float64       // bytes of WAL a second
	Bytes    float64       // that may still be written; infinite where nothing bounds it
	Left     time.Duration // until it is lost; Forever where that will not happen
}

// Forever is the time left of a slot that is not lost.
const Forever = time.Duration(math.MaxInt64)

// WALBudget foresees a slot's end, for its relay and for whoever looks from outside. The
// zero value has measured nothing. It is pure and for one goroutine.
type WALBudget struct {
	// Bytes are what the operator grants where the server grants any number. 0 is any number.
	Bytes int64

	at    time.Time // of the last measurement
	wal   int64
	rate  float64
	known bool // rate is measured
}

// rateOver is the time over which the rate of WAL is averaged: longer than a burst
// and a checkpoint's full pages, shorter than a change of the day's load.
const rateOver = 5 * time.Minute

// Foresee takes a sample, the newest so far, into account.
func (b *WALBudget) Foresee(s SlotSample) SlotOutlook {
	b.Measure(s.At, s.WAL)
	o := SlotOutlook{Retained: behind(s.WAL, s.Restart), Lag: behind(s.WAL, s.Confirmed), Rate: b.rate, Bytes: math.Inf(1), Left: Forever}
	switch {
	case s.Status == "lost":
		o.Bytes = 0
	case s.Status == "missing": // there is nothing to lose
	case s.Safe != nil:
		o.Bytes = float64(max(0, *s.Safe))
	case b.Bytes > 0:
		o.Bytes = float64(max(0, b.Bytes-o.Retained))
	}
	if o.Bytes == 0 {
		o.Left = 0
	} else if seconds := o.Bytes / b.rate; seconds < Forever.Seconds() { // not where rate is 0
		o.Left = time.Duration(seconds * float64(time.Second))
	}
	return o
}

// Measure notes where WAL was written at a moment. The rate is an average in which newer
// measurements weigh more. Positions that go back are another server's: it begins anew.
func (b *WALBudget) Measure(at time.Time, wal int64) {
	before, elapsed := b.wal, at.Sub(b.at).Seconds()
	first := b.at.IsZero()
	b.at, b.wal = at, wal
	if first || elapsed <= 0 {
		return
	}
	if wal < before {
		b.rate, b.known = 0, false
		return
	}
	rate, weight := float64(wal-before)/elapsed, 1.0
	if b.known {
		weight = 1 - math.Exp(-elapsed/rateOver.Seconds())
	}
	b.rate += weight * (rate - b.rate)
	b.known = true
}

func behind(wal, position int64) int64 {
	if position == 0 || position > wal { // the slot has no position, or the two were read a moment apart
		return 0
	}
	return wal - position
}
