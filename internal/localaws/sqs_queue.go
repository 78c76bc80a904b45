package localaws

import (
	"container/list"
	"fmt"
	"time"

	"github.com/google/uuid"
)

const (
	maxVisibility   = 12 * time.Hour
	maxInFlight     = 120_000
	sequenceBase    = 18_000_000_000_000_000_000 // keeps sequence numbers at 20 digits
	maxReceiveBatch = 10
)

// queue is the state machine of one SQS queue. It is pure: it takes the time as an argument, starts nothing, and is
// guarded by the server's lock.
type queue struct {
	name, arn, url string
	incarnation    string // receipt handles of a deleted queue are foreign to its successor
	fifo           bool
	settings       queueSettings
	tags           map[string]string
	created        time.Time
	modified       time.Time
	purged         time.Time
	maxInFlight    int

	messages map[string]*message
	lanes    map[string]*lane
	ready    list.List // of *lane, longest ready first
	timers   indexedHeap[*message]
	retained indexedHeap[*message]
	dedup    dedupWindow
	attempts attempts
	inFlight int
	delayed  int
	sequence uint64
	receipts uint64
	wake     chan struct{} // closed when waiting receives should look again; nil while nobody waits
}

func newQueue(name, arn, url string, settings queueSettings, now time.Time) *queue {
	q := &queue{
		name: name, arn: arn, url: url, fifo: isFIFO(name), settings: settings,
		incarnation: uuid.NewString(), created: now, modified: now, maxInFlight: maxInFlight,
		messages: make(map[string]*message), lanes: make(map[string]*lane),
	}
	q.timers.less = func(a, b *message) bool { return a.due.Before(b.due) }
	q.timers.moved = func(m *message, i int) { m.timerPos = i }
	q.retained.less = func(a, b *message) bool { return a.retainedFrom.Before(b.retainedFrom) }
	q.retained.moved = func(m *message, i int) { m.retainPos = i }
	return q
}

// send stores a message, or answers as the first send of its deduplication id was answered.
func (q *queue) send(now time.Time, in newMessage) accepted {
	q.advance(now)
	key := dedupKey(in.dedup, in.group, q.settings.dedupPerGroup())
	if q.fifo {
		if first, ok := q.dedup.lookup(now, key); ok {
			return first
		}
	}
	m := &message{newMessage: in, id: uuid.NewString(), sent: now, retainedFrom: now}
	delay := q.settings.delay
	if in.delay != nil {
		delay = *in.delay
	}
	q.insert(m, now, delay)
	first := accepted{messageID: m.id, sequence: m.sequence}
	if q.fifo {
		q.dedup.remember(now, key, first)
	}
	return first
}

// adopt takes over a message that was dead-lettered in another queue. Its id, group, deduplication id and attributes stay.
func (q *queue) adopt(now time.Time, m *message, from string) {
	q.advance(now)
	moved := &message{newMessage: m.newMessage, id: m.id, sent: m.sent, retainedFrom: m.retainedFrom, deadFrom: from}
	if q.fifo {
		// A FIFO dead-letter queue counts retention from the move, a standard one from the first send.
		moved.retainedFrom = now
	}
	q.insert(moved, now, 0)
}

func (q *queue) insert(m *message, now time.Time, delay time.Duration) {
	q.sequence++
	m.sequence = sequenceBase + q.sequence
	m.pendingPos, m.timerPos, m.retainPos = -1, -1, -1
	key := m.id
	if q.fifo {
		key = m.group
	}
	l := q.lanes[key]
	if l == nil {
		l = newLane(key)
		q.lanes[key] = l
	}
	m.lane = l
	q.messages[m.id] = m
	q.retained.push(m)
	l.pending.push(m)
	if delay > 0 {
		m.delayed = true
		q.delayed++
		q.schedule(m, now.Add(delay))
	}
	q.refresh(l)
}

// receiveAttempt is receive, or the same messages and handles again where id is that of an earlier receive.
func (q *queue) receiveAttempt(now time.Time, id string, want receiveRequest, maxReceives int) (got, dead []*message, err error) {
	q.advance(now)
	if got = q.attempts.repeat(now, id); len(got) > 0 {
		for _, m := range got {
			q.schedule(m, now.Add(want.visibility))
		}
	} else if got, dead, err = q.receive(now, want.count, want.visibility, maxReceives); err != nil {
		return nil, nil, err
	}
	q.attempts.remember(now, id, got)
	return got, dead, nil
}

// receive hands out up to n messages and returns apart those that were received maxReceives times already (0: no limit).
func (q *queue) receive(now time.Time, n int, visibility time.Duration, maxReceives int) (got, dead []*message, err error) {
	q.advance(now)
	if q.inFlight >= q.maxInFlight {
		return nil, nil, errOverLimit
	}
	n = min(n, q.maxInFlight-q.inFlight)
	for len(got) < n && q.ready.Len() > 0 {
		l := q.ready.Front().Value.(*lane)
		for len(got) < n {
			m, ok := l.pending.peek()
			if !ok || m.delayed {
				break
			}
			if maxReceives > 0 && m.receives >= maxReceives {
				q.remove(m)
				dead = append(dead, m)
				continue
			}
			l.pending.pop()
			q.take(m, now, visibility)
			got = append(got, m)
		}
		q.refresh(l)
	}
	if visibility == 0 {
		for _, m := range got {
			q.release(m)
		}
	}
	return got, dead, nil
}

func (q *queue) take(m *message, now time.Time, visibility time.Duration) {
	if m.receives == 0 {
		m.firstReceived = now
	}
	m.receives++
	m.lastReceived = now
	q.receipts++
	m.receipt = q.receipts
	m.inFlight = true
	m.lane.inFlight++
	q.inFlight++
	q.schedule(m, now.Add(visibility))
}

func (q *queue) handle(m *message) string {
	return receiptHandle{queue: q.incarnation, message: m.id, receipt: m.receipt}.String()
}

// delete removes the message that the handle names. On FIFO only its newest, unexpired handle will do.
func (q *queue) delete(now time.Time, handle string) error {
	q.advance(now)
	m, current, err := q.find(handle)
	if err != nil || m == nil {
		return err // deleting what is gone already succeeds
	}
	switch {
	case current && (m.inFlight || !q.fifo):
		q.remove(m)
	case q.fifo:
		return invalidHandle(handle, "The receipt handle has expired")
	}
	return nil
}

// changeVisibility moves the time at which a message in flight comes back; zero gives it back at once.
func (q *queue) changeVisibility(now time.Time, handle string, visibility time.Duration) error {
	q.advance(now)
	m, current, err := q.find(handle)
	if err != nil {
		return err
	}
	if m == nil {
		return invalidHandle(handle, "Message does not exist or is not available for visibility timeout change")
	}
	if !current || !m.inFlight {
		return errNotInFlight
	}
	if visibility == 0 {
		q.release(m)
		return nil
	}
	due := now.Add(visibility)
	if due.Sub(m.lastReceived) > maxVisibility {
		return invalidParameterValue("Value %d for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds].", int(visibility.Seconds()))
	}
	q.schedule(m, due)
	return nil
}

func (q *queue) find(handle string) (m *message, current bool, err error) {
	h, ok := parseReceiptHandle(handle)
	if !ok {
		return nil, false, handleIsInvalid(`The input receipt handle "%s" is not a valid receipt handle.`, clip(handle))
	}
	if h.queue != q.incarnation {
		return nil, false, handleIsInvalid(`The input receipt handle "%s" is not valid for this queue.`, clip(handle))
	}
	m = q.messages[h.message]
	return m, m != nil && m.receipt == h.receipt, nil
}

// advance brings the queue up to now: what timed out comes back, what was delayed appears, what is too old goes.
func (q *queue) advance(now time.Time) {
	for {
		m, ok := q.timers.peek()
		if !ok || m.due.After(now) {
			break
		}
		if m.inFlight {
			q.release(m)
			continue
		}
		q.timers.pop()
		q.undelay(m)
		q.refresh(m.lane)
	}
	for {
		m, ok := q.retained.peek()
		if !ok || m.retainedFrom.Add(q.settings.retention).After(now) {
			break
		}
		q.remove(m)
	}
}

// nextEvent is when advance will next have something to do. Retention counts: what it takes may have blocked a group.
func (q *queue) nextEvent() (time.Time, bool) {
	timer, timed := q.timers.peek()
	oldest, some := q.retained.peek()
	if !some {
		return time.Time{}, false
	}
	expiry := oldest.retainedFrom.Add(q.settings.retention)
	if timed && timer.due.Before(expiry) {
		return timer.due, true
	}
	return expiry, true
}

func (q *queue) release(m *message) {
	q.unschedule(m)
	m.inFlight = false
	m.lane.inFlight--
	q.inFlight--
	m.lane.pending.push(m)
	q.refresh(m.lane)
}

func (q *queue) remove(m *message) {
	q.unschedule(m)
	q.retained.remove(m.retainPos)
	delete(q.messages, m.id)
	if m.inFlight {
		m.inFlight = false
		m.lane.inFlight--
		q.inFlight--
	} else {
		m.lane.pending.remove(m.pendingPos)
	}
	if m.delayed {
		q.undelay(m)
	}
	q.refresh(m.lane)
}

func (q *queue) undelay(m *message) {
	m.delayed = false
	q.delayed--
}

func (q *queue) schedule(m *message, due time.Time) {
	m.due = due
	if m.timerPos >= 0 {
		q.timers.fix(m.timerPos)
	} else {
		q.timers.push(m)
	}
	if m.timerPos == 0 {
		q.signal() // waiting receives sleep until the old head
	}
}

func (q *queue) unschedule(m *message) {
	if m.timerPos >= 0 {
		q.timers.remove(m.timerPos)
	}
}

// refresh puts a lane on the ready list or takes it off, and forgets it once it is empty.
func (q *queue) refresh(l *lane) {
	available := l.available()
	switch {
	case available && l.readyAt == nil:
		l.readyAt = q.ready.PushBack(l)
		q.signal()
	case !available && l.readyAt != nil:
		q.ready.Remove(l.readyAt)
		l.readyAt = nil
	}
	if l.empty() {
		delete(q.lanes, l.key)
	}
}

// waiter returns the channel that is closed when a waiting receive should look again.
func (q *queue) waiter() <-chan struct{} {
	if q.wake == nil {
		q.wake = make(chan struct{})
	}
	return q.wake
}

func (q *queue) signal() {
	if q.wake != nil {
		close(q.wake)
		q.wake = nil
	}
}

// visible counts the messages that are neither in flight nor delayed.
func (q *queue) visible() int { return len(q.messages) - q.inFlight - q.delayed }

// purge forgets every message; deduplication ids stay.
func (q *queue) purge(now time.Time) {
	for _, m := range q.messages {
		q.remove(m)
	}
	q.purged = now
}

// nextVisible returns a message that a move task may take; within a group it is the oldest.
func (q *queue) nextVisible() *message {
	front := q.ready.Front()
	if front == nil {
		return nil
	}
	head, _ := front.Value.(*lane).pending.peek()
	return head
}

func sequenceString(n uint64) string { return fmt.Sprintf("%020d", n) }
