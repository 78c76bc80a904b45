package relay

import (
	"context"
	"fmt"
	"time"
)

// slotTimeout is how long making a slot, and looking for what it has gone past, wait
// for open transactions before it is said which they are and tried again.
const slotTimeout = time.Minute

// heal does what was decided, and returns when all that has gone past the slot is
// in the ledger. It ends as a stream does when ctx ends or the lock is lost.
func (r *Relay) heal(ctx context.Context, cfg Config, g *guard, l *ledger, parked *groups, p publication, due remedy) error {
	r.state.Store(sweeping)
	live, fail := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if err := g.watch(live, func() { fail(errReassigned) }); err != nil {
			fail(err)
		}
	}()
	defer func() {
		fail(nil)
		<-watched
	}()
	err := r.standSlot(live, cfg.Slot, p.id, due)
	if err == nil {
		err = r.sweep(ctx, live, cfg, g, l, parked, p, due)
	}
	if cause := context.Cause(live); err != nil && cause != nil {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// standSlot makes sure that a slot stands, that a snapshot sees whatever it has gone
// past, and that a crash from here on leads back here.
func (r *Relay) standSlot(ctx context.Context, slot string, id publicationID, due remedy) error {
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Release()
	if err := sweepDue(ctx, conn, slot, due.sweep); err != nil {
		return err
	}
	if due.newSlot {
		if err := makeSlot(ctx, conn.Conn(), slot, slotTimeout); err != nil {
			return err
		}
		r.stale = ""
	}
	if err := sweepFrom(ctx, conn, slot, id); err != nil {
		return err
	}
	return awaitVisible(ctx, conn.Conn(), slot, slotTimeout)
}

// sweep publishes what is not in the ledger, by a pipeline of its own that is empty
// when it returns: the stream's first event finds the last of it recorded.
func (r *Relay) sweep(ctx, live context.Context, cfg Config, g *guard, l *ledger, parked *groups, p publication, due remedy) error {
	hard, cancel := r.hard(ctx)
	defer cancel()
	w, hb := newWindow(cfg.Window), newHeartbeat(cfg, r.pool)
	pipeline := newPipeline(cfg, l, w, l.metrics, 0, hb.read, g.holds)
	pipeline.groups, pipeline.moved = parked, &r.moved
	r.current.Store(&session{w, pipeline, hb})
	defer r.missedSince.Store(0)
	chunks, drained := make(chan []change), make(chan error)
	go func() { drained <- pipeline.run(hard, chunks) }()
	s := &sweep{pool: r.pool, table: p.table, shard: cfg.shard, newTable: due.newTable, window: w, out: chunks, begun: func(m missed) { r.sayMissed(cfg, due, m) }}
	found, err := s.run(live)
	if unrecorded := <-drained; unrecorded != nil {
		return fmt.Errorf("%w: %w", errUnrecorded, unrecorded)
	}
	if err != nil {
		return err
	}
	if err := l.sweepDone(live, found.upTo); err != nil {
		return err
	}
	l.metrics.sweeps.Inc()
	cfg.Logger.Info().Int("events", found.events).Msg("swept: the ledger holds all that had gone past the slot")
	return nil
}

// sayMissed tells in one line what has happened and what is affected.
func (r *Relay) sayMissed(cfg Config, due remedy, m missed) {
	r.metrics.Load().swept.Add(float64(m.events))
	line := cfg.Logger.Warn().Str("because", due.sweep).Bool("new_slot", due.newSlot).Int("events", m.events)
	if m.events > 0 {
		r.missedSince.Store(time.Now().Add(-m.age).UnixNano())
		line = line.Stringer("oldest", m.age.Round(time.Second))
	}
	if due.newTable {
		line = line.Int("ledger_without_event", m.gone)
	}
	line.Msg("events may have gone past the slot: those that the ledger does not hold are published before the stream goes on, " +
		"again where it was the ledger that lost them")
}
