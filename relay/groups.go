package relay

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// groups knows which message groups are parked, and which of what is parked is on
// its way out again. It is pure and for one goroutine.
//
// A release takes what is parked from the database in pieces, in the order in
// which it was parked, and puts each into the lanes. What the stream brings of the
// group meanwhile goes on to be parked, behind the rest, so that a long release
// holds up neither window nor slot. Only when a piece was the last, and nothing was
// parked since it was asked for, is the group open: what comes then waits in the
// lane behind that piece.
type groups struct {
	parked   map[string]*parkedGroup
	releases map[string]*release
}

// parkedGroup is a group of which everything is parked. parked counts the events
// of it that this session has parked, recorded those that the database holds.
type parkedGroup struct {
	behind           error // why its later events are parked
	parked, recorded int
}

// release is one group's parked events on their way out: all of them, or those
// that were asked for one by one.
type release struct {
	group    string
	whole    bool
	busy     bool // a visit to the database is under way for it
	loadsAll bool // the last load is of all of it: a release may be widened during one that is not
	left     int  // loaded, and not recorded yet
	dry      bool // the last load brought all that the database held
	opened   bool // its group is open: what is left is the last of it
	standing standing
}

// standing is how the publisher last took an event of a release.
type standing int

const (
	untried standing = iota
	going
	refused
)

// maxReleases bounds how many releases are under way that are not refused, and with that
// the memory of what is loaded; maxUnderWay those that are refused besides, so that they
// hold the others up only where they are very many.
const (
	maxReleases = 16
	maxUnderWay = 64
)

func newGroups() *groups {
	return &groups{parked: make(map[string]*parkedGroup), releases: make(map[string]*release)}
}

// park parks a group, for what happened to the event at its head. A release of it
// is over.
func (g *groups) park(group string, head uuid.UUID, why string) *parkedGroup {
	delete(g.releases, group)
	p := g.parked[group]
	if p == nil {
		p = &parkedGroup{}
		g.parked[strings.Clone(group)] = p // it may share the memory of a whole row
	}
	p.behind = fmt.Errorf("its group waits behind event %s: %s", head, why)
	return p
}

// ask begins a release, or widens the one under way. It returns nil when there
// are too many.
func (g *groups) ask(group string, whole bool) *release {
	r := g.releases[group]
	if r == nil {
		if g.unrefused() >= maxReleases || len(g.releases) >= maxUnderWay {
			return nil
		}
		r = &release{group: group}
		g.releases[group] = r
	}
	if whole && !r.whole {
		r.whole, r.dry = true, false
	}
	return r
}

// current tells whether r goes on: parking its group ends it.
func (g *groups) current(r *release) bool { return g.releases[r.group] == r }

type step int

const (
	stepWait step = iota
	stepLoad
	stepEnd
)

// next is what a release needs now.
func (g *groups) next(r *release) step {
	switch {
	case !g.current(r) || r.busy || r.left > 0:
		return stepWait
	case r.opened, !r.whole && r.dry:
		return stepEnd
	case r.dry: // what is parked meanwhile is about to be recorded
		return stepWait
	}
	return stepLoad
}

// unrefused is how many releases are under way that are not refused.
func (g *groups) unrefused() int {
	n := 0
	for _, r := range g.releases {
		if r.standing != refused {
			n++
		}
	}
	return n
}

// load notes that a load begins, and returns what loaded must be given and of how many
// events it is: of one until the publisher takes some, which is all that a refused group
// keeps in memory, and where those that it did refuse are taken again all at once.
func (g *groups) load(r *release) (before parkedGroup, most int) {
	r.busy, r.loadsAll = true, r.whole
	if p := g.parked[r.group]; p != nil {
		before = *p
	}
	if r.standing == going && g.unrefused() <= maxReleases {
		return before, loadEvents
	}
	return before, 1
}

// loaded takes how much a load brought, and whether there is more, and opens the
// group if this is the last of it.
func (g *groups) loaded(r *release, before parkedGroup, n int, more bool) {
	r.busy, r.left = false, n
	var now parkedGroup
	p := g.parked[r.group]
	if p != nil {
		now = *p
	}
	r.dry = !more && r.loadsAll == r.whole && now.recorded == before.recorded
	if r.loadsAll && !more && before.parked == before.recorded && now.parked == before.parked {
		r.opened = true
		delete(g.parked, r.group)
	}
}

// recorded notes that an event parked by this session is durable, and returns the
// release that may have waited for it, or nil.
func (g *groups) recorded(group string) *release {
	g.parked[group].recorded++
	r := g.releases[group]
	if r != nil {
		r.dry = false
	}
	return r
}

// end forgets a release.
func (g *groups) end(r *release) {
	if g.current(r) {
		delete(g.releases, r.group)
	}
}
