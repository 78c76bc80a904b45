package api

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/schema"
)

const (
	// maxBatch bounds the checkouts of one transaction: more gain little, and each
	// waits for all.
	maxBatch = 128
	// maxBatchLines bounds its lines, up to those of its last checkout.
	maxBatchLines = 512
	// batchLockTimeout is how long a batch waits for a product. After that its
	// checkouts are decided one by one, and each waits for itself.
	batchLockTimeout = 250 * time.Millisecond
	// maxLooks bounds how often a checkout looks again at stock that keeps changing
	// between the decision and the opening of a replenishment.
	maxLooks = 8
)

// committer decides checkouts. One goroutine takes whatever waits, decides it in one
// transaction and takes again, without lingering: a checkout alone goes at once, and
// while a transaction commits the next batch gathers. What might hold it up goes on
// beside it, on the connections of the store: checkouts of a product that somebody else
// has locked, those of a batch that failed, each alone, and those that need a
// replenishment opened.
type committer struct {
	queue    chan *ticket
	patience time.Duration // that a checkout waits to be taken
	store    *store        // of the one goroutine
	beside   *store
	metrics  *metrics
	log      zerolog.Logger
	quit     chan struct{}
	others   sync.WaitGroup
	places   chan struct{} // taken by those who may wait long beside it
	again    chan *ticket  // those that come out of a room

	held  atomic.Int32 // how many rooms there are
	mu    sync.Mutex   // of what follows
	rooms map[string]*room
}

// ticket is one checkout in the queue.
type ticket struct {
	*purchase

	state  atomic.Int32
	seats  int // in rooms, that it had
	since  time.Time
	last   []lineDecision // while depleted, what was decided of each line
	answer chan verdict   // has room for the one that comes
}

// States of a ticket. One that is taken is decided, whoever goes away.
const (
	waiting int32 = iota
	taken
	dropped
)

// take makes a ticket one that is decided, unless its client has gone.
func (c *committer) take(t *ticket) bool {
	if t.state.CompareAndSwap(waiting, taken) {
		c.metrics.wait.Observe(time.Since(t.since).Seconds())
	}
	return t.state.Load() == taken
}

// checkout has p decided. It returns before that only while p is not taken.
func (c *committer) checkout(ctx context.Context, p *purchase) (decision, error) {
	if ctx.Err() != nil {
		return decision{}, ctx.Err()
	}
	t := &ticket{purchase: p, since: time.Now(), answer: make(chan verdict, 1)}
	if err := c.enqueue(t); err != nil {
		return decision{}, err
	}
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	var cause error
	select {
	case v := <-t.answer:
		return v.decision, v.err
	case <-timer.C:
		cause = errNoTurn
	case <-ctx.Done():
		cause = ctx.Err()
	}
	if t.state.CompareAndSwap(waiting, dropped) {
		return decision{}, cause
	}
	v := <-t.answer
	return v.decision, v.err
}

func (c *committer) enqueue(t *ticket) error {
	select {
	case <-c.quit:
		return errStopped
	default:
	}
	select {
	case c.queue <- t:
		return nil
	default:
		return overloaded()
	}
}

// run decides checkouts until stop, which must not come before all are answered.
func (c *committer) run() {
	for {
		select {
		case t := <-c.queue:
			c.decide(c.gather(t))
		case t := <-c.again:
			c.decide(c.gather(t))
		case <-c.quit:
			c.others.Wait()
			return
		}
	}
}

func (c *committer) stop() { close(c.quit) }

// gather takes t and whatever else waits, but for the products that have a room.
func (c *committer) gather(t *ticket) []*ticket {
	var batch []*ticket
	lines := 0
	for {
		if !c.seated(t) && c.take(t) {
			batch = append(batch, t)
			lines += len(t.lines)
		}
		if len(batch) == maxBatch || lines >= maxBatchLines {
			return batch
		}
		select {
		case t = <-c.queue:
		case t = <-c.again:
		default:
			return batch
		}
	}
}

func (c *committer) decide(batch []*ticket) {
	if len(batch) == 0 {
		return
	}
	c.metrics.batch.Observe(float64(len(batch)))
	err := c.try(c.store, batch)
	if outwaited(err) {
		if batch = c.makeWay(batch); len(batch) == 0 {
			return
		}
		if err = c.try(c.store, batch); outwaited(err) {
			batch = c.withoutKeys(batch)
		}
	}
	c.conclude(batch, err)
}

// conclude answers tickets that were decided together and got err, or decides them one by one.
func (c *committer) conclude(batch []*ticket, err error) {
	if splits(err, batch) {
		c.split(batch)
		return
	}
	fail(batch, err)
}

// try decides tickets together. Those of them that need a replenishment get it beside.
// After an error none is answered.
func (c *committer) try(s *store, tickets []*ticket) error {
	depleted, err := c.settle(s, tickets)
	if len(depleted) > 0 {
		c.others.Go(func() { c.replenish(depleted) })
	}
	return err
}

// settle decides tickets in one transaction and answers them, but for those that it
// returns, for which a replenishment is due. After an error none is answered.
func (c *committer) settle(s *store, tickets []*ticket) (depleted []*ticket, err error) {
	purchases := make([]*purchase, len(tickets))
	for i, t := range tickets {
		purchases[i] = t.purchase
	}
	all, err := c.guard(s, purchases)
	if err != nil {
		return nil, err
	}
	for i, t := range tickets {
		if all[i].err == nil && all[i].outcome == decidedDepleted {
			t.last = all[i].lines
			depleted = append(depleted, t)
			continue
		}
		t.answer <- all[i]
	}
	return depleted, nil
}

// guard turns a panic into an error: the process lives. Where it happened the
// transaction may be over, so nothing is known of its outcome.
func (c *committer) guard(s *store, purchases []*purchase) (all []verdict, err error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		c.metrics.panics.Inc()
		c.log.Error().Str("trace_id", purchases[0].trace.traceID()).Bytes("stack", debug.Stack()).Msg("panic while deciding checkouts")
		all, err = make([]verdict, len(purchases)), nil
		for i, p := range purchases {
			all[i].err = outcomeUnknown(p.order, fmt.Errorf("panic: %v", v))
		}
	}()
	return s.decideTogether(context.Background(), purchases)
}

// fail answers tickets that share an error, if there is one.
func fail(tickets []*ticket, err error) {
	if err == nil {
		return
	}
	for _, t := range tickets {
		t.answer <- verdict{err: err}
	}
}

// splits tells whether a batch that failed is to be decided one by one: the server
// said no, so nothing is kept, and said it of this work and not of itself.
func splits(err error, batch []*ticket) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || !isRollback(err) {
		return false
	}
	if len(batch) == 1 {
		return outwaited(err) // it may wait longer elsewhere
	}
	return !isReadOnly(err) && pg.Code[:min(2, len(pg.Code))] != "53" && pg.Code[:min(3, len(pg.Code))] != "57P"
}

// split decides tickets one by one.
func (c *committer) split(tickets []*ticket) {
	c.metrics.splits.Inc()
	for _, t := range tickets {
		c.others.Go(func() {
			one := []*ticket{t}
			if !c.place() {
				fail(one, errNoTurn)
				return
			}
			defer func() { <-c.places }()
			fail(one, c.try(c.beside, one))
		})
	}
}

// replenish opens the replenishments that tickets need, and decides them again:
// each answer names one that is there, unless the stock has risen.
func (c *committer) replenish(tickets []*ticket) {
	for range maxLooks {
		depleted, err := c.openAndSettle(tickets)
		if len(tickets) > 1 && splits(err, tickets) {
			c.split(tickets)
			return
		}
		fail(tickets, err)
		if len(depleted) == 0 {
			return
		}
		tickets = depleted
	}
	fail(tickets, errUnsettled)
}

// openAndSettle opens one for each product, for the first that asked.
func (c *committer) openAndSettle(tickets []*ticket) ([]*ticket, error) {
	opened := map[string]bool{}
	for _, t := range tickets {
		for i, l := range t.lines {
			if !t.last[i].short || t.last[i].replenishment != uuid.Nil || opened[l.sku] {
				continue
			}
			opened[l.sku] = true
			err := c.beside.open(context.Background(), opening{id: schema.NewID(), event: schema.NewID(), sku: l.sku, asked: l.quantity, trace: t.trace})
			if err != nil {
				return nil, err
			}
		}
	}
	return c.settle(c.beside, tickets)
}
