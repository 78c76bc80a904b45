package relay

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// gatherer is the replication connection, read in few large pieces while messages
// come fast. Postgres sends each message by itself, three for a row that commits
// alone, and a reader that is woken by each one slows Postgres down as well: it is
// the number of reads that costs, not the bytes. So while messages come fast a read
// waits for gatherBytes, or for gatherFor; while they come slowly each is read at
// once. Where the system cannot wait so (a Unix socket, another system than Linux)
// it only reads.
//
// Reads are for one goroutine. A deadline may be set by any.
type gatherer struct {
	net.Conn
	buf      []byte
	from, to int // what is in buf and not taken yet

	mu    sync.Mutex
	until time.Time // the deadline that was asked for

	unable bool      // to wait for more than a byte
	fast   bool      // messages came fast in the last span
	since  time.Time // when the span began
	bytes  int       // read in it
}

const (
	// gatherBuffer is how much is read at most at once.
	gatherBuffer = 256 << 10
	// gatherBytes are worth to be woken for while messages come fast.
	gatherBytes = 64 << 10
	// gatherFor bounds how long fewer bytes wait.
	gatherFor = 2 * time.Millisecond
	// Messages come fast when fastBytes or more come in fastSpan, about 4 MB/s.
	fastSpan  = 2 * time.Millisecond
	fastBytes = 8 << 10
)

func newGatherer(conn net.Conn) *gatherer {
	return &gatherer{Conn: conn, buf: make([]byte, gatherBuffer)}
}

// Read implements net.Conn.
func (g *gatherer) Read(p []byte) (int, error) {
	if g.from == g.to {
		if err := g.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, g.buf[g.from:g.to])
	g.from += n
	return n, nil
}

// empty tells whether the next Read must ask the system.
func (g *gatherer) empty() bool { return g.from == g.to }

// fill reads at least one byte into the empty buffer.
func (g *gatherer) fill() error {
	if g.fast && !g.unable {
		if err := g.wait(); err != nil {
			return err
		}
	}
	n, err := g.Conn.Read(g.buf)
	g.from, g.to = 0, n
	if n == 0 {
		return err
	}
	g.measure(n)
	return nil // an error comes again with the next read
}

// wait returns when gatherBytes are there, or have not come in gatherFor.
func (g *gatherer) wait() error {
	g.mu.Lock()
	until := time.Now().Add(gatherFor)
	if !g.until.IsZero() && g.until.Before(until) {
		until = g.until
	}
	err := g.Conn.SetReadDeadline(until)
	g.mu.Unlock()
	if err != nil {
		return err
	}
	switch err := waitForBytes(g.Conn, gatherBytes); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		g.fast = false
	case err != nil:
		g.unable = true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.Conn.SetReadDeadline(g.until)
}

// measure judges from what came whether more is to be expected.
func (g *gatherer) measure(n int) {
	g.bytes += n
	if now := time.Now(); now.Sub(g.since) >= fastSpan {
		g.fast = g.bytes >= fastBytes
		g.since, g.bytes = now, 0
	}
}

// SetReadDeadline implements net.Conn.
func (g *gatherer) SetReadDeadline(t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = t
	return g.Conn.SetReadDeadline(t)
}

// SetDeadline implements net.Conn.
func (g *gatherer) SetDeadline(t time.Time) error {
	if err := g.SetReadDeadline(t); err != nil {
		return err
	}
	return g.SetWriteDeadline(t)
}
