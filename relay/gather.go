package relay

import (
	"io"
	"time"
)

// gatherer reads the replication connection in large pieces while messages come
// fast. Postgres sends each message by itself, three for a row that commits alone,
// and is slowed down by waking a reader for each one; a reader that looks away for
// a moment finds many at once. While messages come slowly each is read at once.
type gatherer struct {
	r        io.Reader
	buf      []byte
	from, to int // what is in buf and not taken yet
	quick    int // reads in a row that did not have to wait
}

const (
	// gatherBytes is how much is read at most at once.
	gatherBytes = 256 << 10
	// gatherFor is how long to look away.
	gatherFor = 500 * time.Microsecond
	// quickRead is how long a read takes at most that found something waiting.
	quickRead = 100 * time.Microsecond
	// quickReads in a row mean that messages come fast: a handful is one commit.
	quickReads = 16
)

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

// fill reads at least one byte into the empty buffer.
func (g *gatherer) fill() error {
	if g.buf == nil {
		g.buf = make([]byte, gatherBytes)
	}
	if g.quick >= quickReads && g.to < gatherBytes/4 {
		time.Sleep(gatherFor)
	}
	started := time.Now()
	n, err := g.r.Read(g.buf)
	if time.Since(started) < quickRead {
		g.quick++
	} else {
		g.quick = 0
	}
	g.from, g.to = 0, n
	return err
}

// empty tells whether the next Read must ask the connection.
func (g *gatherer) empty() bool { return g.from == g.to }
