package ops

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/restock-dev/restock/schema"
)

// Defaults of DLQConfig.
const (
	DefaultVisibility = 5 * time.Minute
	DefaultWait       = time.Second
	DefaultMemory     = 64 << 20
)

// DLQConfig is what a DLQ needs. Consumers and SQS must be given.
type DLQConfig struct {
	Consumers []Consumer
	SQS       *SQS
	// Visibility is how long a message is hidden from others while it is looked at:
	// what a crash costs. It is renewed for a walk that takes longer. Whole seconds,
	// default DefaultVisibility.
	Visibility time.Duration
	// Wait is how long a queue is asked before it counts as walked to its end. A
	// queue asked without waiting may say that it is empty and is not. Default
	// DefaultWait, negative is not at all.
	Wait time.Duration
	// Memory bounds the bodies held by a redrive, in bytes, but for one group's.
	// Default DefaultMemory.
	Memory int
	Logger zerolog.Logger

	unreachable []Unreachable
}

// Consumer is one consumer with its queues and its databases.
type Consumer struct {
	Interest                             schema.Interest
	QueueURL, DLQURL, SubscriptionDLQURL string
	// Inbox is the database with its inbox, and Outbox the one that its events come
	// from, each as schema.RoleMaintenance. They may be the same.
	Inbox, Outbox *pgxpool.Pool
}

// DLQ is the dead-letter queues of some consumers. It is safe for concurrent use.
type DLQ struct {
	cfg       DLQConfig
	consumers []*consumer
}

// consumer is a Consumer at work.
type consumer struct {
	name  string
	queue *queue
	dlqs  []*queue // the worker's, then the subscription's
	books
}

// NewDLQ makes a DLQ. It calls nothing yet.
func NewDLQ(cfg DLQConfig) (*DLQ, error) {
	if cfg.Visibility == 0 {
		cfg.Visibility = DefaultVisibility
	}
	if cfg.Wait == 0 {
		cfg.Wait = DefaultWait
	}
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	d := &DLQ{cfg: cfg}
	if cfg.SQS == nil || len(cfg.Consumers) == 0 {
		return nil, errors.New("dead-letter queues: an SQS client and a consumer are both needed")
	}
	for _, c := range cfg.Consumers {
		if c.Interest.Consumer == "" || c.QueueURL == "" || c.DLQURL == "" || c.SubscriptionDLQURL == "" || c.Inbox == nil || c.Outbox == nil {
			return nil, fmt.Errorf("dead-letter queues of %q: interest, queues and databases are all needed", c.Interest.Consumer)
		}
		d.consumers = append(d.consumers, &consumer{
			name:  c.Interest.Consumer,
			queue: &queue{cfg.SQS, c.QueueURL},
			dlqs:  []*queue{{cfg.SQS, c.DLQURL}, {cfg.SQS, c.SubscriptionDLQURL}},
			books: books{interest: c.Interest, inbox: c.Inbox, outbox: c.Outbox},
		})
	}
	return d, nil
}

// choose returns the named consumers, or all where none is named.
func (d *DLQ) choose(names []string) ([]*consumer, error) {
	if len(names) == 0 {
		return d.consumers, nil
	}
	var chosen []*consumer
	for _, name := range names {
		i := slices.IndexFunc(d.consumers, func(c *consumer) bool { return c.name == name })
		if i < 0 {
			return nil, refuse("no consumer %q here", name)
		}
		if !slices.Contains(chosen, d.consumers[i]) {
			chosen = append(chosen, d.consumers[i])
		}
	}
	return chosen, nil
}

// DeadEvent is one event in a consumer's dead-letter queues.
type DeadEvent struct {
	Consumer string     `json:"consumer"`
	Queue    string     `json:"queue"`
	EventID  uuid.UUID  `json:"eventId"`
	ReplayID *uuid.UUID `json:"replayId,omitempty"` // of a replay
	Type     string     `json:"type,omitempty"`     // empty: the message is no event that can be read
	Group    string     `json:"group"`
	Sequence int64      `json:"sequence,omitempty"`
	Since    time.Time  `json:"since"` // when it died, or came into the queue where the inbox does not tell
	State    string     `json:"state"` // of the inbox row, empty without one
	Attempts int        `json:"attempts"`
	Reason   string     `json:"reason,omitempty"` // the last error, or that SNS could not deliver it
	// Messages is how many of its messages were received: a crash may have left
	// more than one. 0 is a hidden event, known from the inbox alone.
	Messages int `json:"messages"`
	// NewerDone is the sequence of a later event of the group that the consumer has
	// handled already, 0 where there is none.
	NewerDone int64 `json:"newerDone,omitempty"`
}

// Hidden tells that the queue did not show the event, because it lies behind
// others of its group.
func (e DeadEvent) Hidden() bool { return e.Messages == 0 }

// QueueCount is what a queue said and showed.
type QueueCount struct {
	Queue    string `json:"queue"`
	Waiting  int    `json:"waiting"`  // about how many messages were there to be received
	Held     int    `json:"held"`     // about how many somebody else held, and nobody could see
	Received int    `json:"received"` // how many were looked at
}

// Listing is what is in the dead-letter queues.
type Listing struct {
	Events []DeadEvent `json:"events"` // by consumer, group and sequence
	// Next is where the list of events goes on, empty at its end. Each part is another walk
	// through the queues.
	Next   string       `json:"next,omitempty"`
	Queues []QueueCount `json:"queues"`
	// Unreachable are the databases without which the consumers that need them were left out.
	Unreachable []Unreachable `json:"unreachable,omitempty"`
}

// List lists what is in the dead-letter queues of the named consumers, or of all
// where none is named: one line for each event. It changes nothing.
func (d *DLQ) List(ctx context.Context, c Cursor, consumers ...string) (Listing, error) {
	var after deadPlace
	if err := c.read(&after.consumer, &after.group, &after.sequence, &after.event, &after.replay); err != nil {
		return Listing{}, err
	}
	chosen, err := d.choose(consumers)
	if err != nil {
		return Listing{}, err
	}
	each, err := inParallel(chosen, func(c *consumer) (Listing, error) { return d.survey(ctx, c) })
	if err != nil {
		return Listing{}, fmt.Errorf("list dead letters of %w", err)
	}
	all := Listing{Queues: []QueueCount{}, Unreachable: d.cfg.unreachable}
	var events []DeadEvent
	for _, l := range each {
		all.Queues = append(all.Queues, l.Queues...)
		for _, e := range l.Events {
			if c.After == "" || after.before(placeOf(e)) {
				events = append(events, e)
			}
		}
	}
	slices.SortStableFunc(events, func(a, b DeadEvent) int { return placeOf(a).compare(placeOf(b)) })
	part := pageOf(events, c.Most, func(e DeadEvent) []any {
		p := placeOf(e)
		return []any{p.consumer, p.group, p.sequence, p.event, p.replay}
	})
	all.Events, all.Next = part.Items, part.Next
	return all, nil
}

// deadPlace is where a dead event stands in a list.
type deadPlace struct {
	consumer, group string
	sequence        int64
	event, replay   uuid.UUID
}

func placeOf(e DeadEvent) deadPlace {
	p := deadPlace{consumer: e.Consumer, group: e.Group, sequence: e.Sequence, event: e.EventID}
	if e.ReplayID != nil {
		p.replay = *e.ReplayID
	}
	return p
}

func (p deadPlace) compare(other deadPlace) int {
	return cmp.Or(strings.Compare(p.consumer, other.consumer), strings.Compare(p.group, other.group), cmp.Compare(p.sequence, other.sequence),
		bytes.Compare(p.event[:], other.event[:]), bytes.Compare(p.replay[:], other.replay[:]))
}

func (p deadPlace) before(other deadPlace) bool { return p.compare(other) < 0 }

// inParallel looks at each consumer, at all of them at once: most of the time is
// spent waiting for queues to say that they have no more.
func inParallel[T any](consumers []*consumer, look func(*consumer) (T, error)) ([]T, error) {
	all := make([]T, len(consumers))
	var work errgroup.Group
	for i, c := range consumers {
		work.Go(func() (err error) {
			if all[i], err = look(c); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			return nil
		})
	}
	return all, work.Wait()
}

// survey walks a consumer's dead-letter queues and puts everything back.
func (d *DLQ) survey(ctx context.Context, c *consumer) (Listing, error) {
	w := newWalk(d, c)
	defer w.putBack()
	if err := w.all(ctx, (*letter).forget); err != nil {
		return Listing{}, err
	}
	events, err := w.events(ctx)
	return Listing{Events: events, Queues: w.counts}, err
}

// walk is a walk through the dead-letter queues of a consumer. It holds what it
// receives until putBack.
type walk struct {
	d       *DLQ
	c       *consumer
	letters []*letter          // in the order received, queue by queue
	held    map[string]*letter // by message id
	counts  []QueueCount
}

func newWalk(d *DLQ, c *consumer) *walk {
	return &walk{d: d, c: c, held: make(map[string]*letter)}
}

// all receives everything that can be received and hands each letter to keep,
// once its inbox row is known.
func (w *walk) all(ctx context.Context, keep func(*letter)) error {
	w.counts = w.counts[:0]
	for _, q := range w.c.dlqs {
		n := QueueCount{Queue: q.name()}
		var err error
		if n.Waiting, n.Held, err = q.count(ctx); err != nil {
			return err
		}
		for {
			letters, err := w.receive(ctx, q)
			if err != nil {
				return err
			}
			if len(letters) == 0 {
				break
			}
			n.Received += len(letters)
			w.letters = append(w.letters, letters...)
			if err := w.c.find(ctx, letters); err != nil {
				return err
			}
			for _, l := range letters {
				keep(l)
			}
		}
		w.counts = append(w.counts, n)
	}
	return nil
}

// receive takes a page of letters that are not held yet. One whose visibility ran
// out comes again: it is held anew.
func (w *walk) receive(ctx context.Context, q *queue) ([]*letter, error) {
	letters, err := q.receive(ctx, w.d.cfg.Visibility, w.d.cfg.Wait)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(letters, func(l *letter) bool {
		if before := w.held[l.messageID]; before != nil {
			before.receipt, before.receivedAt = l.receipt, l.receivedAt
			return true
		}
		l.identify()
		w.held[l.messageID] = l
		return false
	}), nil
}

// drop lets go of letters that were deleted or put back.
func (w *walk) drop(letters []*letter) {
	gone := make(map[*letter]bool, len(letters))
	for _, l := range letters {
		gone[l] = true
		delete(w.held, l.messageID)
	}
	w.letters = slices.DeleteFunc(w.letters, func(l *letter) bool { return gone[l] })
}

// events makes one line of each event of the walk, and adds those that it did
// not see.
func (w *walk) events(ctx context.Context) ([]DeadEvent, error) {
	newest, err := w.c.newestDone(ctx, w.letters)
	if err != nil {
		return nil, err
	}
	seen, groups, index := make(map[identity]bool), make(map[string]bool), make(map[identity]int)
	events := []DeadEvent{}
	for _, l := range w.letters {
		groups[l.group] = true
		if seen[l.identity] {
			events[index[l.identity]].Messages++
			continue
		}
		seen[l.identity], index[l.identity] = true, len(events)
		events = append(events, l.describe(w.c, newest))
	}
	unseen := 0
	if n := w.counts[0]; n.Waiting > n.Received {
		unseen = n.Waiting - n.Received
	}
	behind, err := w.c.hidden(ctx, seen, groups, unseen)
	if err != nil {
		return nil, err
	}
	for _, b := range behind {
		events = append(events, b.describe(w.c, newest))
	}
	slices.SortStableFunc(events, func(a, b DeadEvent) int {
		if n := strings.Compare(a.Group, b.Group); n != 0 {
			return n
		}
		return int(min(max(a.Sequence-b.Sequence, -1), 1))
	})
	return events, nil
}

// putBack gives back what the walk holds, also when its context has ended.
func (w *walk) putBack() { w.d.putBack(w.letters) }

func (d *DLQ) putBack(letters []*letter) {
	byQueue := make(map[*queue][]*letter)
	for _, l := range letters {
		byQueue[l.queue] = append(byQueue[l.queue], l)
	}
	for q, held := range byQueue {
		if err := q.hide(context.Background(), held, 0); err != nil {
			d.cfg.Logger.Warn().Err(err).Str("queue", q.name()).Dur("visibility", d.cfg.Visibility).
				Msg("not all messages were put back: they are seen again after the visibility timeout")
		}
	}
}

func (l *letter) describe(c *consumer, newest map[string]int64) DeadEvent {
	e := DeadEvent{
		Consumer: c.name, Queue: l.queue.name(), EventID: l.event, ReplayID: optional(l.replay), Type: l.eventType,
		Group: l.group, Sequence: l.sequence, Since: l.since(), State: l.row.state, Attempts: l.row.attempt, Reason: l.row.reason, Messages: 1,
	}
	if e.Reason == "" && l.queue == c.dlqs[1] {
		e.Reason = "SNS could not deliver it to " + c.queue.name()
	}
	e.noteNewer(newest)
	return e
}

func (b deep) describe(c *consumer, newest map[string]int64) DeadEvent {
	e := DeadEvent{
		Consumer: c.name, Queue: c.dlqs[0].name(), EventID: b.event, ReplayID: optional(b.replay), Type: b.eventType,
		Group: b.group, Sequence: b.sequence, Since: b.updatedAt.UTC(), State: b.state, Attempts: b.attempt, Reason: b.reason,
	}
	e.noteNewer(newest)
	return e
}

func (e *DeadEvent) noteNewer(newest map[string]int64) {
	if n := newest[e.Group]; e.Sequence > 0 && n > e.Sequence {
		e.NewerDone = n
	}
}

func optional(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}
