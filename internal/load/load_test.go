package load_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/load"
)

// A stall that lasts to the end of an open loop shows with all that it held up, though
// most of it was never sent.
func TestStallToTheEnd(t *testing.T) {
	t.Parallel()
	const rate, lasts = 100, 500 * time.Millisecond
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-over
		w.WriteHeader(http.StatusConflict)
	}))
	defer server.Close()
	time.AfterFunc(3*lasts, func() { close(over) })
	report, err := load.Run(t.Context(), load.Config{URL: server.URL, Connections: 2, Rate: rate, For: lasts, Pick: load.Hot("sku")})
	require.NoError(t, err)
	require.LessOrEqual(t, report.Short, 2)
	require.Equal(t, 50, report.Short+report.Unsent)
	require.GreaterOrEqual(t, report.Latency(0), lasts, "each had waited for longer than the whole run")
	require.Less(t, report.Latency(0.5), report.Latency(1))
}

// Without a stall nothing is left.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) }))
	defer server.Close()
	for _, rate := range []float64{0, 5} {
		report, err := load.Run(t.Context(), load.Config{URL: server.URL, Connections: 4, Rate: rate, For: 300 * time.Millisecond, Pick: load.Hot("sku")})
		require.NoError(t, err)
		require.Zero(t, report.Unsent)
		require.Equal(t, report.Requests, report.Short)
	}
}

// A rate at which the second checkout is due in more years than there are is no flood.
func TestDueNever(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) }))
	defer server.Close()
	for _, rate := range []float64{1e-12, 1e-320} {
		report, err := load.Run(t.Context(), load.Config{URL: server.URL, Connections: 1, Rate: rate, For: 50 * time.Millisecond, Pick: load.Hot("sku")})
		require.NoError(t, err)
		require.Equal(t, 1, report.Requests)
	}
}

// An answer of 200 that names no order is one whose order the audit misses.
func TestSuccessWithoutOrder(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	defer server.Close()
	report, err := load.Run(t.Context(), load.Config{URL: server.URL, Connections: 1, For: 50 * time.Millisecond, Pick: load.Hot("sku"), KeepOrders: true})
	require.NoError(t, err)
	require.Positive(t, report.Bought)
	require.Len(t, report.Orders, report.Bought)
}

// Any product that a shop may list can be bought.
func TestNamesOfProducts(t *testing.T) {
	t.Parallel()
	for _, sku := range []string{`"\<&>'`, "\U000E0001", "\u2028\u200b", "한글", "e\u0301"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var asked struct{ SKU string }
			if json.NewDecoder(r.Body).Decode(&asked) != nil || asked.SKU != sku {
				w.WriteHeader(http.StatusBadRequest)
			}
		}))
		report, err := load.Run(t.Context(), load.Config{URL: server.URL, Connections: 1, For: 50 * time.Millisecond, Pick: load.Hot(sku)})
		server.Close()
		require.NoError(t, err)
		require.Positive(t, report.Bought)
		require.Zero(t, report.Refused, "%q", sku)
	}
}

// At a low rate a connection lies idle until the server closes it. That is no checkout
// without an answer.
func TestIdleConnectionIsClosed(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) }))
	defer server.Close()
	require.NoError(t, load.PostAfterAPause(server.URL, server.CloseClientConnections))
}

// What stands before the API may send its answers in chunks.
func TestAnswersInChunks(t *testing.T) {
	t.Parallel()
	order := uuid.New()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Took")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		_, _ = w.Write([]byte(`{"orderId":"` + order.String()[:20]))
		w.(http.Flusher).Flush()
		_, _ = w.Write([]byte(order.String()[20:] + `"}`))
		w.Header().Set("X-Took", "1")
	}))
	defer server.Close()
	ctx, stop := context.WithCancel(t.Context())
	answered := 0
	report, err := load.Run(ctx, load.Config{URL: server.URL, Connections: 1, For: time.Minute, Pick: load.Hot("sku"), KeepOrders: true, Each: func() {
		if answered++; answered == 3 {
			stop()
		}
	}})
	require.NoError(t, err)
	require.Equal(t, 3, report.Bought)
	require.Equal(t, 3, report.Requests)
	for _, named := range report.Orders {
		require.Equal(t, order, named)
	}
}

// Whoever gets no answer in a closed loop does not try again as fast as the machine can.
func TestAPIThatIsGone(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(nil)
	server.Close()
	report, err := load.Run(t.Context(), load.Config{URL: server.URL, Connections: 2, For: 300 * time.Millisecond, Pick: load.Hot("sku")})
	require.NoError(t, err)
	require.Equal(t, report.Requests, report.Failed)
	require.Positive(t, report.Failed)
	require.LessOrEqual(t, report.Failed, 2*4)
}

// What would have been due after a load was stopped was not held up by anybody.
func TestStoppedDuringAStall(t *testing.T) {
	t.Parallel()
	const rate = 1000
	ctx, stop := context.WithCancel(t.Context())
	var stopped time.Time
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stop()
		stopped = time.Now()
		<-time.After(3 * time.Second)
		w.WriteHeader(http.StatusConflict)
	}))
	defer server.Close()
	began := time.Now()
	report, err := load.Run(ctx, load.Config{URL: server.URL, Connections: 1, Rate: rate, For: time.Minute, Pick: load.Hot("sku")})
	require.NoError(t, err)
	require.Equal(t, 1, report.Short)
	require.LessOrEqual(t, report.Unsent, int(stopped.Sub(began).Seconds()*rate)+2000, "3,000 more would have been due")
}
