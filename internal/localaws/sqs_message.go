package localaws

import (
	"container/list"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// message is one message in one queue. The positions belong to the queue's heaps; -1 means that it is not in that heap.
type message struct {
	newMessage
	id            string
	sequence      uint64
	sent          time.Time
	retainedFrom  time.Time
	firstReceived time.Time
	lastReceived  time.Time
	receives      int
	receipt       uint64    // number of the newest receive
	due           time.Time // when it becomes visible, while in flight or delayed
	inFlight      bool
	delayed       bool
	deadFrom      string // ARN of the queue it was dead-lettered from

	lane                            *lane
	pendingPos, timerPos, retainPos int
}

// newMessage is what a sender hands over.
type newMessage struct {
	body        string
	attributes  attributes
	traceHeader string
	group       string
	dedup       string
	sender      string
	delay       *time.Duration // nil: the queue's own
}

// lane is one message group of a FIFO queue. A standard queue gives each message a lane of its own, which is all that
// tells the two apart.
type lane struct {
	key      string
	pending  indexedHeap[*message] // by sequence
	inFlight int
	readyAt  *list.Element
}

func newLane(key string) *lane {
	l := &lane{key: key}
	l.pending.less = func(a, b *message) bool { return a.sequence < b.sequence }
	l.pending.moved = func(m *message, i int) { m.pendingPos = i }
	return l
}

// available tells whether the head may be received: an earlier message in flight, or a delayed head, holds all behind it.
func (l *lane) available() bool {
	head, ok := l.pending.peek()
	return ok && l.inFlight == 0 && !head.delayed
}

func (l *lane) empty() bool { return l.inFlight == 0 && l.pending.len() == 0 }

// receiptHandle names one receive of one message in one incarnation of a queue.
type receiptHandle struct {
	queue   string
	message string
	receipt uint64
}

func (h receiptHandle) String() string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s %s %d", h.queue, h.message, h.receipt))
}

func parseReceiptHandle(s string) (receiptHandle, bool) {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return receiptHandle{}, false
	}
	parts := strings.Split(string(raw), " ")
	if len(parts) != 3 {
		return receiptHandle{}, false
	}
	n, err := strconv.ParseUint(parts[2], 10, 64)
	return receiptHandle{queue: parts[0], message: parts[1], receipt: n}, err == nil
}
