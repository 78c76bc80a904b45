package relay

import (
	"container/heap"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// entry is one event on its way, and in the end what became of it.
type entry struct {
	position Position
	day      time.Time
	id       uuid.UUID
	seq      int64
	group    string
	row      row  // the rest of it, read when it goes
	recorded bool // the ledger had it already
	size     int  // what SNS counts, in bytes, or a little more
	memory   int  // what the window counts, in bytes
	failures int
	trouble  *trouble // what is known of its failures, nil before the first
	release  *release // that it is part of, nil unless it was parked before
	item     *item    // of a replay, nil unless it is of one
	next     *entry   // behind it in its lane

	messageID      string
	sequenceNumber string
	parked         error // why it cannot be published
	reason         string
}

// fromStream tells an entry that the stream brought from one that was read from the
// outbox table, which has no position and holds nothing back.
func (e *entry) fromStream() bool { return e.position.Commit != 0 }

// beside tells an entry that was added to the window from one that the reader brought.
func (e *entry) beside() bool { return e.release != nil || e.item != nil }

// swept tells an entry that a sweep has brought.
func (e *entry) swept() bool { return !e.fromStream() && !e.beside() }

// lanes keeps the events that wait, each message group in a lane of its own. A
// lane has at most one entry in flight. lanes is pure and for one goroutine.
type lanes struct {
	byGroup map[string]*lane
	ready   []*lane // lanes whose head may go, in the order they became ready
	held    heldLanes
}

type lane struct {
	group      string
	head, tail *entry // the head stays until it is done
	until      time.Time
}

func newLanes() *lanes { return &lanes{byGroup: make(map[string]*lane)} }

// push adds e behind all that waits of its group.
func (l *lanes) push(e *entry) {
	ln := l.byGroup[e.group]
	if ln == nil {
		// A copy: the group's name in e keeps the whole row.
		ln = &lane{group: strings.Clone(e.group), head: e, tail: e}
		l.byGroup[ln.group] = ln
		l.ready = append(l.ready, ln)
		return
	}
	ln.tail.next, ln.tail = e, e
}

// next takes the heads of up to maxEntries ready lanes whose sizes sum to at
// most maxBytes, into flight together. The first one goes whatever its size, and
// one that is to go alone does. It returns nothing when no lane is ready.
func (l *lanes) next(now time.Time, maxEntries, maxBytes int) []*entry {
	for len(l.held) > 0 && !l.held[0].until.After(now) {
		l.ready = append(l.ready, heap.Pop(&l.held).(*lane))
	}
	if len(l.ready) == 0 {
		return nil
	}
	batch := make([]*entry, 0, min(maxEntries, len(l.ready)))
	bytes := 0
	for len(l.ready) > 0 && len(batch) < maxEntries {
		head := l.ready[0].head
		if len(batch) > 0 && (bytes+head.size > maxBytes || head.alone() || batch[0].alone()) {
			break
		}
		batch = append(batch, head)
		bytes += head.size
		if l.ready = l.ready[1:]; len(l.ready) == 0 {
			l.ready = nil
		}
	}
	return batch
}

// untriedFirst has a lane go next whose head has not failed, if there is one: where it is
// accepted, it is the others that are refused, and no outage.
func (l *lanes) untriedFirst() {
	for i, ln := range l.ready {
		if ln.head.trouble == nil {
			copy(l.ready[1:i+1], l.ready[:i])
			l.ready[0] = ln
			return
		}
	}
}

// done ends an entry in flight: it was published or parked, and the next of its
// group may go.
func (l *lanes) done(e *entry) {
	ln := l.byGroup[e.group]
	ln.head, e.next = e.next, nil
	if ln.head == nil {
		delete(l.byGroup, ln.group)
		return
	}
	l.ready = append(l.ready, ln)
}

// cut takes an entry in flight, and all that waits behind it, out of the lanes.
func (l *lanes) cut(e *entry) []*entry {
	delete(l.byGroup, e.group)
	var all []*entry
	for e != nil {
		behind := e.next
		e.next = nil
		all = append(all, e)
		e = behind
	}
	return all
}

// withdraw takes out of the lanes what is of a replay and not in flight.
func (l *lanes) withdraw(r *replay) []*entry {
	waits := make(map[*lane]bool)
	for _, ln := range slices.Concat(l.ready, l.held) {
		waits[ln] = true
	}
	var out []*entry
	for _, ln := range l.byGroup {
		first := ln.head
		ln.head, ln.tail = nil, nil
		for e := first; e != nil; {
			behind := e.next
			e.next = nil
			switch {
			case e.item != nil && e.item.replay == r && (e != first || waits[ln]):
				out = append(out, e)
			case ln.head == nil:
				ln.head, ln.tail = e, e
			default:
				ln.tail.next, ln.tail = e, e
			}
			e = behind
		}
		if ln.head == nil {
			delete(l.byGroup, ln.group)
		}
	}
	empty := func(ln *lane) bool { return ln.head == nil }
	l.ready, l.held = slices.DeleteFunc(l.ready, empty), slices.DeleteFunc(l.held, empty)
	heap.Init(&l.held)
	return out
}

// suspectedBut tells whether nothing is in the lanes, but for that of e, whose head does
// not fail while others do not: nothing whose next try would tell more.
func (l *lanes) suspectedBut(e *entry) bool {
	for _, ln := range l.byGroup {
		if ln.head.group != e.group && !ln.head.suspected() {
			return false
		}
	}
	return true
}

// hold puts an entry in flight back to the head of its lane, which may not go
// before until.
func (l *lanes) hold(e *entry, until time.Time) {
	ln := l.byGroup[e.group]
	ln.until = until
	heap.Push(&l.held, ln)
}

// swept returns which events of a sweep are in the lanes.
func (l *lanes) swept() map[uuid.UUID]bool {
	ids := make(map[uuid.UUID]bool)
	for _, ln := range l.byGroup {
		for e := ln.head; e != nil; e = e.next {
			if e.swept() {
				ids[e.id] = true
			}
		}
	}
	return ids
}

// due is when the next held lane may go; false when none is held.
func (l *lanes) due() (time.Time, bool) {
	if len(l.held) == 0 {
		return time.Time{}, false
	}
	return l.held[0].until, true
}

// heldLanes is a heap, soonest first.
type heldLanes []*lane

func (h heldLanes) Len() int           { return len(h) }
func (h heldLanes) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h heldLanes) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heldLanes) Push(x any)        { *h = append(*h, x.(*lane)) }
func (h *heldLanes) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
