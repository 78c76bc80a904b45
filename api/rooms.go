package api

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// maxSeats bounds how often a checkout waits for products that are locked again and again.
const maxSeats = 2

// room is where checkouts wait for a product that somebody else has locked. All of one
// product wait together on one connection, so that however many come, neither the other
// checkouts nor whatever else needs a connection waits with them. Meanwhile they hold no
// other product, else a single locked one would become as many as are bought with it.
type room struct {
	sku     string
	tickets []*ticket
}

// outwaited tells that a product was locked for longer than the connection waits, and so
// that nothing was decided: what is said of a COMMIT without an answer, or while it was
// looked for, is no such thing.
func outwaited(err error) bool {
	var pg *pgconn.PgError
	return !isUnsure(err) && errors.As(err, &pg) && pg.Code == "55P03"
}

// makeWay has the tickets of a batch whose products somebody holds wait in rooms, and
// returns the others. Where it cannot tell it returns all.
func (c *committer) makeWay(batch []*ticket) []*ticket {
	skus := map[string]bool{}
	for _, t := range batch {
		for _, l := range t.lines {
			skus[l.sku] = true
		}
	}
	held, err := c.store.held(context.Background(), slices.Collect(maps.Keys(skus)))
	if err != nil {
		c.log.Warn().Err(err).Msg("a batch of checkouts waits for a lock, and which product is locked cannot be told")
		return batch
	}
	var rest []*ticket
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range batch {
		i := slices.IndexFunc(t.lines, func(l line) bool { return held[l.sku] })
		if i < 0 {
			rest = append(rest, t)
			continue
		}
		c.seat(c.roomOf(t.lines[i].sku), t)
	}
	return rest
}

// withoutKeys decides those of a batch that have no key, and returns the others. What is
// locked is no product; where it is the keys' table, those with one would take all places
// to wait for it. Where it is something else too it returns all: none was decided.
func (c *committer) withoutKeys(batch []*ticket) []*ticket {
	var keyed, others []*ticket
	for _, t := range batch {
		if t.key != nil {
			keyed = append(keyed, t)
		} else {
			others = append(others, t)
		}
	}
	if len(keyed) == 0 || len(others) == 0 {
		return batch
	}
	err := c.try(c.store, others)
	if outwaited(err) {
		return batch
	}
	c.conclude(others, err)
	return keyed
}

// seated has t wait in a room if there is one for a product of it.
func (c *committer) seated(t *ticket) bool {
	if c.held.Load() == 0 { // as almost always
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range t.lines {
		if r := c.rooms[l.sku]; r != nil {
			c.seat(r, t)
			return true
		}
	}
	return false
}

func (c *committer) roomOf(sku string) *room {
	r := c.rooms[sku]
	if r == nil {
		r = &room{sku: sku}
		c.rooms[sku] = r
		c.held.Add(1)
		c.log.Warn().Str("sku", sku).Msg("a product is locked by another transaction: its checkouts wait by themselves")
		c.others.Go(func() { c.serve(r) })
	}
	return r
}

// seat bounds a room as the queue is.
func (c *committer) seat(r *room, t *ticket) {
	if t.seats++; t.seats > maxSeats {
		t.answer <- verdict{err: errNoTurn}
		return
	}
	if len(r.tickets) < cap(c.queue) {
		r.tickets = append(r.tickets, t)
		return
	}
	if c.take(t) {
		t.answer <- verdict{err: overloaded()}
	}
}

// serve decides who waits in a room, until nobody does. Once the product could be locked
// whoever comes later is decided with all others again.
func (c *committer) serve(r *room) {
	for {
		free := c.place()
		tickets := c.next(r)
		switch {
		case len(tickets) == 0:
		case free:
			c.letIn(r, tickets)
		default:
			fail(tickets, errNoTurn)
		}
		if free {
			<-c.places
		}
		if len(tickets) == 0 {
			return
		}
	}
}

// letIn waits for the product of a room, and decides those tickets together that want
// nothing else. The others are decided by the one goroutine, which waits for no product
// for long.
func (c *committer) letIn(r *room, tickets []*ticket) {
	var alone, others []*ticket
	for _, t := range tickets {
		if len(t.lines) == 1 {
			alone = append(alone, t)
		} else {
			others = append(others, t)
		}
	}
	var err error
	if len(alone) > 0 {
		err = c.try(c.beside, alone)
	} else {
		err = c.beside.await(context.Background(), r.sku)
	}
	if outwaited(err) {
		fail(tickets, err)
		return
	}
	c.mu.Lock()
	c.close(r)
	c.mu.Unlock()
	for _, t := range others {
		c.again <- t
	}
	if len(alone) > 0 && splits(err, alone) {
		c.split(alone)
		return
	}
	fail(alone, err)
}

// next takes who waits in a room, and closes it where nobody does.
func (c *committer) next(r *room) (tickets []*ticket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(r.tickets) > 0 && len(tickets) < maxBatch {
		if t := r.tickets[0]; c.take(t) {
			tickets = append(tickets, t)
		}
		r.tickets = r.tickets[1:]
	}
	if len(tickets) == 0 {
		c.close(r)
	}
	return tickets
}

// close has nobody else wait in a room.
func (c *committer) close(r *room) {
	if c.rooms[r.sku] == r {
		delete(c.rooms, r.sku)
		c.held.Add(-1)
	}
}

// place waits for one of the places beside the one goroutine, and tells whether one came
// free in time. There are half as many as connections: the rest is for other requests.
func (c *committer) place() bool {
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	select {
	case c.places <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

// await waits until nobody else has a product locked.
func (s *store) await(ctx context.Context, sku string) error {
	return s.once(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		_, err := conn.Exec(ctx, `SELECT FROM products WHERE sku = $1 FOR NO KEY UPDATE`, sku)
		return err
	})
}

// held returns which of the products somebody else has locked at the moment.
func (s *store) held(ctx context.Context, skus []string) (map[string]bool, error) {
	held := map[string]bool{}
	err := s.once(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		rows, err := conn.Query(ctx, `
			WITH free AS MATERIALIZED (SELECT sku FROM products WHERE sku = ANY($1) FOR NO KEY UPDATE SKIP LOCKED)
			SELECT sku FROM products WHERE sku = ANY($1) AND sku NOT IN (SELECT sku FROM free)`, skus)
		if err != nil {
			return err
		}
		var sku string
		_, err = pgx.ForEachRow(rows, []any{&sku}, func() error {
			held[sku] = true
			return nil
		})
		return err
	})
	return held, err
}
