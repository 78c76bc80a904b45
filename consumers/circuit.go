package consumers

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/sony/gobreaker/v2"
)

// circuit stops calls to the other side while it is down.
//
// It opens after a number of failures in a row. Those that say that the other
// side is down count each time; others count once for each event, because an
// event that always fails says nothing about the other side, however often it
// is tried, and must be able to use up its attempts.
type circuit struct {
	breaker *gobreaker.CircuitBreaker[Effect]

	mu      sync.Mutex
	failed  map[uuid.UUID]bool // events that failed since the last success
	probeAt time.Time
	why     string // the last failure that counted
}

// errNotCalled is a call that the circuit did not let through.
var errNotCalled = errors.New("the circuit is open")

// excluded is a failure that the circuit does not count.
type excluded struct{ error }

func newCircuit(name string, failures int, openFor time.Duration, changed func(gobreaker.State)) *circuit {
	c := &circuit{failed: make(map[uuid.UUID]bool)}
	c.breaker = gobreaker.NewCircuitBreaker[Effect](gobreaker.Settings{
		Name:        name,
		Timeout:     openFor,
		ReadyToTrip: func(n gobreaker.Counts) bool { return int(n.ConsecutiveFailures) >= failures },
		IsSuccessful: func(err error) bool {
			return err == nil || is(err, permanent) // it answered
		},
		IsExcluded: func(err error) bool { return errors.As(err, new(excluded)) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			c.forget()
			c.mu.Lock()
			c.probeAt = time.Now().Add(openFor)
			c.mu.Unlock()
			changed(to)
		},
	})
	return c
}

// call runs f where the circuit allows it. Neither an error of f that stopped
// reports, one that follows from the worker's own stop, nor one of our own
// database is held against the other side.
func (c *circuit) call(event uuid.UUID, stopped func(error) bool, f func() (Effect, error)) (Effect, error) {
	effect, err := c.breaker.Execute(func() (Effect, error) {
		effect, err := f()
		switch {
		case err != nil && stopped(err), is(err, database):
			err = excluded{err}
		case err == nil || is(err, permanent):
			c.forget()
		case c.failedBefore(event) && !is(err, unavailable) && c.breaker.State() == gobreaker.StateClosed:
			err = excluded{err}
		default:
			c.blame(err)
		}
		return effect, err
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return Effect{}, c.notCalled()
	}
	if e := (excluded{}); errors.As(err, &e) {
		err = e.error
	}
	return effect, err
}

func (c *circuit) failedBefore(event uuid.UUID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.failed[event]
	c.failed[event] = true
	return before
}

func (c *circuit) blame(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.why = err.Error()
}

// notCalled is errNotCalled with what opened the circuit. That is told as text: its
// marks are of another event.
func (c *circuit) notCalled() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Errorf("%w after: %s", errNotCalled, c.why)
}

func (c *circuit) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.failed)
}

// untilProbe is how long an open circuit stays open yet.
func (c *circuit) untilProbe() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(time.Until(c.probeAt), time.Millisecond)
}

func (c *circuit) state() gobreaker.State { return c.breaker.State() }
