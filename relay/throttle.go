package relay

import (
	"time"

	"github.com/restock-dev/restock/internal/service"
)

// throttle says how many calls to the publisher may be in flight: fewer after a
// call that failed as a whole, and none until a delay has passed; one more for
// each round of calls that went well. It is pure and for one goroutine.
type throttle struct {
	most     int
	backoff  service.Backoff
	allowed  float64
	failures int // in a row
	until    time.Time
}

func newThrottle(most int, b service.Backoff) *throttle {
	return &throttle{most: most, backoff: b, allowed: float64(most)}
}

// allows tells whether another call may start beside the ones in flight.
func (t *throttle) allows(inFlight int, now time.Time) bool {
	return inFlight < int(t.allowed) && !t.until.After(now)
}

func (t *throttle) succeeded() {
	t.failures = 0
	t.until = time.Time{}
	t.allowed = min(float64(t.most), t.allowed+1/t.allowed)
}

// probing tells that calls fail so persistently that the next one should carry one
// event: if it is one event by which they fail, the others get through.
func (t *throttle) probing() bool { return t.failures >= probeAfter }

// probeAfter is how many calls in a row fail before one event goes at a time.
const probeAfter = 3

// failed halves what is allowed. Calls that fail together count as one.
func (t *throttle) failed(now time.Time) {
	if t.until.After(now) {
		return
	}
	t.failures++
	t.allowed = max(1, t.allowed/2)
	t.until = now.Add(t.backoff.Delay(t.failures))
}
