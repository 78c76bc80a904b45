package consumers

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// renewer keeps the messages in hand invisible. All of them are renewed at every
// half-life of the visibility timeout, so each has always half of it left: also
// those of a group that wait for their head.
type renewer struct {
	queue   *queue
	metrics *metrics
	log     zerolog.Logger
	// progress is told how many messages are in hand.
	progress *progress

	// calling is held while a renewal is under way, so that none lands on a message
	// after it was put back.
	calling sync.Mutex
	mu      sync.Mutex // guards inHand
	inHand  map[*held]struct{}
}

func newRenewer(q *queue, m *metrics, p *progress, log zerolog.Logger) *renewer {
	return &renewer{queue: q, metrics: m, log: log, progress: p, inHand: make(map[*held]struct{})}
}

// run renews at every tick until ctx ends.
func (r *renewer) run(ctx context.Context, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			r.renew(ctx)
		}
	}
}

func (r *renewer) renew(ctx context.Context) {
	r.calling.Lock()
	defer r.calling.Unlock()
	r.mu.Lock()
	messages := make([]*held, 0, len(r.inHand))
	for h := range r.inHand {
		messages = append(messages, h)
	}
	r.mu.Unlock()
	errs := r.queue.hide(ctx, messages, func(*held) time.Duration { return r.queue.visibility })
	r.metrics.renewals.WithLabelValues("ok").Add(float64(len(messages) - len(errs)))
	for h, err := range errs {
		if !r.holds(h) {
			continue // deleted meanwhile
		}
		// If it is seen again, its lease in the inbox holds the second delivery off.
		r.metrics.renewals.WithLabelValues("error").Inc()
		h.identify(r.log.Warn()).Err(err).Msg("visibility not renewed")
	}
}

func (r *renewer) add(messages []*held) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range messages {
		r.inHand[h] = struct{}{}
	}
	r.count()
}

// forget lets go of messages that are deleted.
func (r *renewer) forget(messages []*held) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range messages {
		delete(r.inHand, h)
	}
	r.count()
}

func (r *renewer) count() {
	r.metrics.inFlight.Set(float64(len(r.inHand)))
	r.progress.hold(len(r.inHand))
}

// release lets go of messages that are about to be put back, after a renewal that
// is under way.
func (r *renewer) release(messages []*held) {
	r.calling.Lock()
	defer r.calling.Unlock()
	r.forget(messages)
}

func (r *renewer) holds(h *held) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.inHand[h]
	return ok
}
