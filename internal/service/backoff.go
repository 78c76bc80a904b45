package service

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Defaults of [Backoff].
const (
	DefaultBackoffInitial = 100 * time.Millisecond
	DefaultBackoffMax     = 30 * time.Second
)

// Backoff is the one rule for the delay before another try: exponential with full
// jitter, so that many clients of a thing that failed do not come back together.
// The zero value is usable. It holds no state and is safe for concurrent use as
// long as Rand is.
type Backoff struct {
	// Initial is the ceiling of the first delay; it doubles with each attempt.
	// Default DefaultBackoffInitial.
	Initial time.Duration
	// Max is what no delay ever exceeds. Default DefaultBackoffMax.
	Max time.Duration
	// Tries is how often Retry calls its operation at most; 0 is no limit.
	Tries int
	// Rand returns a number in [0, 1). Tests set it; default rand.Float64.
	Rand func() float64
}

// Delay returns the time to wait after the given failed attempt, counted from 1:
// evenly distributed between 0 and [Backoff.Ceiling].
func (b Backoff) Delay(attempt int) time.Duration {
	random := b.Rand
	if random == nil {
		random = rand.Float64
	}
	ceiling := b.Ceiling(attempt)
	// The product is clamped because a Duration near its maximum rounds up as a float.
	return max(0, min(ceiling, time.Duration(random()*float64(ceiling))))
}

// Ceiling returns the longest delay possible after the given failed attempt.
func (b Backoff) Ceiling(attempt int) time.Duration {
	b = b.withDefaults()
	e := backoff.ExponentialBackOff{
		InitialInterval: b.Initial,
		Multiplier:      2,
		MaxInterval:     b.Max,
		Clock:           backoff.SystemClock,
	}
	e.Reset()
	ceiling := e.NextBackOff()
	for i := 1; i < attempt && ceiling < b.Max; i++ {
		ceiling = e.NextBackOff()
	}
	return ceiling
}

func (b Backoff) withDefaults() Backoff {
	if b.Initial <= 0 {
		b.Initial = DefaultBackoffInitial
	}
	if b.Max <= 0 {
		b.Max = DefaultBackoffMax
	}
	b.Initial = min(b.Initial, b.Max)
	return b
}

// Sleep waits for d or until ctx ends, whose error it then returns.
func Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Retry calls op until it succeeds, returns an error wrapped by
// [backoff.Permanent], has been called b.Tries times, or ctx ends. It returns the
// last error of op; where ctx ended the wait, the context's error with it.
func Retry(ctx context.Context, b Backoff, op func(context.Context) error) error {
	for attempt := 1; ; attempt++ {
		err := op(ctx)
		if err == nil {
			return nil
		}
		var permanent *backoff.PermanentError
		if errors.As(err, &permanent) {
			return permanent.Err
		}
		if b.Tries > 0 && attempt >= b.Tries {
			return err
		}
		if stopped := Sleep(ctx, b.Delay(attempt)); stopped != nil {
			return fmt.Errorf("%w; last try: %w", stopped, err)
		}
	}
}
