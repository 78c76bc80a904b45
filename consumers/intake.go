package consumers

import "sync"

// intake decides when to receive. An idle queue has one receive under way, which
// waits; a loaded one gets more as long as they come back full. Nothing is
// received for which there is no room: messages that wait here are hidden from
// other workers, which may be idle.
type intake struct {
	concurrency int

	mu       sync.Mutex
	polls    int // receives under way
	worth    int // how many at once the queue is worth
	groups   int // in hand: at work or waiting for it
	messages int // in hand: not yet deleted or put back
	// changed has a token once there may be room, or nothing left in hand.
	changed chan struct{}
}

func newIntake(concurrency int) *intake {
	return &intake{concurrency: concurrency, worth: 1, changed: make(chan struct{}, 1)}
}

// begin tells whether to begin a receive, and counts it as under way if so.
//
// SQS gives as many messages of one group as it can, so a receive may bring one
// group or ten. Each is counted as one until it is back: where that leaves groups
// without work more are begun. While all have work one receive fetches ahead, up to
// as many groups as are worked on.
func (i *intake) begin() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	room := i.messages+maxBatch*(i.polls+1) <= maxBatch*i.concurrency
	if i.polls == 0 {
		room = room && i.groups < 2*i.concurrency
	} else {
		room = room && i.polls < i.worth && i.groups+i.polls < i.concurrency
	}
	if room {
		i.polls++
	}
	return room
}

// end notes what a receive brought, as messages and as groups of them.
func (i *intake) end(messages, groups int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case messages == maxBatch:
		i.worth = min(i.worth+1, i.concurrency)
	case messages == 0:
		i.worth = 1
	case messages < maxBatch/2:
		i.worth = max(i.worth-1, 1)
	}
	i.polls--
	i.messages += messages
	i.groups += groups
	i.signal()
}

// groupDone notes that a group is through or has stopped, and tells whether it was
// the last one.
func (i *intake) groupDone() (last bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.groups--
	i.signal()
	return i.groups == 0
}

// gone notes that messages were deleted or put back.
func (i *intake) gone(messages int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.messages -= messages
	i.signal()
}

// idle tells whether nothing is in hand, and nothing can come.
func (i *intake) idle() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.polls == 0 && i.messages == 0
}

func (i *intake) signal() {
	select {
	case i.changed <- struct{}{}:
	default:
	}
}
