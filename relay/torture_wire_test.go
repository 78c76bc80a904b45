package relay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// mortal publishes for a relay that dies. What the world sees of a dead process is
// that nothing more comes of it: no call reaches SNS, and no answer the ledger.
type mortal struct {
	next relay.Publisher

	mu       sync.Mutex
	dead     bool
	calls    int
	reached  func(point, int) // told of each point that a call passes
	recorded idSet
	resent   idSet // sent although it was recorded
}

var errDead = errors.New("this process is dead")

// Publish implements relay.Publisher. A call that has gone out goes on without its
// process, so it does not end with ctx.
func (m *mortal) Publish(ctx context.Context, events []schema.Event) ([]relay.Result, error) {
	call, reached := m.enter(events)
	reached(beforePublish, call)
	if m.isDead() {
		return nil, errDead
	}
	results, err := m.next.Publish(context.WithoutCancel(ctx), events)
	reached(beforeAnswer, call)
	if m.isDead() {
		return nil, errDead
	}
	reached(beforeLedger, call)
	return results, err
}

func (m *mortal) enter(events []schema.Event) (call int, reached func(point, int)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range events {
		if m.recorded[e.ID] {
			m.resent[e.ID] = true
		}
	}
	m.calls++
	return m.calls, m.reached
}

// expect counts calls from 1 again and tells reached of them.
func (m *mortal) expect(reached func(point, int)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls, m.reached = 0, reached
}

func (m *mortal) isDead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

func (m *mortal) setDead(dead bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = dead
}

func (m *mortal) setRecorded(ids idSet) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recorded = ids
}

// gate is the relay's way to Postgres. Shut, it cuts every connection and lets no
// new one through.
type gate struct {
	listener net.Listener
	server   string
	wg       sync.WaitGroup

	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]struct{}
	deaf  *atomic.Bool // of the connections that are made now
}

// passage is one end of a connection through the gate.
type passage struct {
	net.Conn
	deaf *atomic.Bool // swallows what is written
}

func (p *passage) Write(b []byte) (int, error) {
	if p.deaf.Load() {
		return len(b), nil
	}
	return p.Conn.Write(b)
}

// swallow lets nothing through any more on the connections that there are, and closes none.
func (g *gate) swallow() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deaf.Store(true)
	g.deaf = new(atomic.Bool)
}

func (g *gate) passages(client, server net.Conn) (a, b net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &passage{client, g.deaf}, &passage{server, g.deaf}
}

func newGate(o *outbox) *gate {
	dsn, err := url.Parse(o.pg.DSN(o.database))
	require.NoError(o.t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(o.t, err)
	g := &gate{listener: listener, server: dsn.Host, conns: map[net.Conn]struct{}{}, deaf: new(atomic.Bool)}
	g.wg.Go(g.accept)
	o.t.Cleanup(func() {
		listener.Close()
		g.setShut(true)
		g.wg.Wait()
	})
	return g
}

// through is the data source name that leads through the gate.
func (g *gate) through(o *outbox, dsn string) string {
	u, err := url.Parse(dsn)
	require.NoError(o.t, err)
	u.Host = g.listener.Addr().String()
	return u.String()
}

func (g *gate) setShut(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	if shut {
		for c := range g.conns {
			c.Close()
		}
	}
}

func (g *gate) accept() {
	for {
		client, err := g.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", g.server)
		if err != nil {
			client.Close()
			continue
		}
		client, server = g.passages(client, server)
		if g.keep(client, server) {
			g.wg.Go(func() { g.carry(client, server) })
			g.wg.Go(func() { g.carry(server, client) })
		}
	}
}

func (g *gate) keep(conns ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range conns {
		if g.shut {
			c.Close()
			continue
		}
		g.conns[c] = struct{}{}
	}
	return !g.shut
}

func (g *gate) carry(from, to net.Conn) {
	_, _ = io.Copy(to, from) // however it ends, the connection is over
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range []net.Conn{from, to} {
		c.Close()
		delete(g.conns, c)
	}
}
