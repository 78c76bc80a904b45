package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/service"
)

// mostViewers bounds how many watch at once.
const mostViewers = 32

// viewer is one who watches: the latest report that it has not taken yet.
type viewer chan []byte

// sampler keeps what was seen last, and hands it to all who watch. What many see is looked
// at once.
type sampler struct {
	mu      sync.Mutex
	latest  []byte // a report, as JSON; nil before the first look
	history history
	viewers map[viewer]bool
}

func newSampler() *sampler { return &sampler{viewers: map[viewer]bool{}} }

// sample looks again and again. That something cannot be asked is in the report.
func (c *Console) sample(ctx context.Context) error {
	for {
		began := time.Now()
		report, err := c.cfg.Status.Look(ctx)
		if err != nil {
			return err
		}
		if err := c.sampler.tell(report); err != nil {
			return err
		}
		if err := service.Sleep(ctx, max(c.cfg.Interval, time.Since(began))); err != nil {
			return err
		}
	}
}

// tell keeps a report and hands it out. Whoever has not taken the one before by now is
// dropped: it is not waited for, and comes back by itself if it still lives.
func (s *sampler) tell(r ops.StatusReport) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the status: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest = text
	s.history.add(pointOf(r))
	for v := range s.viewers {
		select {
		case v <- text:
		default:
			s.remove(v)
		}
	}
	return nil
}

// join lets somebody watch, from the latest report on, unless too many do.
func (s *sampler) join() (v viewer, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.viewers) >= mostViewers {
		return nil, false
	}
	v = make(viewer, 1)
	if s.latest != nil {
		v <- s.latest
	}
	s.viewers[v] = true
	return v, true
}

func (s *sampler) leave(v viewer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(v)
}

func (s *sampler) remove(v viewer) {
	if s.viewers[v] {
		delete(s.viewers, v)
		close(v)
	}
}

func (c *Console) status(http.ResponseWriter, *http.Request) (any, error) {
	c.sampler.mu.Lock()
	defer c.sampler.mu.Unlock()
	if c.sampler.latest == nil {
		return nil, notYet("the first look goes on")
	}
	return json.RawMessage(c.sampler.latest), nil
}

func (c *Console) history(http.ResponseWriter, *http.Request) (any, error) {
	c.sampler.mu.Lock()
	defer c.sampler.mu.Unlock()
	return c.sampler.history.since(time.Now().Add(-historyFor)), nil
}
