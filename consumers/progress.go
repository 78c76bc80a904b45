package consumers

import (
	"fmt"
	"sync"
	"time"
)

// progress watches whether messages in hand are finished with. It is safe for
// concurrent use.
type progress struct {
	now func() time.Time

	mu     sync.Mutex
	inHand int
	moved  time.Time // when a message was finished last, or the first was taken in hand
}

// hold notes how many messages are in hand.
func (p *progress) hold(inHand int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inHand == 0 {
		p.moved = p.now()
	}
	p.inHand = inHand
}

// finished notes that an attempt ended, however it did.
func (p *progress) finished() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved = p.now()
}

// stalled is for how long messages have been in hand without an attempt that ended.
func (p *progress) stalled() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inHand == 0 {
		return 0
	}
	return max(0, p.now().Sub(p.moved))
}

// Progress is an error while messages are in hand and no attempt at any has ended for
// two leases, though each is cut off within one. It is nil while there are none: an
// empty queue, or a circuit that is open, which Ready tells. Safe for concurrent use.
func (w *Worker) Progress() error {
	if stalled := w.renewer.progress.stalled(); stalled >= 2*w.cfg.Lease {
		return fmt.Errorf("consumer %s has messages in hand and has finished none for %s: see its log, then start it again",
			w.cfg.Interest.Consumer, stalled.Round(time.Second))
	}
	return nil
}
