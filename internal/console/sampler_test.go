package console

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/ops"
)

// TestHistory: however often is looked, an hour is kept and no more, in order.
func TestHistory(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 31, 23, 0, 0, 0, time.UTC)
	for _, every := range []time.Duration{time.Second, pointEvery, 7 * time.Second, 10 * time.Minute} {
		var h history
		require.Empty(t, h.since(start))
		var at time.Time
		for i := range 10_000 {
			at = start.Add(time.Duration(i) * every)
			h.add(point{At: at})
		}
		require.LessOrEqual(t, len(h.points), mostPoints)
		all := h.since(at.Add(-historyFor))
		require.WithinDuration(t, at.Add(-historyFor), all[0].At, max(every, pointEvery)+time.Second)
		for i := range all[1:] {
			require.GreaterOrEqual(t, all[i+1].At.Sub(all[i].At), pointEvery, every)
		}
		require.WithinDuration(t, at, all[len(all)-1].At, pointEvery)
	}
}

// TestPointLeavesOut: what could not be asked is a gap.
func TestPointLeavesOut(t *testing.T) {
	t.Parallel()
	p := pointOf(ops.StatusReport{
		Relays: []ops.RelayStatus{{Database: "store", Error: "gone"}, {Database: "customers", LagSeconds: 2}},
		Queues: []ops.QueueStatus{{Consumer: "ads", Error: "gone"}, {Consumer: "vip", Dead: 1}},
	})
	require.Equal(t, []relayPoint{{"customers", 2, 0}}, p.Relays)
	require.Equal(t, []queuePoint{{"vip", 0, 0, 1}}, p.Queues)
}

// TestSlowViewer: one that does not take what it is sent is dropped, and nobody waits for
// it.
func TestSlowViewer(t *testing.T) {
	t.Parallel()
	s := newSampler()
	slow, _ := s.join()
	quick, _ := s.join()
	for range 3 {
		require.NoError(t, s.tell(ops.StatusReport{Health: ops.Healthy}))
		require.Contains(t, string(<-quick), `"health":"healthy"`)
	}
	require.Len(t, s.viewers, 1)
	<-slow
	_, open := <-slow
	require.False(t, open)
	s.leave(slow) // again is nothing
	s.leave(quick)
	require.Empty(t, s.viewers)
	late, _ := s.join()
	require.NotEmpty(t, <-late, "whoever comes late sees the latest")
}
