package relay_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
)

type idSet map[uuid.UUID]bool

// committed is an event as the stream has it.
type committed struct {
	id    uuid.UUID
	group string
	end   pglogrepl.LSN // of its transaction
}

// history is all that is known in the end of what happened.
type history struct {
	mu     sync.Mutex
	acked  idSet // Postgres has said that they are committed
	undone idSet // they are surely not

	stream    []committed // in commit order
	seq       []committed // the outbox's rows by their seq
	ledger    idSet
	parked    int
	delivered []committed   // in the order in which they came
	forgotten []idSet       // the ledger each time that SNS forgot what it had accepted
	early     idSet         // confirmed before they were in the ledger
	resent    idSet         // sent though they were in the ledger
	deaths    map[point]int // that came before the work was done
}

// note adds to one of the sets that the writers share.
func (h *history) note(sure idSet, events []uuid.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range events {
		sure[id] = true
	}
}

// verdict counts what must be none, and what there was.
type verdict struct {
	lost, duplicated int
	complaints       []string

	events, repeats int // repeats are deliveries beyond the first, allowed or not
	deaths          map[point]int
}

func (v *verdict) complain(n int, what string) {
	if n > 0 {
		v.complaints = append(v.complaints, fmt.Sprintf("%d %s", n, what))
	}
}

// judge holds a history against the promise.
func (h *history) judge() verdict {
	v := verdict{events: len(h.stream), repeats: len(h.delivered) - len(set(h.delivered)), deaths: h.deaths}
	stream, seq, delivered := set(h.stream), set(h.seq), set(h.delivered)
	v.complain(len(minus(h.acked, seq)), "committed rows are not in the outbox: the test or Postgres is wrong")
	v.complain(len(minus(seq, stream))+len(minus(stream, seq)), "rows are not both in outbox and stream: the test or Postgres is wrong")
	v.complain(len(h.undone)-len(minus(h.undone, seq)), "rolled back rows are in the outbox: the test or Postgres is wrong")

	v.lost = len(minus(stream, delivered))
	v.complain(v.lost, "committed events were never delivered")
	v.complain(len(minus(delivered, stream)), "events were delivered that were never committed")
	v.duplicated = h.duplicated()
	v.complain(v.duplicated, "events were delivered again without need")
	v.complain(len(h.resent), "events were sent that the ledger held")
	v.complain(len(h.early), "events were confirmed before the ledger held them")
	v.complain(len(minus(stream, h.ledger)), "events are not in the ledger")
	v.complain(len(minus(h.ledger, stream)), "events are in the ledger that were never committed")
	v.complain(h.parked, "events are parked")
	h.judgeOrder(&v)
	return v
}

// judgeOrder compares first deliveries with the stream, group by group, and where
// rows are written under a lock also with their seq.
func (h *history) judgeOrder(v *verdict) {
	stream, seq, delivered := byGroup(h.stream), byGroup(h.seq), byGroup(h.delivered)
	for group, got := range delivered {
		if !slices.Equal(got, only(stream[group], got)) {
			v.complain(1, "group is out of order: "+group)
		}
		if strings.HasPrefix(group, lockedPrefix) && !slices.Equal(seq[group], stream[group]) {
			v.complain(1, "group was not written in order, the test is wrong: "+group)
		}
	}
}

// duplicated counts deliveries beyond the first of each event. One more is no
// surprise each time that SNS forgot an event which the ledger did not hold yet.
func (h *history) duplicated() int {
	n := map[uuid.UUID]int{}
	for _, d := range h.delivered {
		n[d.id]++
	}
	duplicated := 0
	for id, times := range n {
		allowed := 1
		for _, ledger := range h.forgotten {
			if !ledger[id] {
				allowed++
			}
		}
		duplicated += max(0, times-allowed)
	}
	return duplicated
}

func set(events []committed) idSet {
	s := make(idSet, len(events))
	for _, e := range events {
		s[e.id] = true
	}
	return s
}

// minus is what of a is not in b.
func minus(a, b idSet) (rest []uuid.UUID) {
	for id := range a {
		if !b[id] {
			rest = append(rest, id)
		}
	}
	return rest
}

// byGroup is the ids of each group in order, each where it comes first.
func byGroup(events []committed) map[string][]uuid.UUID {
	groups, seen := map[string][]uuid.UUID{}, idSet{}
	for _, e := range events {
		if !seen[e.id] {
			seen[e.id] = true
			groups[e.group] = append(groups[e.group], e.id)
		}
	}
	return groups
}

// only is what of order is in wanted too, so that a loss is not told as disorder.
func only(order, wanted []uuid.UUID) (kept []uuid.UUID) {
	w := make(idSet, len(wanted))
	for _, id := range wanted {
		w[id] = true
	}
	for _, id := range order {
		if w[id] {
			kept = append(kept, id)
		}
	}
	return kept
}
