package relay

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/restock-dev/restock/schema"
)

// replay is a row of the table replays on its way through the lanes. Its items are
// loaded in pieces, wait in ready for their time, and are put into the lanes behind
// whatever is there of their group. It is pure and for one goroutine.
type replay struct {
	as     schema.Replay
	by     string // who asked for it
	events int64
	rate   int
	pace   pace

	loaded  int64    // the last place that was loaded
	loading bool     // a visit to the database is under way for it
	stopped bool     // nothing more of it is to go
	ready   []*entry // loaded, and not in the lanes yet
	inHand  int      // in the lanes, at the publisher, on the way to the ledger
	memory  int      // of what is ready and in hand
	done    places
	refused map[string]error // groups that were given up
}

// item is an entry's part in a replay.
type item struct {
	replay     *replay
	place      int64
	upTo       int64 // of the last of a write: up to where all are dealt with
	failed     bool  // it has an error already, from before a crash
	unrecorded bool  // the ledger does not say that its event is published
	elsewhere  bool  // its group is another shard's, whose relay sends it
}

const (
	// replayAhead bounds how far a replay goes ahead of its first item that is not
	// dealt with: what a crash repeats, and what is resumed after a cancel.
	replayAhead = 2000
	// replayPage and replayBytes bound one load, but for its last event.
	replayPage  = 500
	replayBytes = 4 << 20
	// replayAttributeBytes is what a replay adds to what SNS counts.
	replayAttributeBytes = 128
)

func newReplay(as schema.Replay, by string, events, done int64, rate int) *replay {
	return &replay{
		as: as, by: by, events: events, rate: rate, pace: newPace(rate),
		loaded: done, done: places{upTo: done}, refused: make(map[string]error),
	}
}

// most bounds what is in hand: with a rate, one second of it, which is how much may
// come at once when an outage ends.
func (r *replay) most() int {
	if r.rate == 0 {
		return replayAhead
	}
	return min(r.rate, replayAhead)
}

// room is how many items may be loaded now.
func (r *replay) room() int {
	if r.stopped || r.loading || len(r.ready) > replayPage/2 || r.memory >= replayBytes || r.loaded >= r.events {
		return 0
	}
	return int(min(replayPage, r.done.upTo+replayAhead-r.loaded))
}

// take adds what was loaded.
func (r *replay) take(entries []*entry) {
	r.loading = false
	for _, e := range entries {
		e.item.replay = r
		r.loaded = e.item.place
		r.memory += e.memory
	}
	r.ready = append(r.ready, entries...)
}

// drop lets go of what is not in the lanes, and returns its memory.
func (r *replay) drop() int {
	memory := 0
	for _, e := range r.ready {
		memory += e.memory
	}
	r.stopped, r.ready = true, nil
	r.memory -= memory
	return memory
}

// leaves notes that an item is out of hand.
func (r *replay) leaves(e *entry) {
	r.inHand--
	r.memory -= e.memory
}

// over tells that nothing of it is under way, and nothing more to come.
func (r *replay) over() bool {
	return r.inHand == 0 && !r.loading && (r.stopped || r.done.upTo >= r.events)
}

// obstacle is why an item must not go into the lanes, nil where it may.
func (r *replay) obstacle(e *entry, parked *parkedGroup) error {
	switch {
	case e.parked != nil:
		return e.parked
	case r.refused[e.group] != nil:
		return fmt.Errorf("its group was given up: %w", r.refused[e.group])
	case parked != nil:
		return fmt.Errorf("its group is parked: run restock parked send --group %s, then replay it again", shellQuote(e.group))
	}
	return nil
}

// handOver notes on the way to the ledger up to where all items are dealt with.
func handOver(entries []*entry) {
	var last *item
	for _, e := range entries {
		if e.item != nil {
			last = e.item
			last.replay.done.finish(last.place)
		}
	}
	if last != nil {
		last.upTo = last.replay.done.upTo
	}
}

// replayID is the replay that an entry is of, zero if of none.
func (e *entry) replayID() uuid.UUID {
	if e.item == nil {
		return uuid.Nil
	}
	return e.item.replay.as.ID
}
