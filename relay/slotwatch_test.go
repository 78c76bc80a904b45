package relay_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/relay"
)

// TestSlotIsWatched: nothing is published, WAL is written, and the operator is told
// how long the slot will last, also once all is well again.
func TestSlotIsWatched(t *testing.T) {
	t.Parallel()
	const hardly = 365 * 24 * 3600 * 1e9 // ns; whatever is written here is too much
	cases := map[string]struct {
		settings map[string]string
		budget   int64
	}{
		"by the server's bound":    {map[string]string{"max_slot_wal_keep_size": "10GB"}, 0},
		"by the operator's budget": {nil, 10 << 30},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutboxOn(t, pgtest.NewServer(t, localpg.Config{Settings: c.settings}))
			o.refuseAll()
			log := &logged{}
			r := o.start(log.to, func(cfg *relay.Config) { cfg.WALBudget, cfg.WarnBefore = c.budget, hardly })
			o.eventually("warned", func() bool {
				o.each(1, "a")
				return len(log.with("the slot will be lost if it does not move"))+len(log.with("about to be lost")) > 0
			})
			require.Positive(t, r.metric(t, "slot_retained_bytes"))
			require.Positive(t, r.metric(t, "slot_lag_bytes"))
			require.Positive(t, r.metric(t, "slot_left_seconds"))
			require.Less(t, r.metric(t, "slot_left_seconds"), float64(hardly)/1e9)
			require.LessOrEqual(t, r.metric(t, "slot_left_bytes"), float64(11<<30))
		})
	}
	t.Run("unbounded", func(t *testing.T) {
		t.Parallel()
		o := newOutbox(t)
		r := o.start()
		o.eventually("measured", func() bool { return r.metric(t, "slot_retained_bytes") > 0 })
		require.Equal(t, math.Inf(1), r.metric(t, "slot_left_seconds"))
		require.Equal(t, math.Inf(1), r.metric(t, "slot_left_bytes"))
	})
}
