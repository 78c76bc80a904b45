package api_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/api"
	"github.com/restock-dev/restock/internal/service"
)

// What cannot work is refused at the start, with the mend.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	short, good := []byte("15 bytes, short"), []byte(secret)
	for mend, change := range map[string]func(*api.Config){
		"no connection string":             func(c *api.Config) { c.DSN = "" },
		"cannot parse":                     func(c *api.Config) { c.DSN = "postgres://localhost:port/x" },
		"openssl rand -hex 32":             func(c *api.Config) { c.CallbackSecrets = nil },
		"at least 16":                      func(c *api.Config) { c.CallbackSecrets = [][]byte{good, short} },
		"one, or two":                      func(c *api.Config) { c.CallbackSecrets = [][]byte{good, good, good} },
		"absolute http or https URL":       func(c *api.Config) { c.PublicURL = "" },
		"https://shop.example.com":         func(c *api.Config) { c.PublicURL = "shop.example.com:8080" },
		"give an absolute":                 func(c *api.Config) { c.PublicURL = "ftp://shop.example.com" },
		"without user, query and fragment": func(c *api.Config) { c.PublicURL = "http://shop.example.com/?a=b" },
		"1 to 64 bytes":                    func(c *api.Config) { c.DefaultSKU = strings.Repeat("x", 65) },
		"at least one":                     func(c *api.Config) { c.MaxConns = -1 },
		"less than the statement timeout":  func(c *api.Config) { c.LockTimeout = time.Hour },
		"a millisecond or more":            func(c *api.Config) { c.Cooldown = -time.Second },
	} {
		cfg := api.Config{DSN: "postgres://localhost/store", PublicURL: publicly, DefaultSKU: donut, CallbackSecrets: [][]byte{good}}
		change(&cfg)
		_, err := api.New(t.Context(), cfg)
		require.ErrorContains(t, err, mend)
	}
}

func TestPublicURLKeepsItsPath(t *testing.T) {
	t.Parallel()
	for _, public := range []string{"https://shop.example.com/restock", "https://shop.example.com/restock/"} {
		s := newShop(t, func(c *api.Config) { c.PublicURL = public })
		s.exec(`UPDATE products SET stock = 0, initial_stock = 0`)
		id := s.buy(donut, 1).str("replenishmentId")
		url := one[string](s, `SELECT attributes->'callbackUrl'->>'value' FROM outbox`)
		require.True(t, strings.HasPrefix(url, "https://shop.example.com/restock/stock-increase/"+id+"?sig="), url)
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	w := httptest.NewRecorder()
	s.api.Panicking().ServeHTTP(w, httptest.NewRequest("GET", "/panicking", nil))
	require.Equal(t, http.StatusInternalServerError, w.Code)
	got := readAnswer(w.Code, w.Header(), w.Body.Bytes())
	require.Equal(t, "internal", got.str("type"))
	require.NotContains(t, got.raw, "a mistake")
	require.Contains(t, s.log.String(), "a mistake")
	require.Equal(t, 1, s.counted("restock_api_panics_total"))
	require.Equal(t, http.StatusOK, s.checkout("").status)
}

// A client that sends slowly is cut, and holds nobody up.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	ln, err := service.Listen("127.0.0.1:0")
	require.NoError(t, err)
	run(t, service.HTTP(ln, s.handler, service.WithTimeouts(200*time.Millisecond, 10*time.Second)))

	slow := func(sent string) *bufio.Reader {
		conn, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		_, err = conn.Write([]byte(sent))
		require.NoError(t, err)
		return bufio.NewReader(conn)
	}
	header := slow("POST /checkout HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	body := slow("POST /checkout HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{")

	bought, err := http.Post("http://"+ln.Addr().String()+"/checkout", "", nil)
	require.NoError(t, err)
	bought.Body.Close()
	require.Equal(t, http.StatusOK, bought.StatusCode)

	got, err := http.ReadResponse(body, nil)
	require.NoError(t, err)
	got.Body.Close()
	require.Equal(t, http.StatusRequestTimeout, got.StatusCode)
	if refused, err := http.ReadResponse(header, nil); err == nil { // closed without a word is as good
		refused.Body.Close()
		require.GreaterOrEqual(t, refused.StatusCode, 400)
	}
	require.Equal(t, 0, s.stock(donut), "one bought")
	http.DefaultClient.CloseIdleConnections()
}

// A body that says itself that it is too large is refused before any of it comes: who
// asks first is not told to go on.
func TestTooLargeIsSaidFirst(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	ln, err := service.Listen("127.0.0.1:0")
	require.NoError(t, err)
	run(t, service.HTTP(ln, s.api.Handler()))
	for _, expect := range []string{"Expect: 100-continue\r\n", ""} {
		conn, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		_, err = conn.Write([]byte("POST /checkout HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + expect + "Content-Length: 65537\r\n\r\n"))
		require.NoError(t, err)
		got, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusRequestEntityTooLarge, got.StatusCode)
		require.True(t, got.Close)
		got.Body.Close()
		conn.Close()
	}
	s.requireNothingWritten()
}

// Requests under way when the server is asked to stop get their answers.
func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	dsn := s.db.Config().ConnString()
	a, err := api.New(t.Context(), api.Config{DSN: dsn, PublicURL: publicly, DefaultSKU: donut, CallbackSecrets: [][]byte{[]byte(secret)}})
	require.NoError(t, err)
	ln, err := service.Listen("127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- service.Run(ctx, a.Run, service.HTTP(ln, a.Handler())) }()

	release := s.lockProduct(donut)
	answered := make(chan int, 1)
	go func() {
		got, err := http.Post("http://"+ln.Addr().String()+"/checkout", "", nil)
		if err != nil {
			answered <- 0
			return
		}
		got.Body.Close()
		answered <- got.StatusCode
	}()
	s.awaitLockWaiters(1)
	stop()
	require.Eventually(t, func() bool { // the listener closes first
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, 10*time.Second, time.Millisecond)
	require.Empty(t, stopped, "a checkout is under way")
	release()
	require.Equal(t, http.StatusOK, <-answered)
	require.NoError(t, <-stopped)
	require.Equal(t, 0, s.stock(donut))
	late := httptest.NewRecorder()
	a.Handler().ServeHTTP(late, s.request("POST", "/checkout", http.NoBody))
	require.Equal(t, http.StatusServiceUnavailable, late.Code, "the connections are closed")
	http.DefaultClient.CloseIdleConnections()
}
