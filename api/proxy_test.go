package api_test

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// cutProxy stands between the API and Postgres and breaks the connection at a chosen
// moment. Connections are relayed until a cut is armed.
type cutProxy struct {
	ln net.Listener
	wg sync.WaitGroup

	mu       sync.Mutex
	upstream string
	cut      *cut
	closed   bool // refuse new connections
	open     map[net.Conn]bool
}

// cut breaks the connection whose client sends the needle: before the server
// gets it, or after the server answered it but before the client hears.
type cut struct {
	needle     string
	reaches    bool   // the server gets it
	amid       func() // ends the session, which has got all but the Sync at its end; what it says then arrives
	thenRefuse bool   // no connection after this one
	done       bool
}

func newProxy(t testing.TB, dsn string) (p *cutProxy, throughIt string) {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p = &cutProxy{ln: ln, upstream: u.Host, open: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	u.Host = ln.Addr().String()
	return p, u.String()
}

func (p *cutProxy) arm(c cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = &c
}

// wasCut tells whether the armed cut happened.
func (p *cutProxy) wasCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut != nil && p.cut.done
}

func (p *cutProxy) to(upstream string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream = upstream
}

func (p *cutProxy) close() {
	p.ln.Close()
	p.mu.Lock()
	p.closed = true
	for conn := range p.open {
		conn.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *cutProxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		upstream, refuse := p.upstream, p.closed
		p.mu.Unlock()
		server, err := net.Dial("tcp", upstream)
		if err != nil || refuse {
			client.Close()
			if server != nil {
				server.Close()
			}
			continue
		}
		p.relay(client, server)
	}
}

func (p *cutProxy) relay(client, server net.Conn) {
	p.mu.Lock()
	p.open[client], p.open[server] = true, true
	p.mu.Unlock()
	mute := make(chan struct{})    // no answer goes to the client from here on
	swallow := make(chan struct{}) // the server answered after that, or has gone
	p.wg.Go(func() {
		defer p.hangUp(client, server)
		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf)
			if err != nil {
				return
			}
			c := p.matches(buf[:n])
			if c == nil {
				if _, err := server.Write(buf[:n]); err != nil {
					return
				}
				continue
			}
			if c.amid != nil {
				if _, err := server.Write(buf[:n-len("S\x00\x00\x00\x04")]); err == nil {
					c.amid()
					<-swallow
				}
				return
			}
			if c.reaches {
				close(mute)
				if _, err := server.Write(buf[:n]); err == nil {
					<-swallow
				}
			}
			return
		}
	})
	p.wg.Go(func() {
		defer p.hangUp(client, server)
		defer close(swallow)
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			select {
			case <-mute:
				return
			default:
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
}

func (p *cutProxy) matches(sent []byte) *cut {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == nil || p.cut.done || !bytes.Contains(sent, []byte(p.cut.needle)) {
		return nil
	}
	p.cut.done = true
	p.closed = p.cut.thenRefuse
	return p.cut
}

func (p *cutProxy) hangUp(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
		delete(p.open, conn)
	}
}
