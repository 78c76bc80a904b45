package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/restock-dev/restock/internal/service"
)

// slotTimeout is how long making a slot, and looking for what it has gone past, wait
// for open transactions before it is said which they are and tried again.
const slotTimeout = time.Minute

// heal does what was decided, and returns when all that has gone past the slot is in
// the ledger, or in the session's lanes. It ends as a stream does when ctx ends or the
// lock is lost.
func (r *Relay) heal(ctx context.Context, cfg Config, g *guard, l *ledger, s *session, p publication, due remedy) error {
	r.state.Store(sweeping)
	r.missedSince.CompareAndSwap(0, time.Now().UnixNano()) // what is missed is not known before a slot stands, which may take long
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
		err = r.sweep(ctx, live, cfg, g, l, s, p, due)
	}
	switch cause := context.Cause(live); {
	case cause != nil && err != nil:
		return fmt.Errorf("%w: %w", cause, err)
	case cause != nil: // it came at the end
		return cause
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

// sweep publishes what is not in the ledger. When all of it is in the pipeline, the
// pipeline stops: what has not gone yet, or was refused, stays in the lanes for the
// stream to queue behind. Waiting for that would leave the refused without a witness,
// and all others without a stream.
func (r *Relay) sweep(ctx, live context.Context, cfg Config, g *guard, l *ledger, s *session, p publication, due remedy) error {
	hard, cancel := r.hard(ctx)
	defer cancel()
	r.current.Store(s)
	chunks, drained := make(chan []change), make(chan error)
	go func() { drained <- s.pipeline.run(hard, chunks) }()
	sw := &sweep{pool: r.pool, table: p.table, shard: cfg.shard, newTable: due.newTable, window: s.window, out: chunks, begun: func(m missed) { r.sayMissed(cfg, due, m) }}
	found, err := sw.run(live)
	if unrecorded := <-drained; unrecorded != nil {
		return fmt.Errorf("%w: %w", errUnrecorded, unrecorded)
	}
	if err != nil {
		return err
	}
	if err := l.sweptUpTo(live, found.upTo); err != nil {
		return err
	}
	s.swept = found.events
	if s.left = s.pipeline.leave(); len(s.left) > 0 {
		cfg.Logger.Info().Int("events", s.swept).Int("left", len(s.left)).Msg("swept but for what is still to be published: the stream goes on beside it")
		return nil
	}
	return r.endSweep(live, cfg, g, l, s)
}

// endSweep notes that nothing of a sweep is left. One that has lost the lock does not: the
// next relay may have noted meanwhile that another one is due.
func (r *Relay) endSweep(ctx context.Context, cfg Config, g *guard, l *ledger, s *session) error {
	for !g.holds(time.Now()) {
		if err := service.Sleep(ctx, lockRecheck); err != nil {
			return err
		}
	}
	if err := l.sweepDone(ctx); err != nil {
		return err
	}
	r.missedSince.Store(0)
	l.metrics.sweeps.Inc()
	cfg.Logger.Info().Int("events", s.swept).Msg("swept: the ledger holds all that had gone past the slot")
	return nil
}

// endSweepWhenDone does so when the last of it is recorded, unless ctx ends before.
func (r *Relay) endSweepWhenDone(ctx context.Context, cfg Config, g *guard, l *ledger, s *session) error {
	select {
	case <-s.pipeline.noneLeft:
		return r.endSweep(ctx, cfg, g, l, s)
	case <-ctx.Done():
		return nil
	}
}

// sayMissed tells in one line what has happened and what is affected.
func (r *Relay) sayMissed(cfg Config, due remedy, m missed) {
	r.metrics.Load().swept.Add(float64(m.events))
	line := cfg.Logger.Warn().Str("because", due.sweep).Bool("new_slot", due.newSlot).Int("events", m.events)
	r.missedSince.Store(0)
	if m.events > 0 {
		r.missedSince.Store(time.Now().Add(-m.age).UnixNano())
		line = line.Stringer("oldest", m.age.Round(time.Second))
	}
	if due.newTable {
		line = line.Int("ledger_without_event", m.gone)
	}
	line.Msg("events may have gone past the slot: those that the ledger does not hold are published, again where it was the ledger that lost them")
}
