package consumers_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"
)

// wire is the way to a database, which can be cut.
type wire struct {
	mu         sync.Mutex
	down       bool
	loseCommit bool
	loseNext   bool
	conns      []net.Conn
}

// use makes a pool go by the wire.
func (w *wire) use(cfg *pgxpool.Config) { cfg.ConnConfig.DialFunc = w.dial }

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		_ = conn.Close()
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	w.conns = append(w.conns, conn)
	return &wireConn{Conn: conn, wire: w}, nil
}

// cut takes the database away until mend.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	for _, conn := range w.conns {
		_ = conn.Close()
	}
	w.conns = nil
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
}

// loseACommit cuts the connection of the next commit once it is carried out.
func (w *wire) loseACommit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loseCommit = true
}

// loseNextAnswer cuts the connection that is used next, once what it is asked is
// carried out.
func (w *wire) loseNextAnswer() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loseNext = true
}

func (w *wire) losesThis(asked []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.loseCommit && bytes.Contains(asked, []byte("commit\x00")) {
		w.loseCommit = false
		return true
	}
	loses := w.loseNext
	w.loseNext = false
	return loses
}

// lost tells whether loseACommit has had its commit.
func (w *wire) lost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.loseCommit
}

// wireConn is one connection by the wire.
type wireConn struct {
	net.Conn
	wire *wire
	mu   sync.Mutex
	dies bool // with the next answer
}

func (c *wireConn) Write(p []byte) (int, error) {
	if c.wire.losesThis(p) {
		c.mu.Lock()
		c.dies = true
		c.mu.Unlock()
	}
	return c.Conn.Write(p)
}

func (c *wireConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dies && err == nil {
		_ = c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}
