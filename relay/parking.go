package relay

import (
	"context"
	"strings"
	"time"
)

// failure is an entry that was not accepted, and why.
type failure struct {
	entry *entry
	err   error
}

// parkOverdue parks the groups whose head has failed for too long while others
// succeeded, and returns the failures of the rest. What fails together with others,
// because calls fail as a whole, is tried alone before.
func (p *pipeline) parkOverdue(call uint64, failed []failure, whole bool, now time.Time) []failure {
	p.witness.saw(call, failed)
	var again []failure
	for _, f := range failed {
		if item := f.entry.item; item != nil && item.replay.stopped {
			p.lanes.done(f.entry)
			p.letGo(f.entry)
			continue
		}
		due := p.witness.judge(f.entry, call, now, p.holdAfter, p.window.waiting.Load())
		if due && (!whole || len(failed) == 1) && p.holds(now) {
			if f.entry.item != nil {
				p.giveUpReplayed(f)
			} else {
				p.parkGroup(f)
			}
			continue
		}
		t := f.entry.trouble
		if t.whole++; !whole {
			t.whole = 0
		}
		t.alone = due || t.whole >= probeAfter && f.entry.suspected()
		again = append(again, f)
	}
	return again
}

// parkGroup parks an entry in flight and all that waits behind it.
func (p *pipeline) parkGroup(f failure) {
	e := f.entry
	g := p.groups.park(e.group, e.id, f.err.Error())
	line := identify(p.log.Error(), e).Err(f.err).Str("group", e.group).Time("failing_since", e.trouble.first)
	cut := p.lanes.cut(e)
	for _, behind := range cut {
		if behind.item != nil {
			p.failItem(behind, g.behind)
			continue
		}
		p.parkHeld(behind, g)
	}
	e.parked, e.trouble.parks = f.err, true
	p.parking++
	p.changes++
	line.Int("events", len(cut)).Str("release", "restock parked send --group "+shellQuote(e.group)).
		Msg("group parked: it is refused while others are not; its events wait in order until they are released")
}

// parkHeld parks an event of a parked group, which is in no lane.
func (p *pipeline) parkHeld(e *entry, g *parkedGroup) {
	e.parked, e.reason = g.behind, reasonHeld
	if e.release == nil {
		g.parked++
		p.metrics.parked.Inc()
	}
	p.finished = append(p.finished, e)
}

// unpark takes note of an event that is recorded and that parking has to do with.
func (p *pipeline) unpark(ctx context.Context, e *entry) {
	if e.parksGroup() {
		p.parking--
		p.changes++
	}
	r := e.release
	switch {
	case r != nil:
		r.left--
	case e.reason == reasonHeld:
		r = p.groups.recorded(e.group)
	}
	if r != nil {
		p.advance(ctx, r)
	}
}

// shellQuote is s as one word of a shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
