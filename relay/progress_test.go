package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestStalled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stand stand
		want  time.Duration
	}{
		"idle for an hour":            {stand{active, time.Hour, 0, 10 * time.Second}, 0},
		"idle, then an event":         {stand{active, time.Hour, time.Second, time.Hour}, time.Second},
		"busy far behind":             {stand{active, time.Hour, time.Hour, time.Millisecond}, time.Millisecond},
		"one group held, others go":   {stand{active, time.Hour, 9 * time.Minute, time.Second}, time.Second},
		"nothing goes":                {stand{active, time.Hour, 5 * time.Minute, 5 * time.Minute}, 5 * time.Minute},
		"just taken over, far behind": {stand{active, time.Second, time.Hour, time.Hour}, time.Second},
		"sweeping, nothing goes":      {stand{sweeping, time.Hour, time.Hour, time.Minute}, time.Minute},
		"standby for a day":           {stand{standby, 24 * time.Hour, 24 * time.Hour, 24 * time.Hour}, 0},
		"no database":                 {stand{"waiting", time.Hour, 0, time.Minute}, time.Minute},
		"no database from the start":  {stand{"starting", time.Minute, 0, time.Minute}, time.Minute},
		"no database after standby":   {stand{"waiting", time.Second, 0, time.Hour}, time.Second},
	} {
		require.Equal(t, c.want, c.stand.stalled(), name)
	}
}

// TestStalledIsNeverMoreThanItsCauses: a stall is no longer than the silence, nor
// than anything has waited, and is none for who has nothing to do.
func TestStalledIsNeverMoreThanItsCauses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		duration := func(name string) time.Duration {
			return time.Duration(rapid.Int64Range(-int64(time.Second), int64(time.Hour)).Draw(t, name))
		}
		s := stand{
			state:  rapid.SampledFrom([]string{"starting", standby, sweeping, active, "recovering", "waiting"}).Draw(t, "state"),
			onDuty: duration("onDuty"), lag: duration("lag"), quiet: duration("quiet"),
		}
		got := s.stalled()
		require.GreaterOrEqual(t, got, time.Duration(0))
		require.LessOrEqual(t, got, max(0, s.quiet))
		require.LessOrEqual(t, got, max(0, s.onDuty))
		if s.state == standby || (s.state == active || s.state == sweeping) && s.lag <= 0 {
			require.Zero(t, got)
		}
	})
}

// TestDutyBeginsAfterStandby: what was before a relay took over is not its own.
func TestDutyBeginsAfterStandby(t *testing.T) {
	t.Parallel()
	var s state
	s.Store("starting")
	_, began := s.Load()
	s.Store(active)
	s.Store("waiting")
	now, since := s.Load()
	require.Equal(t, "waiting", now)
	require.Equal(t, began, since)
	s.Store(standby)
	s.Store(standby)
	s.Store(active)
	_, since = s.Load()
	require.True(t, since.After(began))
}
