package consumers

import (
	"container/list"
	"sync"
)

// sequenceGroups bounds how many groups are remembered.
const sequenceGroups = 10_000

// sequences remembers the last sequence handled of each group, the most recent
// groups only.
type sequences struct {
	mu     sync.Mutex
	max    int
	recent *list.List // of *lastSequence, the most recent first
	groups map[string]*list.Element
}

type lastSequence struct {
	group string
	seq   int64
}

func newSequences(max int) *sequences {
	return &sequences{max: max, recent: list.New(), groups: make(map[string]*list.Element)}
}

// handled notes that seq of group was handled and tells whether that came after
// a later one. An event without a sequence says nothing.
func (s *sequences) handled(group string, seq int64) (inverted bool) {
	if seq == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.groups[group]; ok {
		s.recent.MoveToFront(e)
		last := e.Value.(*lastSequence)
		if seq < last.seq {
			return true
		}
		last.seq = seq
		return false
	}
	s.groups[group] = s.recent.PushFront(&lastSequence{group, seq})
	if s.recent.Len() > s.max {
		oldest := s.recent.Remove(s.recent.Back()).(*lastSequence)
		delete(s.groups, oldest.group)
	}
	return false
}
