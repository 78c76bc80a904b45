package relay

import (
	"errors"
	"os"
	"time"
)

// bursts decides how much of a backlog is read when from a near server, so that the
// server sends it in full segments.
//
// Postgres hands each message to its socket by itself, and has TCP delay none. While the
// reader's window is open each is sent as a segment of its own, which costs the server
// nearly half as much as making the row. While the window is shut, messages join in the
// server's send buffer for next to nothing, and leave it in full segments once there is
// room. So the reader has a small buffer and lets it run full. After a pause it takes its
// turn: some reads, each of which lets in the next full segments. It leaves the server
// what that makes in one pause: had it taken all, the window would be open, and the next
// messages would come one by one until it is shut again.
//
// How fast the server makes them shows when the reader has taken all, so that nothing is
// on its way: by what was read since it last had. So one turn in a few takes all, and
// another does when the server was slower than believed.
//
// It has no clock and no connection; one goroutine at a time may use it.
type bursts struct {
	rate float64 // that the server made until dryAt, in bytes a second

	dryAt time.Time // when the reader had taken all
	taken int       // bytes since then
	turns int       // begun since then
	all   int       // which of them takes all, from 1

	began time.Time // the last turn, or the wait for the first
	open  bool      // it goes on
	limit int       // what taken is in its end; 0 is no limit
}

const (
	// burstPause is between turns. What a server makes in two of them has to fit into its
	// send buffer, which Linux lets grow to 4 MB, or it waits for us.
	burstPause = 4 * time.Millisecond

	// allWithin is how many turns take all once, at least.
	allWithin = 16

	// burstBuffer is what the reader's system is asked to buffer, in bytes. Linux makes it
	// twice that. By default no more may be asked for (net.core.rmem_max), and it must be
	// several of a local connection's segments of 64 kB.
	burstBuffer = 208 << 10

	// nearby is the longest way to a server and back at which a small buffer holds nothing
	// up: what a read lets in comes within refilled.
	nearby = 300 * time.Microsecond
)

// refilled is what comes at once after a read while the server has more.
var refilled = wakeup{burstBuffer * 3 / 8, 500 * time.Microsecond}

func newBursts(now time.Time) bursts { return bursts{dryAt: now, began: now, all: 1} }

// begin begins a turn unless one goes on, and tells whether there is one: there is none
// within a pause, nor within three while the server, as far as known, has no more than it
// is to keep. Then it may have become faster, and the turn takes all.
func (b *bursts) begin(now time.Time) bool {
	if b.open {
		return true
	}
	paused := now.Sub(b.began)
	if paused < burstPause {
		return false
	}
	b.limit = 0
	if b.turns+1 < b.all && paused < 3*burstPause {
		b.limit = int(b.rate * (now.Sub(b.dryAt) - burstPause).Seconds())
		if b.limit <= b.taken {
			return false
		}
	}
	b.turns++
	b.open, b.began = true, now
	return true
}

// took adds n bytes to what the turn took, and tells whether it goes on.
func (b *bursts) took(n int) bool {
	b.taken += n
	b.open = b.limit == 0 || b.taken < b.limit
	return b.open
}

// dry ends the turn because the server has no more. It returns what came since that was
// so the last time.
//
// The rate is slow to fall: one that is too high costs a few small segments, one that is
// too low keeps the server waiting until a turn takes all. While it rises much, every
// turn takes all.
func (b *bursts) dry(now time.Time) (bytes int, in time.Duration) {
	bytes, in = b.taken, now.Sub(b.dryAt)
	rate, all := float64(bytes)/in.Seconds(), min(2*b.all, allWithin)
	if rate > b.rate*3/2 {
		all = 1
	}
	*b = bursts{rate: max(rate, b.rate*4/5), dryAt: now, all: all, began: now}
	return bytes, in
}

// readInBursts is called before anything was read fast: a window that was offered cannot
// be taken back, and what comes into it beyond the buffer is dropped, to be sent again
// after a fifth of a second. Where it cannot be done, or the server is far, nothing
// changes.
func (g *gatherer) readInBursts(near time.Duration) {
	g.near = shrinkBuffer(g.Conn, burstBuffer, near) == nil
}

// fillInBurst reads at least one byte into the empty buffer, and as much of the turn as
// fits.
func (g *gatherer) fillInBurst() error {
	began := time.Now()
	for !g.bursts.begin(began) {
		g.pause()
		began = time.Now()
	}
	g.from, g.to = 0, 0
	for {
		n, err := g.Conn.Read(g.buf[g.to:])
		g.to += n
		switch {
		case n == 0 && g.to == 0:
			return err
		case n == 0: // what was read goes first
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				g.failed = err
			}
			return nil
		case !g.bursts.took(n) || g.to == len(g.buf):
			return nil
		}
		came, err := g.wait(refilled)
		if err != nil {
			return err
		}
		now := time.Now()
		if !came && g.isDue(now) {
			return nil // somebody wants the read to end; the turn goes on with the next
		}
		// What came for as long as a pause was made meanwhile, and did not wait for us.
		if !came || now.Sub(began) > burstPause {
			g.expect(wakeupFor(g.bursts.dry(now)), now)
			return nil
		}
	}
}

// pause lasts until the window is shut, if the server is to shut it: nothing comes any
// more. It ends within three burstPauses in any case, so a read is late by that for its
// deadline.
func (g *gatherer) pause() {
	time.Sleep(burstPause)
	had := waiting(g.Conn)
	for range 8 {
		time.Sleep(burstPause / 4)
		came := waiting(g.Conn)
		if came == had || g.isDue(time.Now()) {
			return
		}
		had = came
	}
}

// isDue tells whether the deadline that was asked for has passed.
func (g *gatherer) isDue(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.until.IsZero() && !now.Before(g.until)
}
