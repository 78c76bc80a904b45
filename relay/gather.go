package relay

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// gatherer is the replication connection, read in few large pieces while messages
// come fast. Postgres sends each message by itself, three for a row that commits
// alone, and a reader that is woken by each one slows Postgres down as well: it is
// the number of reads that costs, not the bytes. So the faster they come, the more
// bytes a read waits for, and the longer: while they come slowly each is read at once,
// whenFast and inBacklog say how long they wait at most, and a backlog is taken in [bursts]
// where the server is on this host. Where the system cannot wait so (a
// Unix socket, another system than Linux) it only reads.
//
// As of any net.Conn, any goroutine may read and set a deadline: pgx has a connection
// that it gives up read by two at once. empty is for one that reads alone.
type gatherer struct {
	net.Conn
	reading  sync.Mutex // held by a read, guards all but until and moved
	buf      []byte
	from, to int // what is in buf and not taken yet

	mu    sync.Mutex
	until time.Time     // the deadline that was asked for
	moved chan struct{} // holds a token when it was asked for anew

	unable   bool         // to wait for more than a byte
	wakeup   wakeup       // as they came in the last span
	since    time.Time    // when the span began
	readAt   time.Time    // the last read in it, zero when it has been judged
	bytes    int          // read in it
	messages atomic.Int64 // in it, as the stream that reads counts them
	near     bool         // the server is on this host, and what the system buffers is small
	bursts   bursts       // of a backlog from there
	failed   error        // of the connection, behind what was read
}

// gatherBuffer is how much is read at most at once.
const gatherBuffer = 1 << 20

// wakeup says how many bytes are worth to be woken for, and how long fewer wait.
type wakeup struct {
	bytes int
	wait  time.Duration
}

var (
	atOnce    = wakeup{}
	whenFast  = wakeup{128 << 10, 10 * time.Millisecond}
	inBacklog = wakeup{gatherBuffer, 20 * time.Millisecond}
)

// How long bytes and messages are counted, at least, before it is judged how fast they come.
// A backlog shows soon, and being woken for each of its messages is what slows it; but two
// events that commit side by side come as fast.
const (
	backlogSpan = 2 * time.Millisecond
	gatherSpan  = 10 * time.Millisecond
)

// wakeupFor judges by what came in a time. From 16 MB/s (some 20,000 events a second) there
// is a backlog. Slower bytes may be of a few large events, which wait for nothing; it is
// messages that wake a reader, and from 3,000 a second (1,000 events that commit alone) they
// come fast.
func wakeupFor(bytes int, messages int64, in time.Duration) wakeup {
	switch {
	case float64(bytes) >= 16<<20*in.Seconds():
		return inBacklog
	case float64(messages) >= 3000*in.Seconds():
		return whenFast
	default:
		return atOnce
	}
}

func newGatherer(conn net.Conn) *gatherer {
	return &gatherer{Conn: conn, buf: make([]byte, gatherBuffer), moved: make(chan struct{}, 1)}
}

// Read implements net.Conn.
func (g *gatherer) Read(p []byte) (int, error) {
	g.reading.Lock()
	defer g.reading.Unlock()
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
	if g.failed != nil {
		return g.failed
	}
	if !g.readAt.IsZero() {
		g.measure()
	}
	if g.inBursts() {
		return g.fillInBurst()
	}
	if g.wakeup != atOnce && !g.unable {
		if _, err := g.wait(g.wakeup); err != nil {
			return err
		}
	}
	n, err := g.Conn.Read(g.buf)
	g.from, g.to = 0, n
	if n == 0 {
		return err
	}
	g.bytes += n
	g.readAt = time.Now()
	return nil // an error comes again with the next read
}

// wait returns when as many bytes have come as are worth it, or have not come in
// time.
func (g *gatherer) wait(w wakeup) (came bool, err error) {
	g.mu.Lock()
	until := time.Now().Add(w.wait)
	if !g.until.IsZero() && g.until.Before(until) {
		until = g.until
	}
	err = g.Conn.SetReadDeadline(until)
	g.mu.Unlock()
	if err != nil {
		return false, err
	}
	err = waitForBytes(g.Conn, w.bytes)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		g.unable = true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return err == nil, g.Conn.SetReadDeadline(g.until)
}

// measure judges what is to be expected from what came until the last read. It is called
// before the next one, when the messages of the last are counted. Judged without them,
// steady traffic would be taken for slow behind each read of little, and behind a backlog.
// In bursts it is called behind a turn that took all, however short that was.
func (g *gatherer) measure() {
	in := g.readAt.Sub(g.since)
	if w := wakeupFor(g.bytes, g.messages.Load(), in); g.inBursts() || in >= gatherSpan || in >= backlogSpan && w == inBacklog {
		g.expect(w, g.readAt)
	}
	g.readAt = time.Time{}
}

// inBursts tells whether a backlog is read in turns.
func (g *gatherer) inBursts() bool { return g.wakeup == inBacklog && g.near }

// expect readies for bytes that come so from now on.
func (g *gatherer) expect(w wakeup, now time.Time) {
	if w == inBacklog && g.wakeup != w {
		g.bursts = newBursts(now)
	}
	g.wakeup, g.since, g.bytes = w, now, 0
	g.messages.Store(0)
}

// SetReadDeadline implements net.Conn.
func (g *gatherer) SetReadDeadline(t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = t
	select {
	case g.moved <- struct{}{}:
	default:
	}
	return g.Conn.SetReadDeadline(t)
}

// SetDeadline implements net.Conn.
func (g *gatherer) SetDeadline(t time.Time) error {
	if err := g.SetReadDeadline(t); err != nil {
		return err
	}
	return g.SetWriteDeadline(t)
}
