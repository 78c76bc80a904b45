package relay

import (
	"context"
	"time"
)

// lookEvery is how often the database is asked what is to be released.
const lookEvery = time.Second

// visit runs what the database is asked beside the ledger in a goroutine of its
// own, and what it returns in run's.
func (p *pipeline) visit(ask func() (then func())) {
	p.visits++
	go func() { p.visited <- ask() }()
}

// nextLook is when to ask next what is to be released; false while that is not
// known. A group that was just parked still reads as one that is to be sent, until
// that is recorded.
func (p *pipeline) nextLook() (time.Time, bool) {
	return p.lookAt, !p.looking && p.parking == 0
}

// look asks what is to be released, if it is time to.
func (p *pipeline) look(ctx context.Context, now time.Time) {
	if at, ok := p.nextLook(); !ok || at.After(now) {
		return
	}
	p.looking, p.lookAt = true, now.Add(lookEvery)
	changes, after := p.changes, p.lookUpTo
	p.visit(func() func() {
		all, err := p.ledger.asked(ctx, after)
		return func() {
			p.looking = false
			switch {
			case ctx.Err() != nil:
			case err != nil:
				p.log.Warn().Err(err).Msg("what is to be released is not known, trying again")
			case changes != p.changes:
				p.lookAt = now // what was read may have been true before the change only
			default:
				p.beginReleases(ctx, all)
			}
		}
	})
}

func (p *pipeline) beginReleases(ctx context.Context, all []asked) {
	for _, a := range all {
		if r := p.groups.ask(a.Group, a.Whole); r != nil {
			p.lookUpTo = a.Group
			p.advance(ctx, r)
		}
	}
}

// advance does what a release needs now.
func (p *pipeline) advance(ctx context.Context, r *release) {
	if ctx.Err() != nil {
		return
	}
	switch p.groups.next(r) {
	case stepWait:
	case stepLoad:
		before, most := p.groups.load(r)
		whole := r.whole
		p.visit(func() func() {
			entries, more, err := p.ledger.load(ctx, r, whole, most)
			return func() { p.loaded(ctx, r, before, entries, more, err) }
		})
	case stepEnd:
		p.endRelease(ctx, r)
	}
}

// loaded puts what was loaded of a release into the lanes.
func (p *pipeline) loaded(ctx context.Context, r *release, before parkedGroup, entries []*entry, more bool, err error) {
	switch {
	case !p.groups.current(r): // its group was parked meanwhile
		return
	case err != nil:
		p.abandon(ctx, r, err)
		return
	}
	p.groups.loaded(r, before, len(entries), more)
	for _, e := range entries {
		p.window.add(e.memory)
		p.lanes.push(e)
	}
	p.advance(ctx, r)
}

// endRelease forgets a release; its group is unparked for good if it was the whole
// of it.
func (p *pipeline) endRelease(ctx context.Context, r *release) {
	if !r.whole {
		p.released(r)
		return
	}
	r.busy = true
	p.visit(func() func() {
		err := p.ledger.endRelease(ctx, r.group)
		return func() {
			if err != nil {
				p.abandon(ctx, r, err)
				return
			}
			p.released(r)
			p.log.Info().Str("group", r.group).Msg("group released")
		}
	})
}

func (p *pipeline) released(r *release) {
	p.groups.end(r)
	p.changes++
	p.lookAt = time.Time{} // another may have waited for its place
}

// abandon leaves a release to the next look.
func (p *pipeline) abandon(ctx context.Context, r *release, err error) {
	if ctx.Err() == nil {
		p.log.Warn().Err(err).Str("group", r.group).Msg("releasing was interrupted, trying again")
	}
	p.groups.end(r)
	p.changes++
}
