package relay

import (
	"errors"
	"net"
	"os"
	"time"
)

// bursts decides when a turn begins to read a backlog from a server on this host, and how
// much it reads, so that the server sends in full segments.
//
// Postgres hands each message to its socket by itself, and has TCP delay none. While the
// reader's window is open each is sent as a segment of its own, which costs the server
// nearly half as much as making the row. While the window is shut, messages join in the
// server's send buffer for next to nothing, and leave it in full segments once there is
// room. So the reader has a small buffer and lets it run full. After a pause it takes its
// turn: some reads, each of which lets in the next full segments. But for a last read that
// is a buffer too much, it leaves the server what that makes in one pause: had it taken
// all, the window would be open, and the next messages would come one by one until it is
// shut again.
//
// How fast the server makes them shows when the reader has taken all, so that nothing is
// on its way: by what was read since it last had, but for what first filled the window,
// one by one. So one turn in a few takes all, and another does when the server was slower
// than believed. The pause behind such a turn begins when the window is seen to be shut:
// else a slow server fills the window for as long as the pause is, has nothing join, and
// stays slow. A reader that was busy for a pause by then reads at once. With a server that
// makes less than fills the window nothing is gained.
//
// It has no clock and no connection; one goroutine at a time may use it.
type bursts struct {
	rate float64 // that the server made until dryAt, in bytes a second

	dryAt  time.Time // when the reader had taken all
	taken  int       // bytes since then
	turns  int       // begun since then
	allAt  int       // the turn that takes all, counted from 1
	filled int       // bytes that filled the window; 0 where it was not seen to be shut
	rateAt time.Time // since when the rate is counted, without those

	began time.Time // the last turn, or the pause before the first
	open  bool      // it goes on
	limit int       // what taken is in its end; 0 is no limit
}

const (
	// burstPause is between turns, at least. What a server makes in a few of them has to fit
	// into its send buffer, which Linux lets grow to 4 MB, or it waits for us.
	burstPause = 4 * time.Millisecond

	// In the first of these 16 MB/s fill the window, the other is for when it is shut.
	longestFilling = 7 * burstPause
	longestPause   = 3 * burstPause

	// allWithin is how many turns go by at most until one takes all.
	allWithin = 16

	// burstBuffer is what the reader's system is asked to buffer, in bytes. Linux makes it
	// twice that. By default no more may be asked for (net.core.rmem_max), and it must be
	// several of a local connection's segments of 64 kB.
	burstBuffer = 208 << 10
)

// refilled is what a read lets in at once while the server has more.
var refilled = wakeup{burstBuffer * 3 / 8, 500 * time.Microsecond}

func newBursts(now time.Time) bursts { return bursts{dryAt: now, rateAt: now, began: now, allAt: 1} }

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
	if b.turns+1 < b.allAt && paused < longestPause {
		b.limit = b.filled + int(b.rate*(now.Sub(b.rateAt)-burstPause).Seconds())
		if b.limit <= b.taken {
			return false
		}
	}
	b.turns++
	b.open, b.began = true, now
	return true
}

// filling tells whether the window may be open because all was taken.
func (b *bursts) filling() bool { return b.filled == 0 && b.taken == 0 }

// longest is how long a pause is at most.
func (b *bursts) longest() time.Duration {
	if b.filling() {
		return longestFilling
	}
	return longestPause
}

// still notes that nothing more comes behind what was seen. Where the window was filling it
// is shut, and the pause begins now.
func (b *bursts) still(came seen, now time.Time) {
	if came.bytes > 0 && b.filling() {
		b.filled, b.rateAt, b.began = came.bytes, came.at, now
	}
}

// took adds n bytes to what the turn took, and tells whether it goes on.
func (b *bursts) took(n int) bool {
	b.taken += n
	b.open = b.limit == 0 || b.taken < b.limit
	return b.open
}

// dry ends the turn because the server has no more, or makes it no faster than it is
// read. It returns what came in the time since the last such turn.
//
// The rate may be twice too high, and more on a busy machine, by what joined before the
// window was first seen to be shut. It is slow to fall: one that is too high costs a few small segments, one that is
// too low keeps the server waiting until a turn takes all. While it rises much, every turn
// takes all.
func (b *bursts) dry(now time.Time) (bytes int, in time.Duration) {
	bytes, in = b.taken, now.Sub(b.dryAt)
	rate, allAt := float64(bytes-b.filled)/now.Sub(b.rateAt).Seconds(), min(2*b.allAt, allWithin)
	if rate > b.rate*3/2 {
		allAt = 1
	}
	*b = bursts{rate: max(rate, b.rate*4/5), dryAt: now, rateAt: now, allAt: allAt, began: now}
	return bytes, in
}

// readInBursts readies for bursts where the server is on this host. Anywhere else a small
// buffer would bound the speed, and nothing changes.
//
// It is called before anything is read: a window that was offered cannot be taken back,
// and what comes into it beyond the buffer is dropped, to be sent again after a fifth of a
// second.
func (g *gatherer) readInBursts() {
	g.near = onThisHost(g.Conn) && shrinkBuffer(g.Conn, burstBuffer) == nil
}

// onThisHost tells whether both ends of a TCP connection are here.
func onThisHost(conn net.Conn) bool {
	local, isTCP := conn.LocalAddr().(*net.TCPAddr)
	remote, areTCP := conn.RemoteAddr().(*net.TCPAddr)
	return isTCP && areTCP && local.IP.Equal(remote.IP)
}

// fillInBurst reads at least one byte into the empty buffer, and as much of the turn as
// fits.
func (g *gatherer) fillInBurst() error {
	for !g.bursts.begin(time.Now()) {
		g.pause()
		if g.isDue() {
			return os.ErrDeadlineExceeded
		}
	}
	g.from, g.to = 0, 0
	var began time.Time
	for {
		n, err := g.Conn.Read(g.buf[g.to:])
		if g.to == 0 {
			began = time.Now()
		}
		g.to += n
		switch {
		case n == 0 && g.to == 0:
			return err
		case n == 0: // what was read goes first
			g.keep(err)
			return nil
		case !g.bursts.took(n) || g.to == len(g.buf):
			return nil
		}
		woken, err := g.wait(refilled)
		if err != nil {
			g.keep(err)
			return nil
		}
		if !woken && g.isDue() {
			return nil // the turn goes on with the next read
		}
		// What came for as long as a pause was made meanwhile, and did not wait for us.
		if now := time.Now(); !woken || now.Sub(began) > burstPause {
			bytes, in := g.bursts.dry(now)
			g.bytes, g.since, g.readAt = bytes, now.Add(-in), now
			return nil
		}
	}
}

// keep has the next read fail as this one did. A deadline has its own next time.
func (g *gatherer) keep(err error) {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		g.failed = err
	}
}

// pause lasts until nothing more comes, because the window is shut or the server has no
// more, or somebody asks for another deadline, or it has been long.
func (g *gatherer) pause() {
	end := time.Now().Add(g.bursts.longest())
	step := time.NewTimer(burstPause)
	defer step.Stop()
	var came seen
	for now := time.Now(); now.Before(end); {
		select {
		case <-step.C:
		case <-g.moved:
			return
		}
		now = time.Now()
		if came.again(waiting(g.Conn), now) {
			g.bursts.still(came, now)
			return
		}
		step.Reset(burstPause / 4)
	}
}

// seen is how many bytes wait, and when they were first seen to be as many.
type seen struct {
	bytes int
	at    time.Time
}

// again tells whether the last look saw as many.
func (s *seen) again(bytes int, now time.Time) bool {
	if !s.at.IsZero() && bytes == s.bytes {
		return true
	}
	s.bytes, s.at = bytes, now
	return false
}

// isDue tells whether the deadline that was asked for has passed.
func (g *gatherer) isDue() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.until.IsZero() && !time.Now().Before(g.until)
}
