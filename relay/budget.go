package relay

import "time"

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
