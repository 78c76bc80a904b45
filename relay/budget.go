package relay

import (
	"math"
	"time"

	"github.com/jackc/pglogrepl"
)

// slotSample is what the server says of the slot and its WAL at one moment.
type slotSample struct {
	at        time.Time
	wal       pglogrepl.LSN // where the server writes
	restart   pglogrepl.LSN // from where on it keeps WAL for the slot
	confirmed pglogrepl.LSN
	safe      *int64 // bytes that may be written until the slot is in danger; nil where nothing bounds it
	status    string // of its WAL: reserved, extended, unreserved, lost
}

// outlook is how long the slot can last if it moves no more.
type outlook struct {
	retained int64         // bytes of WAL that are kept for it
	lag      int64         // bytes of WAL that it has not confirmed
	rate     float64       // bytes of WAL a second
	bytes    float64       // that may still be written; infinite where nothing bounds it
	left     time.Duration // until it is lost; forever where that will not happen
}

// forever is an outlook that does not end.
const forever = time.Duration(math.MaxInt64)

// walBudget foresees the slot's end. It is pure and for one goroutine.
type walBudget struct {
	bytes int64 // that the operator grants where the server grants any number; 0 is any number
	last  slotSample
	rate  float64
	known bool // rate is measured
}

// rateOver is the time over which the rate of WAL is averaged: longer than a burst
// and a checkpoint's full pages, shorter than a change of the day's load.
const rateOver = 5 * time.Minute

func (b *walBudget) add(s slotSample) outlook {
	b.measure(s)
	o := outlook{retained: behind(s.wal, s.restart), lag: behind(s.wal, s.confirmed), rate: b.rate, bytes: math.Inf(1), left: forever}
	switch {
	case s.status == "lost":
		o.bytes = 0
	case s.safe != nil:
		o.bytes = float64(max(0, *s.safe))
	case b.bytes > 0:
		o.bytes = float64(max(0, b.bytes-o.retained))
	}
	if o.bytes == 0 {
		o.left = 0
	} else if seconds := o.bytes / b.rate; seconds < forever.Seconds() { // not where rate is 0
		o.left = time.Duration(seconds * float64(time.Second))
	}
	return o
}

// measure averages the rate, with newer samples weighing more. Positions that go
// back are another server's.
func (b *walBudget) measure(s slotSample) {
	was := b.last
	b.last = s
	elapsed := s.at.Sub(was.at).Seconds()
	if was.at.IsZero() || elapsed <= 0 {
		return
	}
	if s.wal < was.wal {
		b.rate, b.known = 0, false
		return
	}
	rate, weight := float64(s.wal-was.wal)/elapsed, 1.0
	if b.known {
		weight = 1 - math.Exp(-elapsed/rateOver.Seconds())
	}
	b.rate += weight * (rate - b.rate)
	b.known = true
}

func behind(wal, lsn pglogrepl.LSN) int64 {
	if lsn == 0 || lsn > wal { // the slot has no position, or the two were read a moment apart
		return 0
	}
	return int64(wal - lsn)
}

// danger is how near the slot's end is.
type danger int

const (
	safe danger = iota
	nearing
	imminent
)

// alarm decides when the operator is told: when the danger grows, when it is over,
// and while it lasts each time that the time left has halved.
type alarm struct {
	warnBefore, alarmBefore time.Duration
	told                    danger
	toldLeft                time.Duration
}

// judge returns the danger, and whether to tell it.
func (a *alarm) judge(left time.Duration) (danger, bool) {
	now := safe
	switch {
	case left <= a.alarmBefore:
		now = imminent
	case left <= a.warnBefore:
		now = nearing
	}
	tell := now > a.told || now == safe && a.told != safe || now != safe && left < a.toldLeft/2
	if tell {
		a.told, a.toldLeft = now, left
	}
	return now, tell
}
