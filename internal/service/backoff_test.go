package service_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/restock-dev/restock/internal/service"
)

func TestBackoffDelayStaysWithinItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		duration := rapid.Int64Range(1, math.MaxInt64)
		random := rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, "random")
		b := service.Backoff{
			Initial: time.Duration(duration.Draw(t, "initial")),
			Max:     time.Duration(duration.Draw(t, "max")),
			Rand:    func() float64 { return random },
		}
		attempt := rapid.IntRange(math.MinInt, math.MaxInt).Draw(t, "attempt")
		delay, ceiling := b.Delay(attempt), b.Ceiling(attempt)
		require.GreaterOrEqual(t, delay, time.Duration(0))
		require.LessOrEqual(t, delay, ceiling)
		require.LessOrEqual(t, ceiling, b.Max)
	})
}

func TestBackoffCeilingDoublesUpToMax(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := service.Backoff{
			Initial: time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "initial")),
			Max:     time.Duration(rapid.Int64Range(1, int64(1000*time.Hour)).Draw(t, "max")),
		}
		want := min(b.Initial, b.Max)
		for attempt := 1; attempt < 70; attempt++ {
			require.Equal(t, want, b.Ceiling(attempt), "attempt %d", attempt)
			want = min(2*want, b.Max)
		}
	})
}

func TestBackoffZeroValueHasDefaults(t *testing.T) {
	t.Parallel()
	var b service.Backoff
	require.Equal(t, service.DefaultBackoffInitial, b.Ceiling(1))
	require.Equal(t, service.DefaultBackoffMax, b.Ceiling(math.MaxInt))
	seen := map[time.Duration]bool{}
	for range 20 {
		seen[b.Delay(10)] = true
	}
	require.Greater(t, len(seen), 1, "delays are spread")
}

func TestRetry(t *testing.T) {
	t.Parallel()
	full := service.Backoff{Initial: time.Second, Max: 4 * time.Second, Rand: func() float64 { return 0.5 }}

	t.Run("waits longer each time until it succeeds", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			begin, calls := time.Now(), 0
			require.NoError(t, service.Retry(t.Context(), full, func(context.Context) error {
				if calls++; calls <= 4 {
					return errBroken
				}
				return nil
			}))
			require.Equal(t, 5, calls)
			require.Equal(t, (500+1000+2000+2000)*time.Millisecond, time.Since(begin))
		})
	})
	t.Run("stops at a permanent error, unwrapped", func(t *testing.T) {
		t.Parallel()
		calls := 0
		err := service.Retry(t.Context(), full, func(context.Context) error {
			calls++
			return fmt.Errorf("insert: %w", backoff.Permanent(errBroken))
		})
		require.Equal(t, errBroken, err)
		require.Equal(t, 1, calls)
	})
	t.Run("stops after its tries", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			limited, calls := full, 0
			limited.Tries = 3
			err := service.Retry(t.Context(), limited, func(context.Context) error {
				calls++
				return errBroken
			})
			require.ErrorIs(t, err, errBroken)
			require.Equal(t, 3, calls)
		})
	})
	t.Run("stops with its context and tells both errors", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
			defer cancel()
			err := service.Retry(ctx, full, ends(errBroken))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorIs(t, err, errBroken)
		})
	})
}

func TestSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		require.NoError(t, service.Sleep(ctx, time.Hour))
		require.Equal(t, time.Hour, time.Since(begin))
		require.NoError(t, service.Sleep(ctx, -1))

		time.AfterFunc(time.Minute, cancel)
		require.ErrorIs(t, service.Sleep(ctx, time.Hour), context.Canceled)
		require.Equal(t, time.Hour+time.Minute, time.Since(begin))
		require.ErrorIs(t, service.Sleep(ctx, 0), context.Canceled, "a stop is seen also where there is nothing to wait for")
	})
}
