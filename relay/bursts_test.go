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

	require.True(t, b.filling())
	b.still(seen{window, at(2)}, at(3))
	require.False(t, b.filling())
	require.False(t, b.begin(at(3.9)))
	require.True(t, b.begin(at(4)))
	require.True(t, b.took(window))
	require.True(t, b.took(2*perPause))
	bytes, in := b.dry(at(4))
	require.Equal(t, window+2*perPause, bytes)
	require.Equal(t, 4*burstPause, in)
	require.InDelta(t, perPause/burstPause.Seconds(), b.rate, 1)

	// A turn leaves what is made in a pause, and no more.
	b.allAt = 2
	require.True(t, b.filling())
	b.still(seen{window, at(6)}, at(6.5))
	require.False(t, b.begin(at(7.4)))
	require.True(t, b.begin(at(8)))
	require.True(t, b.took(window+perPause-1))
	require.False(t, b.filling())
	require.False(t, b.took(1))
}

// aServer makes bytes for a reader that takes them in bursts: slowly while the window is
// open, faster once they join behind it.
type aServer struct {
	now         time.Time
	slow, fast  float64 // bytes a second
	made, taken float64
	shutAt      time.Time // zero while the window is open
}

const aWindow = 2 * burstBuffer

// passes lets time pass.
func (s *aServer) passes(d time.Duration) {
	const step = burstPause / 16
	for end := s.now.Add(d); s.now.Before(end); s.now = s.now.Add(step) {
		if s.shutAt.IsZero() {
			s.made += s.slow * step.Seconds()
		} else {
			s.made += s.fast * step.Seconds()
		}
		if s.shutAt.IsZero() && s.made-s.taken >= aWindow {
			s.shutAt = s.now.Add(step)
		}
	}
}

// pause is the gatherer's.
func (s *aServer) pause(b *bursts) {
	end := s.now.Add(b.longest())
	var came seen
	for step := burstPause; s.now.Before(end); step = burstPause / 4 {
		s.passes(step)
		if came.again(min(int(s.made-s.taken), aWindow), s.now) {
			b.still(came, s.now)
			return
		}
	}
}

// TestBurstsTakeWhatIsMade: however fast the server is and becomes, and however slowly it
// fills the window, a turn comes soon, the first behind one that took all has a pause's
// worth of what joined, and little is left for long: the server's send buffer holds it.
func TestBurstsTakeWhatIsMade(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := &aServer{now: time.Now()}
		b := newBursts(s.now)
		fastest := 0.0
		for range rapid.IntRange(1, 5).Draw(t, "paces") {
			s.slow = float64(rapid.IntRange(16<<20, 100<<20).Draw(t, "slow"))
			s.fast = s.slow * float64(rapid.IntRange(1, 5).Draw(t, "times"))
			fastest = max(fastest, s.fast)
			turns, most := 0, 0.0
			for end := s.now.Add(time.Second); s.now.Before(end); {
				first := b.taken == 0
				for since := s.now; !b.begin(s.now); {
					require.Less(t, s.now.Sub(since), longestFilling+longestPause, "no turn")
					s.pause(&b)
				}
				turns++
				if first {
					require.GreaterOrEqual(t, s.now.Sub(s.shutAt), burstPause)
				}
				for goesOn := true; goesOn; {
					n := min(aWindow, int(s.made-s.taken))
					if n > 0 {
						s.taken += float64(n)
						goesOn = b.took(n)
					}
					if goesOn && n < refilled.bytes {
						b.dry(s.now)
						s.shutAt, goesOn = time.Time{}, false
						require.LessOrEqual(t, b.rate, 2*fastest)
					}
				}
				if s.now.After(end.Add(-time.Second / 4)) { // it has got used to the rate
					most = max(most, s.made-s.taken)
				}
			}
			require.LessOrEqual(t, most, 4*s.fast*burstPause.Seconds()+aWindow, "%d turns", turns)
		}
	})
}
