package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"
)

// Bounds of a server made by [HTTP] unless an option says otherwise. They are
// generous for people and tight for a client that tries to hold a connection.
const (
	DefaultReadHeaderTimeout = 5 * time.Second
	DefaultReadTimeout       = 15 * time.Second
	DefaultWriteTimeout      = 60 * time.Second
	DefaultIdleTimeout       = 90 * time.Second
	DefaultMaxHeaderBytes    = 64 << 10
	DefaultGrace             = 10 * time.Second
)

// HTTPOption changes one bound of a server made by [HTTP].
type HTTPOption func(*httpPart)

// WithTimeouts sets how long a client may take to send a whole request, header
// and body, and how long a request may take from the end of its header to the end of its
// answer. A single handler that streams for longer lifts its own limit with
// http.ResponseController.
func WithTimeouts(read, write time.Duration) HTTPOption {
	return func(p *httpPart) {
		p.server.ReadTimeout, p.server.WriteTimeout = read, write
		if read > 0 {
			p.server.ReadHeaderTimeout = min(read, p.server.ReadHeaderTimeout)
		}
	}
}

// WithGrace sets how long requests under way may go on once the server is asked
// to stop. Default DefaultGrace.
func WithGrace(d time.Duration) HTTPOption {
	return func(p *httpPart) { p.grace = d }
}

type httpPart struct {
	server *http.Server
	ln     net.Listener
	grace  time.Duration
}

// HTTP returns a part that serves h on ln until its context ends, then closes the
// listener and waits for the requests under way, at most for the grace period. Those
// that still run then have their context cancelled and their connection closed, and
// the part returns an error that says so. It owns ln from the call of the part on.
func HTTP(ln net.Listener, h http.Handler, opts ...HTTPOption) func(context.Context) error {
	p := &httpPart{
		ln:    ln,
		grace: DefaultGrace,
		server: &http.Server{
			Handler:           h,
			ReadHeaderTimeout: DefaultReadHeaderTimeout,
			ReadTimeout:       DefaultReadTimeout,
			WriteTimeout:      DefaultWriteTimeout,
			IdleTimeout:       DefaultIdleTimeout,
			MaxHeaderBytes:    DefaultMaxHeaderBytes,
		},
	}
	for _, opt := range opts {
		opt(p)
	}
	return p.run
}

func (p *httpPart) run(ctx context.Context) error {
	// Requests outlive ctx by the grace period, so theirs is a context of its own.
	requests, cut := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), stoppingKey{}, ctx.Done()))
	defer cut()
	p.server.BaseContext = func(net.Listener) context.Context { return requests }

	served := make(chan error, 1)
	go func() { served <- p.server.Serve(p.ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP on %s: %w", p.ln.Addr(), err)
	case <-ctx.Done():
	}

	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.grace)
	defer cancel()
	err := p.server.Shutdown(deadline)
	if err != nil {
		err = errors.Join(
			fmt.Errorf("stop HTTP on %s: requests still under way after %s were cut: %w", p.ln.Addr(), p.grace, err),
			p.server.Close())
		cut() // after the close, so that a handler which gives up now is not heard as if it had finished
	}
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve HTTP on %s: %w", p.ln.Addr(), end))
	}
	return err
}

type stoppingKey struct{}

// Stopping returns a channel that is closed when the server of this request is
// asked to stop. A handler that streams without end watches it beside the request's
// own context, which ends only when the grace period does. Outside of a server
// made by [HTTP] the channel is nil.
func Stopping(ctx context.Context) <-chan struct{} {
	done, _ := ctx.Value(stoppingKey{}).(<-chan struct{})
	return done
}

// Listen opens a TCP listener; a taken port is an error that says so.
func Listen(addr string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: the port is taken by another process; choose another address: %w", addr, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return ln, nil
}
