package relay

import (
	"context"
	"strings"
	"time"
)

// failure is an entry that was not accepted, and why.
type failure struct {
	entry     *entry
	err       error
	throttled bool
}

// parkOverdue parks the groups whose head has failed for too long while others
// succeeded, and returns the failures of the rest. What fails together with others,
// because calls fail as a whole, is tried alone before. What was asked for, a release or a
// replay, ends also where there are no others: whoever asked waits for it.
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
		t := f.entry.trouble
		t.noteRefusal(now, !whole && !f.throttled)
		if due && (!whole || len(failed) == 1) && p.holds(now) {
			if f.entry.item != nil {
				p.giveUpReplayed(f)
			} else {
				p.parkGroup(f)
			}
			continue
		}
		if f.entry.beside() && t.refusedFor(p.holdAfter, now) && p.lanes.suspectedBut(f.entry) && p.holds(now) {
			p.giveUpAlone(f)
			continue
		}
		if r := f.entry.release; r != nil {
			r.standing = refused
		}
		if t.whole++; !whole {
			t.whole = 0
		}
		t.alone = due || t.whole >= probeAfter && f.entry.suspected()
		again = append(again, f)
	}
	return again
}

// giveUpAlone ends what was asked for and is refused for too long while nothing else would
// tell that from an outage. An event that is sent by itself is parked by itself again: what
// comes of its group has not been tried.
func (p *pipeline) giveUpAlone(f failure) {
	switch e := f.entry; {
	case e.item != nil:
		p.giveUpReplayed(f)
	case e.release.whole:
		p.parkGroup(f)
	default:
		p.park(e, f.err)
	}
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
		Msg("group parked: it was refused for too long; its events wait in order until they are released")
}

// parkHeld parks an event of a parked group, which is in no lane.
func (p *pipeline) parkHeld(e *entry, g *parkedGroup) {
	e.parked, e.reason = g.behind, reasonHeld
	if e.release == nil {
		g.parked++
		p.metrics.parked.Inc()
	}
	p.toRecord(e)
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
