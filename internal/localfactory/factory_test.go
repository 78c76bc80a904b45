package localfactory_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/restock-dev/restock/internal/localfactory"
	"github.com/restock-dev/restock/internal/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a factory that runs, and a shop that it calls back.
type bench struct {
	t       *testing.T
	factory *localfactory.Factory
	url     string
	shopURL string
	// calls are the callbacks; each is answered by the next of answers, then 200.
	calls   chan localfactory.Order
	mu      sync.Mutex
	answers []int
}

func setup(t *testing.T, cfg localfactory.Config, answers ...int) *bench {
	b := &bench{t: t, calls: make(chan localfactory.Order, 100), answers: answers}
	shop := httptest.NewServer(http.HandlerFunc(b.callback))
	transport := &http.Transport{}
	cfg.Client = &http.Client{Transport: transport}
	if cfg.Retry.Rand == nil {
		cfg.Retry.Rand = func() float64 { return 0 } // no waiting
	}
	b.factory = localfactory.New(cfg)
	api := httptest.NewServer(b.factory.Handler())
	b.url, b.shopURL = api.URL, shop.URL
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.factory.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		api.Close()
		shop.Close()
		transport.CloseIdleConnections()
	})
	return b
}

func (b *bench) callback(w http.ResponseWriter, r *http.Request) {
	var o localfactory.Order
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil || r.Header.Get("Content-Type") != "application/json" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	status := http.StatusOK
	if len(b.answers) > 0 {
		status, b.answers = b.answers[0], b.answers[1:]
	}
	b.mu.Unlock()
	w.WriteHeader(status)
	b.calls <- o
}

func (b *bench) body() string {
	return `{"MessageGroupId":"stock-arrival-group","MessageAttributeProductId":"CP-502101","MessageAttributeProductCnt":"10",` +
		`"MessageAttributeFactoryId":"FF-500293","MessageAttributeRequester":"manager@example.com","CallbackUrl":"` + b.shopURL + `/stock-increase/1?sig=secret"}`
}

func (b *bench) post(key, body string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+"/api/manufactures", strings.NewReader(body))
	require.NoError(b.t, err)
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res, string(text), err
}

func (b *bench) mustPost(key string) (*http.Response, string) {
	res, text, err := b.post(key, b.body())
	require.NoError(b.t, err)
	return res, text
}

func TestOrderIsAnsweredAndDelivered(t *testing.T) {
	t.Parallel()
	b := setup(t, localfactory.Config{})
	res, text := b.mustPost("k1")
	require.Equal(t, http.StatusOK, res.StatusCode)
	var a struct {
		Data struct {
			Data     localfactory.Order
			ID       string
			Reqestor string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(text), &a))
	made := b.factory.Productions()
	require.Len(t, made, 1)
	require.Equal(t, made[0].ID.String(), a.Data.ID)
	require.Equal(t, "manager@example.com", a.Data.Reqestor)
	require.Equal(t, made[0].Order, a.Data.Data)
	require.Equal(t, a.Data.Data, <-b.calls)
}

func TestOneKeyIsOneProduction(t *testing.T) {
	t.Parallel()
	b := setup(t, localfactory.Config{})
	_, first := b.mustPost("k1")
	_, again := b.mustPost("k1")
	require.Equal(t, first, again)
	b.mustPost("k2")
	require.Len(t, b.factory.Productions(), 2)
	require.Equal(t, 2, b.factory.Productions()[0].Requests)

	res, _, err := b.post("k1", strings.Replace(b.body(), `"10"`, `"11"`, 1))
	require.NoError(t, err)
	require.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)

	careless := setup(t, localfactory.Config{IgnoreKey: true})
	careless.mustPost("k1")
	careless.mustPost("k1")
	require.Len(t, careless.factory.Productions(), 2)
}

func TestBadRequestsAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, localfactory.Config{})
	for name, body := range map[string]string{
		"not JSON":     "hello",
		"a number":     strings.Replace(b.body(), `"10"`, `10`, 1),
		"no count":     strings.Replace(b.body(), `"10"`, `"ten"`, 1),
		"missing":      strings.Replace(b.body(), `"CP-502101"`, `""`, 1),
		"unknown":      strings.Replace(b.body(), `{`, `{"extra":"1",`, 1),
		"trailing":     b.body() + "{}",
		"callback":     strings.Replace(b.body(), "http://", "file://", 1),
		"over 64 KiB":  strings.Replace(b.body(), "CP-502101", strings.Repeat("x", 70_000), 1),
		"empty object": "{}",
	} {
		res, text, err := b.post("", body)
		require.NoError(t, err, name)
		require.Equal(t, http.StatusBadRequest, res.StatusCode, "%s: %s", name, text)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/api/manufactures", strings.NewReader(b.body()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "text/plain")
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	require.Empty(t, b.factory.Productions())
}

func TestCallbackIsRepeatedUntilItIsTaken(t *testing.T) {
	t.Parallel()
	b := setup(t, localfactory.Config{}, http.StatusServiceUnavailable, http.StatusInternalServerError, http.StatusOK)
	b.mustPost("k1")
	for range 3 {
		<-b.calls
	}
	require.Eventually(t, func() bool { return b.factory.Productions()[0].Callbacks == 1 }, 60*time.Second, time.Millisecond)
	require.Equal(t, 3, b.factory.Productions()[0].Tries)
}

func TestCallbackThatWillNeverBeTakenIsGivenUp(t *testing.T) {
	t.Parallel()
	b := setup(t, localfactory.Config{}, http.StatusForbidden)
	b.mustPost("k1")
	<-b.calls
	require.Eventually(t, func() bool { return b.factory.Productions()[0].Tries == 1 }, 60*time.Second, time.Millisecond)
	require.Equal(t, 0, b.factory.Productions()[0].Callbacks)
	require.Equal(t, "call back: answered 403", b.factory.Productions()[0].LastError)
}

func TestDuplicateCallbacks(t *testing.T) {
	t.Parallel()
	b := setup(t, localfactory.Config{DuplicateRate: 1})
	b.mustPost("k1")
	require.Equal(t, <-b.calls, <-b.calls)
}

func TestDelayIsAClock(t *testing.T) {
	t.Parallel()
	clock := make(chan time.Time)
	b := setup(t, localfactory.Config{Delay: time.Hour, After: func(d time.Duration) <-chan time.Time {
		require.Equal(t, time.Hour, d)
		return clock
	}})
	b.mustPost("k1")
	clock <- time.Now()
	<-b.calls
}

func TestACutRunIsResumed(t *testing.T) {
	t.Parallel()
	called := make(chan struct{}, 1)
	shop := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called <- struct{}{} }))
	defer shop.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	waits := make(chan struct{})
	release := make(chan time.Time)
	f := localfactory.New(localfactory.Config{Delay: time.Hour, Client: &http.Client{Transport: transport}, After: func(time.Duration) <-chan time.Time {
		waits <- struct{}{}
		return release
	}})
	api := httptest.NewServer(f.Handler())
	defer api.Close()
	b := &bench{t: t, url: api.URL, shopURL: shop.URL}
	b.mustPost("k1")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	<-waits
	cancel()
	require.NoError(t, <-done)

	ctx, cancel = context.WithCancel(t.Context())
	go func() { done <- f.Run(ctx) }()
	<-waits
	release <- time.Now()
	<-called
	cancel()
	require.NoError(t, <-done)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	b := setup(t, localfactory.Config{})
	b.factory.Fail(localfactory.Fault{Status: http.StatusTooManyRequests, RetryAfter: "7"})
	res, _ := b.mustPost("k1")
	require.Equal(t, http.StatusTooManyRequests, res.StatusCode)
	require.Equal(t, "7", res.Header.Get("Retry-After"))

	b.factory.Fail(localfactory.Fault{Cut: true})
	_, _, err := b.post("k1", b.body())
	require.Error(t, err)
	require.Empty(t, b.factory.Productions())

	b.factory.Fail(localfactory.Fault{Cut: true, Accept: true, Times: 1})
	_, _, err = b.post("k1", b.body())
	require.Error(t, err)
	require.Len(t, b.factory.Productions(), 1)
	res, _ = b.mustPost("k1") // the one time is over
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Len(t, b.factory.Productions(), 1)

	b.factory.Fail(localfactory.Fault{Status: http.StatusOK, Body: "<html>", Accept: true})
	_, text := b.mustPost("k2")
	require.Equal(t, "<html>", text)
	b.factory.Heal()
	b.mustPost("k3")
	require.Len(t, b.factory.Productions(), 3)
}

func TestErrorRate(t *testing.T) {
	t.Parallel()
	b := setup(t, localfactory.Config{ErrorRate: 1})
	res, _ := b.mustPost("k1")
	require.Equal(t, http.StatusInternalServerError, res.StatusCode)
}

func TestListHidesTheSignature(t *testing.T) {
	t.Parallel()
	b := setup(t, localfactory.Config{Retry: service.Backoff{Tries: 1}})
	b.mustPost("k1")
	<-b.calls
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+"/api/manufactures", nil)
	require.NoError(t, err)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), "CP-502101")
	require.NotContains(t, string(text), "secret")
}
