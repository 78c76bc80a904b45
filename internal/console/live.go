package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/restock-dev/restock/internal/service"
)

const (
	// heartbeat is how often a silent stream says that it is still there, so that
	// what stands between does not take it for dead.
	heartbeat = 15 * time.Second
	// sendWithin is how long a viewer may take for what is sent to it.
	sendWithin = 10 * time.Second
	// watchFor ends a stream. The browser comes back by itself, and is asked again who
	// it is.
	watchFor = 15 * time.Minute
)

// live sends each report as a server-sent event.
// https://html.spec.whatwg.org/multipage/server-sent-events.html
func (c *Console) live(w http.ResponseWriter, r *http.Request) {
	v, ok := c.sampler.join()
	if !ok {
		w.Header().Set("Retry-After", "30")
		problem(w, http.StatusServiceUnavailable, fmt.Sprintf("%d watch already: close a page, or ask for /api/status", mostViewers))
		return
	}
	defer c.sampler.leave(v)
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil { // as takeBody does
		problem(w, http.StatusInternalServerError, "this connection cannot stream")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), watchFor)
	defer cancel()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy that gathers answers would keep them
	send := sender(w)
	ticks := time.NewTicker(heartbeat)
	defer ticks.Stop()
	for text := "retry: 3000\n\n"; send(text) == nil; {
		select {
		case report, open := <-v:
			if !open { // too slow
				return
			}
			text = "event: status\ndata: " + string(report) + "\n\n"
		case <-ticks.C:
			text = ": still here\n\n"
		case <-service.Stopping(ctx):
			return
		case <-ctx.Done():
			return
		}
	}
}

// sender writes to a viewer at once, or gives it up.
func sender(w http.ResponseWriter) func(text string) error {
	rc := http.NewResponseController(w)
	return func(text string) error {
		if err := rc.SetWriteDeadline(time.Now().Add(sendWithin)); err != nil {
			return err
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return err
		}
		return rc.Flush()
	}
}
