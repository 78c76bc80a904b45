package schema_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/restock-dev/restock/schema"
)

func TestWALBudget(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	start := time.Unix(1_700_000_000, 0)
	room := func(n int64) *int64 { return &n }
	// at is a sample some seconds after the start, with the WAL and what is kept of it in MB.
	at := func(seconds int, wal, retained int64, safe *int64, status string) schema.SlotSample {
		return schema.SlotSample{At: start.Add(time.Duration(seconds) * time.Second), WAL: wal * mb, Restart: (wal - retained) * mb, Confirmed: (wal - retained/2) * mb, Safe: safe, Status: status}
	}
	cases := map[string]struct {
		budget  int64
		samples []schema.SlotSample
		bytes   float64
		left    time.Duration
	}{
		"nothing is measured yet": {0, []schema.SlotSample{at(0, 1000, 10, room(100*mb), "reserved")}, 100 * mb, schema.Forever},
		"safe size over rate":     {0, []schema.SlotSample{at(0, 1000, 10, room(110*mb), "reserved"), at(10, 1010, 20, room(100*mb), "reserved")}, 100 * mb, 100 * time.Second},
		"the server's word counts, not the budget": {
			1, []schema.SlotSample{at(0, 1000, 10, room(110*mb), "reserved"), at(10, 1010, 20, room(100*mb), "reserved")}, 100 * mb, 100 * time.Second,
		},
		"unbounded":              {0, []schema.SlotSample{at(0, 1000, 10, nil, "extended"), at(10, 1010, 20, nil, "extended")}, math.Inf(1), schema.Forever},
		"against the budget":     {70 * mb, []schema.SlotSample{at(0, 1000, 10, nil, "extended"), at(10, 1010, 20, nil, "extended")}, 50 * mb, 50 * time.Second},
		"the budget is used up":  {15 * mb, []schema.SlotSample{at(0, 1000, 10, nil, "extended"), at(10, 1010, 20, nil, "extended")}, 0, 0},
		"nothing is written":     {0, []schema.SlotSample{at(0, 1000, 10, room(mb), "reserved"), at(10, 1000, 10, room(mb), "reserved")}, mb, schema.Forever},
		"past what is safe":      {0, []schema.SlotSample{at(0, 1000, 10, room(-5), "unreserved")}, 0, 0},
		"missing":                {70 * mb, []schema.SlotSample{at(0, 1000, 10, nil, "missing")}, math.Inf(1), schema.Forever},
		"lost":                   {0, []schema.SlotSample{at(0, 1000, 10, nil, "lost")}, 0, 0},
		"another server":         {0, []schema.SlotSample{at(0, 1000, 10, room(mb), "reserved"), at(10, 1010, 10, room(mb), "reserved"), at(20, 5, 1, room(mb), "reserved")}, mb, schema.Forever},
		"a burst weighs little":  {0, []schema.SlotSample{at(0, 1000, 10, room(mb), "reserved"), at(1000, 2000, 10, room(mb), "reserved"), at(1001, 2002, 10, room(mb), "reserved")}, mb, 996 * time.Millisecond},
		"a new load is believed": {0, []schema.SlotSample{at(0, 1000, 10, room(mb), "reserved"), at(10, 1010, 10, room(mb), "reserved"), at(10_000, 1010+4*9990, 10, room(mb), "reserved")}, mb, 250 * time.Millisecond},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := &schema.WALBudget{Bytes: c.budget}
			var o schema.SlotOutlook
			for _, s := range c.samples {
				o = b.Foresee(s)
			}
			last := c.samples[len(c.samples)-1]
			require.Equal(t, last.WAL-last.Restart, o.Retained)
			require.Equal(t, last.WAL-last.Confirmed, o.Lag)
			require.Equal(t, c.bytes, o.Bytes)
			require.InDelta(t, c.left.Seconds(), o.Left.Seconds(), 0.001)
		})
	}
}

func TestWALBudgetBetweenTwoReads(t *testing.T) {
	t.Parallel()
	lag := func(wal, confirmed int64) int64 {
		return (&schema.WALBudget{}).Foresee(schema.SlotSample{At: time.Unix(1, 0), WAL: wal, Confirmed: confirmed}).Lag
	}
	require.Equal(t, int64(5), lag(10, 5))
	require.Zero(t, lag(10, 11), "read a moment later")
	require.Zero(t, lag(10, 0), "no position")
}

// TestWALRate: a rate is never below 0, whatever clock and positions do, and what is
// written evenly has that rate.
func TestWALRate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b schema.WALBudget
		now, wal := time.Unix(1e9, 0), int64(1e6)
		b.Measure(now, wal)
		rate := func() float64 { return b.Foresee(schema.SlotSample{At: now, WAL: wal}).Rate }
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			elapsed := time.Duration(rapid.Int64Range(1, 600).Draw(t, "seconds")) * time.Second
			now, wal = now.Add(elapsed), wal+int64(elapsed.Seconds())*100
			require.InDelta(t, 100, rate(), 1e-6)
		}
		now, wal = now.Add(time.Duration(rapid.Int64Range(-1e9, 1e9).Draw(t, "jump"))), rapid.Int64Range(0, 1e12).Draw(t, "wal")
		require.GreaterOrEqual(t, rate(), 0.0)
	})
}
