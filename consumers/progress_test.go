package consumers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStalledWhileNothingInHandIsFinished(t *testing.T) {
	t.Parallel()
	now := time.Unix(1, 0)
	p := &progress{now: func() time.Time { return now }}
	pass := func(d time.Duration) time.Duration { now = now.Add(d); return p.stalled() }
	require.Zero(t, pass(time.Hour), "an empty queue")
	p.hold(10)
	require.Zero(t, pass(0))
	require.Equal(t, time.Minute, pass(time.Minute))
	p.hold(12)
	require.Equal(t, 2*time.Minute, pass(time.Minute), "more to do is no progress")
	p.finished()
	require.Equal(t, time.Second, pass(time.Second))
	p.hold(0)
	require.Zero(t, pass(time.Hour))
	p.hold(1)
	require.Equal(t, time.Second, pass(time.Second), "the hour before was idle")
}
