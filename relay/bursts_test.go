package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestBursts: what a turn may take, and when there is one.
func TestBursts(t *testing.T) {
	t.Parallel()
	const perPause = 400_000 // bytes that the server makes
	start := time.Now()
	b := newBursts(start)
	at := func(pauses float64) time.Time { return start.Add(time.Duration(pauses * float64(burstPause))) }

	require.False(t, b.begin(at(0.9)), "the window is not shut yet")
	require.True(t, b.begin(at(1)))
	require.True(t, b.begin(at(1)), "it goes on")
	require.True(t, b.took(perPause), "the first takes all")
	bytes, in := b.dry(at(1))
	require.Equal(t, perPause, bytes)
	require.Equal(t, burstPause, in)

	// While the rate is new every turn takes all.
	require.False(t, b.begin(at(1.9)))
	require.True(t, b.begin(at(2)))
	require.True(t, b.took(perPause))
	b.dry(at(2))

	// Then one leaves the server what it makes in a pause.
	require.False(t, b.begin(at(3)), "it has no more than that")
	late := b
	late.taken = 10 * perPause
	require.False(t, late.begin(at(4.9)))
	require.True(t, late.begin(at(5)), "it may have become faster")
	require.True(t, late.took(perPause), "all is taken")
	require.True(t, b.begin(at(4)))
	require.True(t, b.took(perPause-1))
	require.True(t, b.begin(at(4)))
	require.False(t, b.took(1))
	require.False(t, b.begin(at(4.9)))
	require.True(t, b.begin(at(5)))
	require.True(t, b.took(2*perPause), "the second takes all")
	b.dry(at(5))

	// What was less than believed comes down by steps.
	require.True(t, b.begin(at(7)))
	require.True(t, b.took(1))
	before := b.rate
	bytes, in = b.dry(at(7))
	require.Equal(t, 1, bytes)
	require.Equal(t, 2*burstPause, in)
	require.InDelta(t, before*4/5, b.rate, 1)
}

// TestBurstsWaitForTheWindow: the pause behind a turn that took all begins when the window
// is shut, and what filled it says nothing of the rate.
func TestBurstsWaitForTheWindow(t *testing.T) {
	t.Parallel()
	const window, perPause = 200_000, 400_000
	start := time.Now()
	b := newBursts(start)
	at := func(pauses float64) time.Time { return start.Add(time.Duration(pauses * float64(burstPause))) }

	b.shut(0, at(0.5))
	require.True(t, b.shutAt.IsZero(), "the server had nothing")
	b.shut(window, at(3))
	require.False(t, b.begin(at(3.9)))
	b.shut(2*window, at(3.9))
	require.True(t, b.begin(at(4)), "it is shut once")
	require.True(t, b.took(window))
	b.shut(window, at(4))
	require.True(t, b.took(perPause))
	bytes, in := b.dry(at(4))
	require.Equal(t, window+perPause, bytes)
	require.Equal(t, 4*burstPause, in)
	require.InDelta(t, perPause/burstPause.Seconds(), b.rate, 1)

	// A turn leaves what is made in a pause, and no more.
	b.allAt = 2
	b.shut(window, at(6))
	require.False(t, b.begin(at(6.9)))
	require.True(t, b.begin(at(8)))
	require.True(t, b.took(window+perPause-1))
	require.False(t, b.took(1))

	// One that began before the window was shut counts from where it was dry.
	b.dry(at(9))
	require.True(t, b.begin(at(12)))
	require.True(t, b.took(1))
	b.shut(window, at(12))
	require.Equal(t, at(9), b.rateFrom())
}

// TestBurstsTakeWhatIsMade: however fast the server is and becomes, and however slowly it
// fills the window, a turn comes soon, and little is left for long: the server's send
// buffer holds it.
func TestBurstsTakeWhatIsMade(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		b := newBursts(now)
		made, taken := 0.0, 0
		for range rapid.IntRange(1, 5).Draw(t, "paces") {
			filling := float64(rapid.IntRange(16<<20, 100<<20).Draw(t, "filling"))
			rate := filling * float64(rapid.IntRange(1, 5).Draw(t, "joined"))
			turns, most := 0, 0.0
			for end := now.Add(time.Second); now.Before(end); {
				longest := 3*burstPause + time.Duration(2*burstBuffer/filling*float64(time.Second)) + burstPause/4
				for since := now; !b.begin(now); now = now.Add(burstPause / 4) {
					require.Less(t, now.Sub(since), longest, "no turn")
					pace := rate
					if b.taken == 0 && made-float64(taken) < 2*burstBuffer {
						pace = filling
					} else {
						b.shut(2*burstBuffer, now)
					}
					made += pace * (burstPause / 4).Seconds()
				}
				turns++
				for goesOn := true; goesOn; {
					n := min(2*burstBuffer, int(made)-taken)
					if n > 0 {
						taken += n
						goesOn = b.took(n)
					}
					if goesOn && n < refilled.bytes {
						b.dry(now)
						goesOn = false
					}
				}
				if now.After(end.Add(-time.Second / 4)) { // it has got used to the rate
					most = max(most, made-float64(taken))
				}
			}
			require.LessOrEqual(t, most, 4*rate*burstPause.Seconds()+2*burstBuffer, "%d turns", turns)
		}
	})
}
