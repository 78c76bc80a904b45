package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/restock-dev/restock/schema"
)

// TestFeedKeepsTheRate: however long nothing is accepted, what then goes at once is
// one second of the rate; and without a rate, what may be in hand.
func TestFeedKeepsTheRate(t *testing.T) {
	t.Parallel()
	for rate, want := range map[int]int{1: 1, 10: 10, 0: replayAhead} {
		p := &pipeline{lanes: newLanes(), groups: newGroups(), replays: &replaying{}}
		r := newReplay(schema.Replay{}, "", 10*replayAhead, 0, rate)
		for place := range int64(2 * replayAhead) {
			r.take([]*entry{{group: "g", item: &item{place: place + 1}}})
		}
		now := time.Unix(1, 0)
		p.feed(r, now)
		for range 100 {
			now = now.Add(time.Second / 4)
			p.feed(r, now)
		}
		require.Equal(t, want, r.inHand)
		for range 5 { // accepted one by one: the rate holds
			at := len(r.ready)
			for range 100 {
				now = now.Add(10 * time.Millisecond)
				r.inHand = 0
				p.feed(r, now)
			}
			if rate > 0 {
				require.InDelta(t, rate, at-len(r.ready), 1)
			}
		}
	}
}

// TestReplayStaysAhead: no more is loaded than may be in hand and ready, whatever the
// order in which items are dealt with.
func TestReplayStaysAhead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := newReplay(schema.Replay{}, "", 10_000, 0, 0)
		var inHand []*entry
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			if n := r.room(); n > 0 {
				var page []*entry
				for place := r.loaded + 1; place <= min(r.events, r.loaded+int64(n)); place++ {
					page = append(page, &entry{memory: 1, item: &item{place: place}})
				}
				r.take(page)
			}
			require.LessOrEqual(t, r.loaded-r.done.upTo, int64(replayAhead))
			inHand, r.ready = append(inHand, r.ready...), nil
			r.inHand = len(inHand)
			for range rapid.IntRange(0, min(len(inHand), 100)).Draw(t, "answers") {
				i := rapid.IntRange(0, len(inHand)-1).Draw(t, "which")
				handOver(inHand[i : i+1])
				r.leaves(inHand[i])
				inHand[i] = inHand[len(inHand)-1]
				inHand = inHand[:len(inHand)-1]
			}
			require.Equal(t, len(inHand), r.memory)
		}
	})
}

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
		for range rapid.IntRange(1, 30).Draw(t, "asks") {
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
