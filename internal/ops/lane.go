package ops

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/restock-dev/restock/schema"
)

// lanes is how many groups are redriven at once.
const lanes = 8

// redrive is a redrive of one consumer's dead events. It goes in rounds: each
// holds the bodies of as many groups as memory allows and takes those through,
// while the messages of the others are held without their bodies, so that the
// queues show what lies behind them.
type redrive struct {
	*walk
	wants func(event uuid.UUID) bool
	tell  func(Redriven)

	groups    map[string]*lane
	newest    map[string]int64
	bytes     int
	postponed bool // a group did not fit
}

// lane is one group of a redrive.
type lane struct {
	group  string
	hand   []*letter // held, in the order received from each queue
	open   bool      // its bodies are held in this round
	failed bool      // it stopped at a failure: nothing more of it is sent
	sent   map[identity]bool
	last   map[*queue]int64 // the place of the last letter received
	// unseen are wanted events, with their sequence, that lie deeper in the queue
	// than what is in hand.
	unseen map[identity]int64
	// turned are those moved to the queue's end since one was sent last.
	turned  map[identity]bool
	turning bool // the bodies of all of its letters are needed
}

func (r *redrive) lane(group string) *lane {
	l := r.groups[group]
	if l == nil {
		l = &lane{
			group: group, sent: make(map[identity]bool), last: make(map[*queue]int64),
			unseen: make(map[identity]int64), turned: make(map[identity]bool),
		}
		r.groups[group] = l
	}
	return l
}

func (r *redrive) run(ctx context.Context) error {
	r.groups, r.newest = make(map[string]*lane), make(map[string]int64)
	for first := true; first || r.postponed; first = false {
		if err := r.round(ctx, first); err != nil {
			return err
		}
	}
	return nil
}

func (r *redrive) round(ctx context.Context, first bool) error {
	defer func() {
		r.putBack()
		r.drop(r.letters)
		for _, l := range r.groups {
			l.hand, l.open = nil, false
		}
	}()
	r.postponed, r.bytes = false, 0
	for looked := first; ; looked = false {
		if err := r.gather(ctx, looked); err != nil {
			return err
		}
		moved, err := r.deliver(ctx)
		if err != nil || !moved {
			return err
		}
	}
}

// gather receives all that the queues show, and at the first time asks the inbox
// for what they do not show.
func (r *redrive) gather(ctx context.Context, first bool) error {
	var fresh []*letter
	err := r.all(ctx, func(l *letter) {
		r.keep(l)
		if _, known := r.newest[l.group]; !known {
			fresh = append(fresh, l)
		}
	})
	if err != nil {
		return err
	}
	newest, err := r.c.newestDone(ctx, fresh)
	if err != nil {
		return err
	}
	for _, l := range fresh {
		r.newest[l.group] = newest[l.group] // 0 where there is none
	}
	if n := r.counts[0]; first && n.Waiting > n.Received {
		return r.lookBehind(ctx, n.Waiting-n.Received)
	}
	return nil
}

// keep takes a letter in hand, with its body where that is needed and fits.
func (r *redrive) keep(l *letter) {
	lane := r.lane(l.group)
	l.order = l.sequence
	if l.order == 0 {
		l.order = lane.last[l.queue]
	}
	lane.last[l.queue] = l.order
	lane.hand = append(lane.hand, l)
	delete(lane.unseen, l.identity)
	switch {
	case lane.failed || lane.sent[l.identity] && !lane.turning || !r.wants(l.event) && !lane.turning:
		l.forget()
	case !lane.open && !lane.turning && r.bytes >= r.d.cfg.Memory:
		l.forget()
		r.postponed = true
	default:
		lane.open = true
		r.bytes += l.size
	}
}

// lookBehind notes the wanted events of which the queue showed no letter.
func (r *redrive) lookBehind(ctx context.Context, limit int) error {
	seen, groups := make(map[identity]bool), make(map[string]bool)
	for _, l := range r.letters {
		seen[l.identity], groups[l.group] = true, true
	}
	behind, err := r.c.hidden(ctx, seen, groups, limit)
	if err != nil {
		return err
	}
	for _, b := range behind {
		if r.wants(b.event) {
			r.lane(b.group).unseen[b.identity] = b.sequence
		}
	}
	return nil
}

// deliver takes every group as far as it goes. It tells whether the queues may
// show more now.
func (r *redrive) deliver(ctx context.Context) (moved bool, err error) {
	var work errgroup.Group
	work.SetLimit(lanes)
	for _, lane := range r.groups {
		work.Go(func() error {
			r.advance(ctx, lane)
			return nil
		})
	}
	_ = work.Wait() // none returns an error
	inHand := make(map[*letter]bool)
	for _, lane := range r.groups {
		for _, l := range lane.hand {
			inHand[l] = true
		}
	}
	var gone []*letter
	for _, l := range r.letters {
		if !inHand[l] {
			gone = append(gone, l)
			r.bytes -= l.size
		}
	}
	r.drop(gone)
	return len(gone) > 0, ctx.Err()
}

// advance sends the lane's letters in order, until none is left that may go.
func (r *redrive) advance(ctx context.Context, lane *lane) {
	if err := r.renew(ctx, lane); err != nil {
		lane.failed = true
		for _, l := range lane.hand {
			if r.ready(lane, l) {
				r.fail(l, err)
				return
			}
		}
	}
	for !lane.failed && ctx.Err() == nil {
		next := r.next(lane)
		switch deeper, some := lane.deeper(); {
		case some && (next == nil || deeper < next.order):
			if !r.turn(ctx, lane) {
				return
			}
		case next == nil:
			return
		default:
			r.take(ctx, lane, next)
		}
	}
}

// ready tells a letter that is wanted and can be sent. For one of an event that
// was sent already no body is needed.
func (r *redrive) ready(lane *lane, l *letter) bool {
	return r.wants(l.event) && !l.kept && (!l.forgotten || lane.sent[l.identity])
}

// next is the first letter in hand that may be sent.
func (r *redrive) next(lane *lane) *letter {
	var next *letter
	for _, l := range lane.hand {
		if r.ready(lane, l) && (next == nil || l.order < next.order) {
			next = l
		}
	}
	return next
}

// deeper is the least sequence of what lies deeper in the queue.
func (l *lane) deeper() (sequence int64, some bool) {
	for _, s := range l.unseen {
		if !some || s < sequence {
			sequence, some = s, true
		}
	}
	return sequence, some
}

// take takes an event through the three steps, with every copy of its message.
func (r *redrive) take(ctx context.Context, lane *lane, l *letter) {
	var copies []*letter
	for _, other := range lane.hand {
		if other.identity == l.identity {
			copies = append(copies, other)
		}
	}
	if lane.sent[l.identity] {
		r.takeAgain(ctx, lane, l, copies)
		return
	}
	was, redriveID, err := r.c.revive(ctx, l)
	outcome := OutcomeHandled
	if err == nil && was.state != stateDone {
		day := l.day
		if was.state != "" {
			day = was.day
		}
		outcome = OutcomeSent
		err = r.c.queue.send(ctx, l, schema.Redrive{ID: redriveID, EventID: l.event, Day: day}.DeduplicationID())
	}
	if err == nil {
		// What was sent is deleted even when the redrive is told to stop.
		err = r.remove(context.WithoutCancel(ctx), lane, copies)
	}
	if err != nil {
		lane.failed = true
		r.fail(l, err)
		return
	}
	lane.sent[l.identity] = true
	clear(lane.turned)
	e := l.describe(r.c, r.newest)
	e.Messages = len(copies)
	r.tell(Redriven{DeadEvent: e, Outcome: outcome})
}

// takeAgain sees to a message of an event that this redrive has sent already: a
// copy that lay deeper, or the message of another death, which stays.
func (r *redrive) takeAgain(ctx context.Context, lane *lane, l *letter, copies []*letter) {
	state, err := r.c.state(ctx, l)
	if err == nil && state == stateDead {
		for _, c := range copies {
			c.kept = true
		}
		return
	}
	if err == nil {
		err = r.remove(context.WithoutCancel(ctx), lane, copies)
	}
	if err != nil {
		lane.failed = true
		r.fail(l, fmt.Errorf("delete another copy of what was sent: %w", err))
	}
}

// remove deletes letters and takes them out of hand.
func (r *redrive) remove(ctx context.Context, lane *lane, letters []*letter) error {
	for _, q := range r.c.dlqs {
		if err := q.delete(ctx, of(q, letters)); err != nil {
			return err
		}
	}
	lane.hand = slices.DeleteFunc(lane.hand, func(l *letter) bool { return slices.Contains(letters, l) })
	return nil
}

// turn moves what is in hand of the worker's queue to the end of it, so that the
// queue shows what lies behind. It tells whether the lane may go on with what it
// has.
func (r *redrive) turn(ctx context.Context, lane *lane) (goOn bool) {
	front := of(r.c.dlqs[0], lane.hand)
	if !slices.ContainsFunc(front, func(l *letter) bool { return !lane.turned[l.identity] }) {
		// All of the group has been in hand: what was looked for is not there.
		clear(lane.unseen)
		clear(lane.turned)
		return true
	}
	if slices.ContainsFunc(front, func(l *letter) bool { return l.forgotten }) {
		lane.turning = true
		r.d.putBack(front)
		lane.hand = slices.DeleteFunc(lane.hand, func(l *letter) bool { return slices.Contains(front, l) })
		return false
	}
	for _, l := range front {
		// The copy first: a crash between the two leaves one more.
		err := l.queue.send(ctx, l, schema.DeadLetterID(l.event, r.c.queue.name(), l.replay, l.messageID))
		if err == nil {
			err = r.remove(context.WithoutCancel(ctx), lane, []*letter{l})
		}
		if err != nil {
			lane.failed = true
			r.fail(l, fmt.Errorf("move it to the end of its queue: %w", err))
			return false
		}
		lane.turned[l.identity] = true
		if r.wants(l.event) && !l.kept {
			lane.unseen[l.identity] = l.order
		}
	}
	return false
}

// renew keeps what is in hand hidden for a whole visibility timeout again where
// half of it is over.
func (r *redrive) renew(ctx context.Context, lane *lane) error {
	for _, q := range r.c.dlqs {
		held := of(q, lane.hand)
		if !slices.ContainsFunc(held, func(l *letter) bool { return time.Since(l.receivedAt) > r.d.cfg.Visibility/2 }) {
			continue
		}
		if err := q.hide(ctx, held, r.d.cfg.Visibility); err != nil {
			return err
		}
		for _, l := range held {
			l.receivedAt = time.Now()
		}
	}
	return nil
}

func (r *redrive) fail(l *letter, err error) {
	r.tell(Redriven{DeadEvent: l.describe(r.c, r.newest), Outcome: OutcomeFailed, Error: err.Error()})
}

// of returns the letters of one queue.
func of(q *queue, letters []*letter) []*letter {
	var some []*letter
	for _, l := range letters {
		if l.queue == q {
			some = append(some, l)
		}
	}
	return some
}
