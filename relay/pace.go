package relay

import "time"

// pace says when the next event of a replay may go, so that they go at a rate. Time
// that was not used is lost but for a little, so that what waited does not come all
// at once. It is pure.
type pace struct {
	every time.Duration // between two events; 0 is no limit
	next  time.Time     // when one may go
}

const (
	// paceBurst is how much unused time is made up for.
	paceBurst = 100 * time.Millisecond
	// paceGrain is how often events are let go: some at a time rather than one by one.
	paceGrain = 20 * time.Millisecond
)

func newPace(rate int) pace {
	if rate == 0 {
		return pace{}
	}
	return pace{every: time.Second / time.Duration(rate)}
}

// take tells whether an event may go, and counts it.
func (p *pace) take(now time.Time) bool {
	switch {
	case p.every == 0:
		return true
	case p.next.IsZero():
		p.next = now
	}
	if p.next.After(now) {
		return false
	}
	if late := now.Add(-paceBurst); p.next.Before(late) {
		p.next = late
	}
	p.next = p.next.Add(p.every)
	return true
}

// due is when to ask again after a no.
func (p *pace) due() time.Time { return p.next.Add(min(p.every, paceGrain)) }
