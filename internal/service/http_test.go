package service_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/service"
)

// server is a part of service.HTTP under way.
type server struct {
	addr string
	stop context.CancelFunc
	err  chan error
}

func serve(t *testing.T, h http.Handler, opts ...service.HTTPOption) server {
	t.Helper()
	ln, err := service.Listen("127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	s := server{addr: ln.Addr().String(), stop: stop, err: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.err <- service.HTTP(ln, h, opts...)(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return s
}

// get asks in the background; the answer's body or the error comes on the channel.
func (s server) get(t *testing.T) <-chan any {
	t.Helper()
	answer := make(chan any, 1)
	go func() {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Get("http://" + s.addr + "/")
		if err != nil {
			answer <- err
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answer <- string(body)
	}()
	return answer
}

func TestHTTPLetsRequestsUnderWayFinish(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-service.Stopping(r.Context())
		<-release
		if r.Context().Err() == nil {
			_, _ = io.WriteString(w, "finished")
		}
	}))
	answer := s.get(t)
	<-arrived
	s.stop()
	close(release)
	require.Equal(t, "finished", <-answer)
	require.NoError(t, <-s.err)
	_, err := net.Dial("tcp", s.addr)
	require.Error(t, err, "it listens no more")
}

func TestHTTPCutsRequestsAfterTheGrace(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	s := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}), service.WithGrace(20*time.Millisecond))
	answer := s.get(t)
	<-arrived
	s.stop()
	require.ErrorContains(t, <-s.err, "were cut")
	require.Implements(t, (*error)(nil), <-answer)
}

func TestHTTPCutsSlowClients(t *testing.T) {
	t.Parallel()
	s := serve(t, http.NotFoundHandler(), service.WithTimeouts(50*time.Millisecond, time.Second))
	conn, err := net.Dial("tcp", s.addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: shop\r\nX-Slow:")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err = io.ReadAll(conn)
	require.NoError(t, err, "the server closes the connection before our deadline")
}

func TestHTTPRefusesHugeHeaders(t *testing.T) {
	t.Parallel()
	s := serve(t, http.NotFoundHandler())
	conn, err := net.Dial("tcp", s.addr)
	require.NoError(t, err)
	defer conn.Close()
	go func() {
		// The server may stop reading at any point, so an error here means nothing.
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: shop\r\nX-Huge: ")
		_, _ = conn.Write(make([]byte, 2*service.DefaultMaxHeaderBytes))
	}()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Contains(t, []int{http.StatusRequestHeaderFieldsTooLarge, http.StatusBadRequest}, res.StatusCode)
}

func TestHTTPTellsWhyItCannotServe(t *testing.T) {
	t.Parallel()
	ln, err := service.Listen("127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	require.ErrorIs(t, service.HTTP(ln, http.NotFoundHandler())(t.Context()), net.ErrClosed)
}

func TestListenOnATakenPort(t *testing.T) {
	t.Parallel()
	ln, err := service.Listen("127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	_, err = service.Listen(ln.Addr().String())
	require.ErrorContains(t, err, "taken by another process")
	_, err = service.Listen("no-port")
	require.ErrorContains(t, err, "listen on no-port")
}

func TestStoppingOutsideOfAServer(t *testing.T) {
	t.Parallel()
	require.Nil(t, service.Stopping(t.Context()))
}

func TestHealth(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "restock_test_total", Help: "Test."}))
	var notReady error
	mux := http.NewServeMux()
	service.Health(mux, func(context.Context) error { return notReady }, registry)
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}

	require.Equal(t, http.StatusOK, get("/healthz").Code)
	require.Contains(t, get("/metrics").Body.String(), "restock_test_total 0")
	ready := get("/readyz")
	require.Equal(t, http.StatusOK, ready.Code)
	require.JSONEq(t, `{"status":"ready"}`, ready.Body.String())

	notReady = errors.New("no partition for tomorrow")
	ready = get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, ready.Code)
	require.JSONEq(t, `{"status":"not ready","reason":"no partition for tomorrow"}`, ready.Body.String())
	require.Equal(t, http.StatusOK, get("/healthz").Code, "not ready is not dead")
}

func TestProgress(t *testing.T) {
	t.Parallel()
	var stalled error
	mux := http.NewServeMux()
	service.Progress(mux, func() error { return stalled })
	get := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/progressz", nil))
		return w
	}
	require.JSONEq(t, `{"status":"progress"}`, get().Body.String())
	stalled = errors.New("nothing goes")
	require.Equal(t, http.StatusServiceUnavailable, get().Code)
	require.JSONEq(t, `{"status":"stalled","reason":"nothing goes"}`, get().Body.String())
}
