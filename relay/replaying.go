package relay

import (
	"context"
	"time"
)

// replaying carries the replays out, one at a time. All of it is run's.
type replaying struct {
	current *replay
	looking bool
	lookAt  time.Time // when to ask next which replay it is
	loadAt  time.Time // not before then, after a load that failed
	ended   uint64    // replays that are over: what was asked before is out of date
}

// replay takes the replay as far as it can go now.
func (p *pipeline) replay(ctx context.Context, now time.Time) {
	if p.replays == nil || ctx.Err() != nil || !p.holds(now) {
		return
	}
	if !p.replays.looking && !p.replays.lookAt.After(now) {
		p.lookForReplay(ctx, now)
	}
	if r := p.replays.current; r != nil {
		p.feed(r, now)
		p.loadReplay(ctx, r, now)
	}
}

// lookForReplay asks which replay is to be carried out: the next one, or whether the
// present one still is.
func (p *pipeline) lookForReplay(ctx context.Context, now time.Time) {
	s := p.replays
	s.looking, s.lookAt = true, now.Add(lookEvery)
	ended := s.ended
	p.visit(func() func() {
		found, err := p.ledger.nextReplay(ctx)
		return func() {
			s.looking = false
			switch {
			case ctx.Err() != nil:
			case err != nil:
				p.log.Warn().Err(err).Msg("what is to be replayed is not known, trying again")
			case ended != s.ended:
				s.lookAt = time.Time{}
			default:
				p.turn(found)
			}
		}
	})
}

// turn begins the replay that was found, or stops the present one where it is not
// that any more.
func (p *pipeline) turn(found *replay) {
	s := p.replays
	switch {
	case s.current == nil && found != nil:
		s.current = found
		p.log.Info().Stringer("replay_id", found.as.ID).Int64("events", found.events).Int64("done", found.done.upTo).Int("rate", found.rate).
			Str("by", found.by).Msg("replaying")
	case s.current != nil && (found == nil || found.as.ID != s.current.as.ID):
		p.stopReplay(s.current)
	}
}

// stopReplay ends a replay that is cancelled. What is at the publisher is still waited for,
// once: what is refused would be for ever, and all that come after it would wait.
func (p *pipeline) stopReplay(r *replay) {
	p.window.remove(r.drop())
	for _, e := range p.lanes.withdraw(r) {
		p.letGo(e)
	}
	p.endReplay(r)
}

// letGo lets go of an item of a replay that was stopped, for it to go when that is resumed.
func (p *pipeline) letGo(e *entry) {
	e.item.replay.leaves(e)
	p.window.remove(e.memory)
	p.endReplay(e.item.replay)
}

// feed puts items into the lanes, as many as the rate allows.
func (p *pipeline) feed(r *replay, now time.Time) {
	for len(r.ready) > 0 && r.inHand < r.most() {
		e := r.ready[0]
		if !e.item.elsewhere && !r.pace.take(now) {
			return
		}
		r.ready = r.ready[1:]
		r.inHand++
		if e.item.elsewhere {
			p.toRecord(e)
			continue
		}
		if why := r.obstacle(e, p.groups.parked[e.group]); why != nil {
			p.failItem(e, why)
			continue
		}
		p.lanes.push(e)
	}
}

// failItem gives an item up that is in no lane.
func (p *pipeline) failItem(e *entry, why error) {
	e.parked = why
	p.metrics.replayFailed.Inc()
	p.toRecord(e)
}

func (p *pipeline) loadReplay(ctx context.Context, r *replay, now time.Time) {
	n := r.room()
	if n <= 0 || p.replays.loadAt.After(now) {
		return
	}
	r.loading = true
	from := r.loaded
	p.visit(func() func() {
		entries, err := p.ledger.items(ctx, r.as.ID, from, n)
		return func() {
			if err != nil {
				r.loading = false
				p.replays.loadAt = time.Now().Add(lookEvery)
				if ctx.Err() == nil {
					p.log.Warn().Err(err).Stringer("replay_id", r.as.ID).Msg("replaying was interrupted, trying again")
				}
			} else {
				r.take(entries)
				for _, e := range entries {
					p.window.add(e.memory)
				}
			}
			if r.stopped { // while this was under way
				p.window.remove(r.drop())
			}
			p.endReplay(r)
		}
	})
}

// giveUpReplayed gives up the items of a group that has been refused for too long. The
// live events among them go on by themselves.
func (p *pipeline) giveUpReplayed(f failure) {
	r := f.entry.item.replay
	r.refused[f.entry.group] = f.err
	identify(p.log.Error(), f.entry).Err(f.err).Str("group", f.entry.group).Msg("given up: its group was refused for too long; the rest of the replay goes on")
	for _, e := range p.lanes.cut(f.entry) {
		if e.item == nil {
			p.lanes.push(e)
			continue
		}
		p.failItem(e, f.err)
	}
}

// replayed notes that an item is durable.
func (p *pipeline) replayed(r *replay, e *entry) {
	r.leaves(e)
	if e.parked == nil && !e.item.elsewhere {
		p.metrics.replayed.Inc()
	}
	p.endReplay(r)
}

// endReplay forgets a replay that is over.
func (p *pipeline) endReplay(r *replay) {
	if !r.over() || p.replays.current != r {
		return
	}
	p.replays.current = nil
	p.replays.ended++
	p.replays.lookAt = time.Time{} // another may have waited for its turn
	p.log.Info().Stringer("replay_id", r.as.ID).Int64("done", r.done.upTo).Int64("events", r.events).Msg("replay ended")
}

// replayDue is when there is something to do for a replay that nothing else wakes run
// for; false while there is no such time.
func (p *pipeline) replayDue(now time.Time) (due time.Time, ok bool) {
	s := p.replays
	if s == nil || !p.holds(now) {
		return due, false
	}
	note := func(at time.Time) {
		if !ok || at.Before(due) {
			due, ok = at, true
		}
	}
	if !s.looking {
		note(s.lookAt)
	}
	if r := s.current; r != nil {
		if len(r.ready) > 0 && r.inHand < r.most() {
			note(r.pace.due())
		}
		if r.room() > 0 {
			note(s.loadAt)
		}
	}
	return due, ok
}
