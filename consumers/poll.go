package consumers

import (
	"context"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/restock-dev/restock/internal/service"
)

// poll keeps as many receives under way as intake allows, until ctx ends.
func (w *Worker) poll(ctx, work context.Context) {
	pause := service.Backoff{Max: DefaultWait}
	for {
		if n := w.receiveFailures.Load(); n > 0 && service.Sleep(ctx, pause.Delay(int(n))) != nil {
			return
		}
		probe, err := w.admit(ctx)
		if err != nil {
			return
		}
		switch {
		case probe && w.intake.idle() && w.intake.begin(): // one message, and nothing beside it
			w.receive(ctx, work, 1)
			continue
		case !probe && w.intake.begin():
			w.receives.Go(func() { w.receive(ctx, work, maxBatch) })
			continue
		}
		select {
		case <-w.intake.changed:
		case <-ctx.Done():
			return
		}
	}
}

// admit waits while the inbox or the other side is down. Once there is hope, what
// it admits is a probe.
func (w *Worker) admit(ctx context.Context) (probe bool, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if n := w.inboxFailures.Load(); n > 0 {
			if err := w.awaitInbox(ctx, int(n)); err != nil {
				continue
			}
			probe = true
		}
		switch w.processor.circuit.state() {
		case gobreaker.StateOpen:
			if err := service.Sleep(ctx, w.processor.circuit.untilProbe()); err != nil {
				return false, err
			}
		case gobreaker.StateHalfOpen:
			return true, nil
		case gobreaker.StateClosed:
			return probe, nil
		}
	}
}

// awaitInbox waits a little and then asks the database whether it is there, and of use.
func (w *Worker) awaitInbox(ctx context.Context, failures int) error {
	pause := service.Backoff{Max: w.cfg.CircuitOpen}
	if err := service.Sleep(ctx, pause.Delay(failures)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bookkeeping)
	defer cancel()
	if err := w.processor.inbox.usable(ctx); err != nil {
		w.inboxFailures.Add(1)
		w.metrics.inboxUp.Set(0)
		return err
	}
	w.metrics.inboxUp.Set(1)
	return nil
}

// receive makes one receive and starts the groups that it brings. Where the worker
// was told to stop meanwhile it puts back what it brings.
func (w *Worker) receive(ctx, work context.Context, count int) {
	w.metrics.polls.Inc()
	messages, err := w.queue.receive(ctx, count)
	w.metrics.polls.Dec()
	groups := byGroup(messages, func(h *held) string { return h.group })
	w.noteReceive(ctx, len(messages), err)
	w.intake.end(len(messages), len(groups))
	w.renewer.add(messages)
	for _, group := range groups {
		w.groups.Go(func() { w.runGroup(ctx, work, group) })
	}
}

func (w *Worker) noteReceive(ctx context.Context, messages int, err error) {
	if err != nil && ctx.Err() != nil {
		return // cut by the stop
	}
	w.receiveError.Store(&err)
	if err != nil {
		w.receiveFailures.Add(1)
		w.metrics.receives.WithLabelValues("error").Inc()
		w.log.Error().Err(err).Msg("queue not polled")
		return
	}
	w.receiveFailures.Store(0)
	if messages == 0 {
		w.metrics.receives.WithLabelValues("empty").Inc()
		return
	}
	w.metrics.receives.WithLabelValues("messages").Inc()
	w.metrics.received.Add(float64(messages))
}

// runGroup works through the messages of a group once it has a slot; they are
// renewed meanwhile.
func (w *Worker) runGroup(ctx, work context.Context, group []*held) {
	back, delay := group, time.Duration(0)
	select {
	case w.slots <- struct{}{}:
		back, delay = runGroup(group, func(h *held) (time.Duration, bool) { return w.step(ctx, work, h) })
		<-w.slots
	case <-ctx.Done():
	}
	if last := w.intake.groupDone(); last {
		w.deleter.flush(work)
	}
	w.putBack(work, back, delay)
	w.intake.gone(len(back))
}
