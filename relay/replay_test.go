package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestPlaces: the place up to which all are dealt with is the one before the first
// that is not, in whatever order they are.
func TestPlaces(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Int64Range(0, 1000).Draw(t, "from")
		n := rapid.IntRange(1, 100).Draw(t, "items")
		order := make([]int64, n)
		for i := range order {
			order[i] = from + int64(i) + 1
		}
		order = rapid.Permutation(order).Draw(t, "order")
		p, dealtWith := places{upTo: from}, map[int64]bool{}
		for _, place := range order {
			p.finish(place)
			dealtWith[place] = true
			want := from
			for dealtWith[want+1] {
				want++
			}
			require.Equal(t, want, p.upTo)
		}
		require.Equal(t, from+int64(n), p.upTo)
		require.Empty(t, p.beyond, "nothing is kept")
	})
}

// TestPace: whenever it is asked, in any stretch of time no more go than the rate
// allows and what little is made up for; and asked when it says, the rate is kept.
func TestPace(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.IntRange(1, 5000).Draw(t, "rate")
		p, now := newPace(rate), time.Unix(1, 0)
		var gone []time.Time
		for range rapid.IntRange(1, 100).Draw(t, "asks") {
			for p.take(now) {
				gone = append(gone, now)
			}
			require.True(t, p.next.After(now))
			now = now.Add(time.Duration(rapid.IntRange(0, int(time.Second)).Draw(t, "wait")))
		}
		for i := range gone {
			stretch := gone[len(gone)-1].Sub(gone[i]) + paceBurst
			require.LessOrEqual(t, len(gone)-i, int(stretch.Seconds()*float64(rate)*1.001)+2)
		}
	})
	p, now, gone := newPace(1000), time.Unix(1, 0), 0
	for until := now.Add(time.Second); now.Before(until); now = p.due() {
		for p.take(now) {
			gone++
		}
	}
	require.InDelta(t, 1000, gone, 30)
	var free pace
	for range 1000 {
		require.True(t, free.take(now))
	}
}
