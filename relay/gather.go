package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// gatherer reads the replication connection in few large pieces while messages
// come fast. Postgres sends each message by itself, three for a row that commits
// alone, and a reader that is woken by each one slows Postgres down as well: it is
// the number of reads that costs, not the bytes. So while messages come fast it
// asks the kernel to be woken for gatherBytes only, or after gatherFor; while they
// come slowly each is read at once. Over a Unix socket, which knows no such wish,
// it only reads.
type gatherer struct {
	r        io.Reader
	buf      []byte
	from, to int // what is in buf and not taken yet

	conn  net.Conn // for deadlines
	tcp   *net.TCPConn
	low   bool            // woken for gatherBytes only
	ctx   context.Context //nolint:containedctx // that of the read under way, which io.Reader cannot take
	until time.Time       // when a read gives up

	fast  bool      // messages came fast in the last span
	since time.Time // when the span began
	bytes int       // read in it
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

// attach tells the connection that it reads from.
func (g *gatherer) attach(conn net.Conn) {
	g.conn = conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	g.tcp, _ = conn.(*net.TCPConn)
}

// begin bounds the reads that follow: they fail with os.ErrDeadlineExceeded after
// until and, once interrupt was called, when ctx has ended.
func (g *gatherer) begin(ctx context.Context, until time.Time) { g.ctx, g.until = ctx, until }

// interrupt wakes a read whose ctx has ended. It is safe for concurrent use.
func (g *gatherer) interrupt() { _ = g.conn.SetReadDeadline(time.Unix(1, 0)) }

// Read implements io.Reader.
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

// empty tells whether the next Read must ask the connection.
func (g *gatherer) empty() bool { return g.from == g.to }

// fill reads at least one byte into the empty buffer.
func (g *gatherer) fill() error {
	if g.buf == nil {
		g.buf = make([]byte, gatherBuffer)
	}
	g.from, g.to = 0, 0
	n, err := g.readSome()
	if n > 0 { // an error comes again with the next read
		g.to = n
		g.measure(n)
		return nil
	}
	return err
}

func (g *gatherer) readSome() (int, error) {
	if g.conn == nil { // not attached: the connection is being made
		return g.r.Read(g.buf)
	}
	if g.fast && g.tcp != nil {
		g.lowWater(true)
		n, err := g.readUntil(time.Now().Add(gatherFor))
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		g.fast = false
	}
	g.lowWater(false)
	return g.readUntil(g.until)
}

func (g *gatherer) readUntil(t time.Time) (int, error) {
	if err := g.conn.SetReadDeadline(t); err != nil {
		return 0, err
	}
	// Looked at after the deadline is set, which may have undone an interruption.
	if g.ctx.Err() != nil {
		return 0, os.ErrDeadlineExceeded
	}
	return g.r.Read(g.buf)
}

func (g *gatherer) lowWater(on bool) {
	if g.low == on {
		return
	}
	n := 1
	if on {
		n = gatherBytes
	}
	if setLowWater(g.tcp, n) != nil {
		g.tcp = nil // this system has none
		return
	}
	g.low = on
}

// measure judges from what came whether more is to be expected.
func (g *gatherer) measure(n int) {
	g.bytes += n
	if now := time.Now(); now.Sub(g.since) >= fastSpan {
		g.fast = g.bytes >= fastBytes
		g.since, g.bytes = now, 0
	}
}
