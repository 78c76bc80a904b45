package consumers_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/localmarketing"
	"github.com/restock-dev/restock/schema"
)

var (
	secret   = webhookSecret("the secret that both have")
	loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
)

func webhookSecret(text string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(text))
}

// office is a pretend marketing system that a handler is wired to.
type office struct {
	*localmarketing.System
	server *httptest.Server
}

func newOffice(t *testing.T, secrets ...string) *office {
	if len(secrets) == 0 {
		secrets = []string{secret}
	}
	system, err := localmarketing.New(localmarketing.Config{Secrets: secrets})
	require.NoError(t, err)
	o := &office{System: system, server: httptest.NewServer(system.Handler())}
	t.Cleanup(o.server.Close)
	return o
}

func (o *office) url() string { return o.server.URL + "/webhooks" }

func marketingAt(t testing.TB, url string, change ...func(*consumers.MarketingConfig)) *consumers.Marketing {
	t.Helper()
	cfg := consumers.MarketingConfig{URL: url, Secrets: []string{secret}, AllowedPrefixes: loopback}
	for _, c := range change {
		c(&cfg)
	}
	m, err := consumers.NewMarketing(cfg)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

// setupMarketing is a world whose queue is the marketing system's.
func setupMarketing(t *testing.T) *world {
	w := setup(t)
	w.queue = w.made.Queues[schema.ConsumerMarketing]
	return w
}

func (w *world) startMarketing(h consumers.Handler, change ...func(*consumers.Config)) *running {
	w.Helper()
	interest, _ := schema.InterestOf(schema.ConsumerMarketing, schema.DefaultVIPThreshold)
	return w.start(h, append(change, func(c *consumers.Config) { c.Interest = interest })...)
}

// promote publishes a customer's promotion as the relay does.
func (w *world) promote(customer string) schema.Event {
	w.Helper()
	e := w.append(schema.CustomerPromoted{CustomerID: customer, OrderID: uuid.New(), Quantity: 100})
	w.publish(e)
	return e
}

// webhookBack ends the wait of messages that were put back with a delay.
func (w *world) webhookBack() {
	w.aws.Faults().ExpireVisibility(schema.QueueName(schema.ConsumerMarketing))
}

// webhooks lists the outcomes of the event's calls.
func (w *world) webhooks(e schema.Event) []string {
	w.Helper()
	return scan[[]string](w, `SELECT coalesce(array_agg(outcome ORDER BY id), '{}') FROM effects WHERE event_id = $1 AND kind = 'marketing.webhook'`, e.ID)
}

// promotion is a delivery by hand, for what needs no worker.
func promotion(t *testing.T) consumers.Delivery {
	t.Helper()
	p := schema.CustomerPromoted{CustomerID: "c-42", OrderID: uuid.New(), Quantity: 100}
	e, err := schema.New(schema.NewID(), p, "")
	require.NoError(t, err)
	body := `{"time":"2026-03-05T00:00:01Z",` + e.Body[1:]
	envelope, err := schema.Decode([]byte(body))
	require.NoError(t, err)
	return consumers.Delivery{Event: envelope, Payload: p, Body: []byte(body), Attempt: 1}
}

func TestMarketingSendsASignedWebhook(t *testing.T) {
	w := setupMarketing(t)
	requests := make(chan *http.Request, 2)
	bodies := make(chan string, 2)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- r
		bodies <- string(body)
		rw.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	worker := w.startMarketing(marketingAt(t, server.URL+"/in?key=1"))
	before := time.Now().Unix()
	e := w.promote("c-42")
	row := w.await(e.ID, "done")
	require.Equal(t, "204/"+e.ID.String(), row.effect)
	require.Equal(t, 1, row.attempt)

	r, body := <-requests, <-bodies
	require.Equal(t, "POST /in?key=1", r.Method+" "+r.URL.RequestURI())
	require.Equal(t, "application/cloudevents+json", r.Header.Get("Content-Type"))
	require.Equal(t, e.Traceparent, r.Header.Get("Traceparent"))
	require.Equal(t, e.Body, body, "to the byte, sequence and all")
	id, stamp := r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp")
	require.Equal(t, e.ID.String(), id)
	at := decode[int64](w, stamp)
	require.GreaterOrEqual(t, at, before)
	require.LessOrEqual(t, at, time.Now().Unix())
	want, err := consumers.WebhookHeaders([]string{secret}, id, time.Unix(at, 0), []byte(body))
	require.NoError(t, err)
	require.Equal(t, want.Get("Webhook-Signature"), r.Header.Get("Webhook-Signature"))

	require.Equal(t, []string{"ok"}, w.webhooks(e))
	require.Equal(t, row.effect, scan[string](w, `SELECT reference FROM effects WHERE event_id = $1`, e.ID))
	w.awaitEmpty()

	// In the envelope of SNS it is the same event.
	enveloped := w.append(schema.CustomerPromoted{CustomerID: "c-43", OrderID: uuid.New(), Quantity: 100})
	text, err := json.Marshal(map[string]string{"Type": "Notification", "Message": enveloped.Body})
	require.NoError(t, err)
	w.send("c-43", string(text))
	w.await(enveloped.ID, "done")
	require.Equal(t, enveloped.Body, <-bodies)
	require.NoError(t, worker.stop())
}

// What the system answers decides what becomes of the event.
func TestMarketingAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		fault     localmarketing.Fault
		inbox     string
		attempt   int
		calls     []string
		uncertain int
		requests  int // of the one webhook taken
	}{
		"bad gateway":            {fault: localmarketing.Fault{Status: 502, Times: 1}, inbox: "done", attempt: 2, calls: []string{"failed", "ok"}, requests: 1},
		"request time-out":       {fault: localmarketing.Fault{Status: 408, Times: 1}, inbox: "done", attempt: 2, calls: []string{"failed", "ok"}, requests: 1},
		"too early":              {fault: localmarketing.Fault{Status: 425, Times: 1}, inbox: "done", attempt: 2, calls: []string{"failed", "ok"}, requests: 1},
		"throttled with no wish": {fault: localmarketing.Fault{Status: 429, Times: 1}, inbox: "done", attempt: 2, calls: []string{"failed", "ok"}, requests: 1},
		"moved for a while": {fault: localmarketing.Fault{Status: 308, Location: "/elsewhere", Times: 1},
			inbox: "done", attempt: 2, calls: []string{"failed", "ok"}, requests: 1},
		"refuses":   {fault: localmarketing.Fault{Status: 422, Body: "no such audience"}, inbox: "dead", attempt: 1, calls: []string{"failed"}},
		"forbidden": {fault: localmarketing.Fault{Status: 403}, inbox: "dead", attempt: 1, calls: []string{"failed"}},
		"is gone":   {fault: localmarketing.Fault{Status: 410}, inbox: "dead", attempt: 1, calls: []string{"failed"}},
		"takes it and answers nonsense": {fault: localmarketing.Fault{Status: 202, Body: "\x00<html>", Accept: true},
			inbox: "done", attempt: 1, calls: []string{"ok"}, requests: 1},
		"takes it and answers without end": {fault: localmarketing.Fault{Status: 200, Size: 1 << 40, Accept: true},
			inbox: "done", attempt: 1, calls: []string{"ok"}, requests: 1},
		"is cut before it takes it": {fault: localmarketing.Fault{Cut: true, Times: 1},
			inbox: "done", attempt: 2, calls: []string{"uncertain", "ok"}, uncertain: 1, requests: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := setupMarketing(t)
			o := newOffice(t)
			o.Fail(test.fault)
			w.startMarketing(marketingAt(t, o.url()))
			e := w.promote("c-42")
			row := w.await(e.ID, test.inbox)
			require.Equal(t, test.attempt, row.attempt)
			require.Equal(t, test.uncertain, row.uncertain)
			require.Equal(t, test.calls, w.webhooks(e))
			w.awaitEmpty()
			if test.inbox == "dead" {
				require.Empty(t, o.Received())
				want := fmt.Sprintf("the marketing system answered %d %s", test.fault.Status, http.StatusText(test.fault.Status))
				require.Contains(t, row.lastError, want)
				require.Contains(t, row.lastError, test.fault.Body)
				require.Len(t, w.deadLetters(), 1)
				return
			}
			require.Len(t, o.Received(), 1, "however often it was sent")
			require.Equal(t, e.ID.String(), o.Received()[0].ID)
			require.Len(t, o.Received()[0].Timestamps, test.requests)
		})
	}
}

func TestMarketingHonoursRetryAfterOf503(t *testing.T) {
	w := setupMarketing(t)
	o := newOffice(t)
	o.Fail(localmarketing.Fault{Status: 503, RetryAfter: "1800", Times: 1})
	w.startMarketing(marketingAt(t, o.url()))
	e := w.promote("c-42")
	require.Equal(t, 1, w.await(e.ID, "failed").attempt)
	w.eventually("it waits hidden", func() bool {
		waiting, inFlight := w.counts(w.queue.URL)
		return waiting == 0 && inFlight == 1
	})
	w.eventually("it comes back", func() bool {
		w.webhookBack()
		return w.inbox(e.ID, uuid.Nil).state == "done"
	})
}

// A repeat has the same id and body, and a timestamp and signature of its own.
func TestMarketingRepeatIsSignedAnew(t *testing.T) {
	w := setupMarketing(t)
	o := newOffice(t)
	o.Fail(localmarketing.Fault{Cut: true, Accept: true, Times: 2})
	var calls atomic.Int64
	start := time.Now()
	w.startMarketing(marketingAt(t, o.url(), func(c *consumers.MarketingConfig) {
		c.Now = func() time.Time { return start.Add(time.Duration(calls.Add(1)) * time.Second) }
	}))
	e := w.promote("c-42")
	require.Equal(t, 3, w.await(e.ID, "done").attempt)
	received := o.Received()
	require.Len(t, received, 1)
	require.Equal(t, e.Body, received[0].Body)
	for i, at := range received[0].Timestamps {
		require.Equal(t, start.Unix()+int64(i)+1, at.Unix())
	}
	require.Len(t, received[0].Timestamps, 3)
}

func TestMarketingSecretIsRotated(t *testing.T) {
	t.Parallel()
	older, newer := webhookSecret("the secret that was used so far"), webhookSecret("the secret that comes after it")
	for name, test := range map[string]struct {
		sender, receiver []string
		taken            bool
	}{
		"before":                      {[]string{older}, []string{older}, true},
		"the sender has both":         {[]string{older, newer}, []string{older}, true},
		"the receiver changed":        {[]string{older, newer}, []string{newer}, true},
		"the receiver takes both":     {[]string{newer}, []string{older, newer}, true},
		"the receiver was left alone": {[]string{newer}, []string{older}, false},
	} {
		o := newOffice(t, test.receiver...)
		m := marketingAt(t, o.url(), func(c *consumers.MarketingConfig) { c.Secrets = test.sender })
		_, err := m.Handle(t.Context(), promotion(t))
		if test.taken {
			require.NoError(t, err, name)
			require.Len(t, o.Received(), 1)
			continue
		}
		require.ErrorContains(t, err, "answered 401", name)
		require.Empty(t, o.Received())
	}
}

func TestMarketingSlowIsUncertain(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.Fail(localmarketing.Fault{Slow: time.Hour})
	m := marketingAt(t, o.url(), func(c *consumers.MarketingConfig) { c.Timeout = 2 * time.Second }) // time to send it
	effect, err := m.Handle(t.Context(), promotion(t))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, consumers.CallUncertain, effect.Call.Outcome)
	require.Equal(t, "call the marketing system: context deadline exceeded", effect.Call.Detail)
}

func TestMarketingFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	o := newOffice(t)
	m := marketingAt(t, o.url())
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{other.URL, "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "/healthz"} {
			o.Fail(localmarketing.Fault{Status: status, Location: to})
			_, err := m.Handle(t.Context(), promotion(t))
			require.ErrorContains(t, err, fmt.Sprintf("answered %d", status))
			require.ErrorContains(t, err, "redirects are not followed")
		}
	}
	require.Zero(t, elsewhere.Load())
	require.Empty(t, o.Received())
}

// counted counts what a server writes.
type counted struct {
	http.ResponseWriter
	written *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// An answer of 1 GiB is left where it is.
func TestMarketingReadsNoHugeAnswer(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	var written atomic.Int64
	done := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		defer func() { done <- struct{}{} }()
		o.Handler().ServeHTTP(counted{rw, &written}, r)
	}))
	defer server.Close()
	m := marketingAt(t, server.URL+"/webhooks")
	for status, accepted := range map[int]bool{200: true, 500: false} {
		o.Fail(localmarketing.Fault{Status: status, Size: 1 << 30})
		written.Store(0)
		effect, err := m.Handle(t.Context(), promotion(t))
		require.Equal(t, accepted, err == nil)
		require.Less(t, len(effect.Call.Detail), 100)
		<-done
		require.Less(t, written.Load(), int64(64<<20), "what fits into the buffers of the sockets")
	}
}

func TestMarketingReadsNoHugeHeader(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("X-Filler", strings.Repeat("x", 1<<20))
	}))
	defer server.Close()
	effect, err := marketingAt(t, server.URL).Handle(t.Context(), promotion(t))
	require.Error(t, err)
	require.Equal(t, consumers.CallUncertain, effect.Call.Outcome)
}

// A name that resolves to where no webhook may go costs no attempt and kills no
// event: once the configuration is mended all are sent.
func TestMarketingRefusedAddressHoldsTheEvents(t *testing.T) {
	w := setupMarketing(t)
	o := newOffice(t)
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(o.Handler())
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	url := "http://localhost:" + port + "/webhooks?key=hidden"

	strict := marketingAt(t, url, func(c *consumers.MarketingConfig) { c.AllowedPrefixes = nil })
	worker := w.startMarketing(strict, func(c *consumers.Config) { c.CircuitFailures, c.CircuitOpen = 2, time.Hour })
	first, second := w.promote("c-42"), w.promote("c-43")
	w.eventually("the worker is not ready", func() bool {
		w.webhookBack()
		return worker.Ready(w.Context()) != nil
	})
	require.NoError(t, worker.stop())
	require.Zero(t, connections.Load())
	require.Zero(t, w.inbox(first.ID, uuid.Nil).attempt+w.inbox(second.ID, uuid.Nil).attempt)
	for _, detail := range scan[[]string](w, `SELECT array_agg(detail) FROM effects WHERE kind = 'marketing.webhook' AND outcome = 'failed'`) {
		require.Contains(t, detail, "reach the marketing system: dial tcp")
		require.Contains(t, detail, "is not a public address (loopback): set another URL or mend its DNS; if it is meant, allow its network")
		require.NotContains(t, detail, "hidden")
	}
	require.Empty(t, w.deadLetters())

	w.webhookBack()
	w.startMarketing(marketingAt(t, url))
	for _, e := range []schema.Event{first, second} {
		w.eventually("it is sent", func() bool {
			w.webhookBack()
			return w.inbox(e.ID, uuid.Nil).state == "done"
		})
		require.Equal(t, 1, w.inbox(e.ID, uuid.Nil).attempt)
	}
	require.Len(t, o.Received(), 2)
}

// Nobody there, or somebody else, costs no attempt.
func TestMarketingUnreachableIsNotCalled(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := "http://" + ln.Addr().String()
	require.NoError(t, ln.Close())
	stranger := httptest.NewUnstartedServer(http.NotFoundHandler())
	stranger.Config.ErrorLog = discard()
	stranger.StartTLS()
	defer stranger.Close()
	for url, reason := range map[string]string{
		nobody:                            "connection refused",
		stranger.URL:                      "certificate",
		"http://nobody.invalid/?key=1234": "nobody.invalid",
	} {
		effect, err := marketingAt(t, url).Handle(t.Context(), promotion(t))
		require.ErrorContains(t, err, "reach the marketing system: ", url)
		require.ErrorContains(t, err, reason)
		require.NotContains(t, err.Error(), "1234")
		require.Equal(t, consumers.CallFailed, effect.Call.Outcome, "and not uncertain")
		require.Empty(t, effect.Call.Reference)
	}
}

func TestMarketingDuplicateIsSentOnce(t *testing.T) {
	w := setupMarketing(t)
	o := newOffice(t)
	e := w.promote("c-42")
	w.publish(e)
	w.publish(e)
	w.startMarketing(marketingAt(t, o.url()))
	w.awaitEmpty()
	require.Len(t, o.Received(), 1)
	require.Len(t, o.Received()[0].Timestamps, 1)
	// A forced replay is sent again, and known by its id.
	w.publish(e, forced(uuid.New()))
	w.awaitEmpty()
	require.Len(t, o.Received(), 1)
	require.Len(t, o.Received()[0].Timestamps, 2)
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Whatever a customer is called arrives as it is, and is in no log; nor is what is
// secret.
func TestMarketingHostileCustomers(t *testing.T) {
	w := setupMarketing(t)
	o := newOffice(t)
	echo := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rw.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = fmt.Fprintf(rw, "%s %s", body[len(body)-200:], r.Header.Get("Webhook-Signature"))
	}))
	defer echo.Close()
	lines := &buffer{}
	logged := func(c *consumers.Config) { c.Logger = zerolog.New(lines).Level(zerolog.InfoLevel) }
	customers := []string{
		`c'; DROP TABLE inbox; --`,
		`<script>alert("vip")</script>`,
		`..\..\"},{"customerId":"other"`,
		"고객🍩\u202etxt.exe",
		strings.Repeat("장", 128),
		"line\r\nWebhook-Id: other",
	}
	events := make(map[uuid.UUID]string)
	for _, c := range customers {
		events[w.promote(c).ID] = c
	}
	worker := w.startMarketing(marketingAt(t, o.url()+"?key=hidden"), logged)
	w.awaitEmpty()
	require.NoError(t, worker.stop())
	received := o.Received()
	require.Len(t, received, len(customers))
	for _, r := range received {
		require.Equal(t, events[uuid.MustParse(r.ID)], r.CustomerID)
	}

	w.startMarketing(marketingAt(t, echo.URL+"?key=hidden"), logged)
	for _, c := range customers[:4] {
		row := w.await(w.promote(c).ID, "dead")
		require.Contains(t, row.lastError, "answered 422")
		require.Contains(t, row.lastError, "(customer)")
		require.NotContains(t, row.lastError, c)
	}
	text := lines.String()
	for _, hidden := range []string{"DROP TABLE", "script", "고객", "장장", "hidden", secret, secret[6:]} {
		require.NotContains(t, text, hidden)
	}
	require.Contains(t, text, "event handled")
	require.Contains(t, text, "event dead")
}

// Many servers answer with the path that was asked for, which is often secret.
func TestMarketingURLIsTakenOutOfAnswers(t *testing.T) {
	t.Parallel()
	for name, echo := range map[string]func(*http.Request) string{
		"path":        func(r *http.Request) string { return "Cannot POST " + r.URL.Path },
		"request URI": func(r *http.Request) string { return `{"path":"` + r.URL.RequestURI() + `"}` },
		"in HTML":     func(r *http.Request) string { return html.EscapeString(r.URL.RequestURI()) },
		"query":       func(r *http.Request) string { return "bad " + r.URL.RawQuery },
		"whole":       func(r *http.Request) string { return "Redirecting to https://" + r.Host + r.URL.RequestURI() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				rw.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(rw, echo(r))
			}))
			defer server.Close()
			effect, err := marketingAt(t, server.URL+"/services/hidden/in%20path?key=hidden&a=hidden").Handle(t.Context(), promotion(t))
			require.ErrorContains(t, err, "answered 404")
			require.ErrorContains(t, err, "(URL)")
			require.NotContains(t, err.Error(), "hidden")
			require.NotContains(t, effect.Call.Detail, "hidden")
		})
	}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, err := marketingAt(t, server.URL+"/").Handle(t.Context(), promotion(t))
	require.ErrorContains(t, err, "404 page not found", "no path is no secret")
}

func TestMarketingKeepsItsConnection(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(o.Handler())
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	m := marketingAt(t, server.URL+"/webhooks")
	for range 5 {
		_, err := m.Handle(t.Context(), promotion(t))
		require.NoError(t, err)
	}
	require.Equal(t, int64(1), connections.Load())
}

func TestMarketingKnowsItsEvents(t *testing.T) {
	t.Parallel()
	m := marketingAt(t, "http://127.0.0.1:1")
	effect, err := m.Handle(t.Context(), consumers.Delivery{
		Event: schema.Envelope{Type: schema.TypeStockReplenished}, Payload: schema.StockReplenished{},
	})
	require.EqualError(t, err, "stock.replenished is no event for the marketing system")
	require.Nil(t, effect.Call)
}

func TestMarketingConfigIsChecked(t *testing.T) {
	t.Parallel()
	for url, reason := range map[string]string{
		"":                                      "want http://host/path",
		"marketing":                             "want http://host/path",
		"ftp://marketing":                       "want http://host/path",
		"file:///etc/passwd":                    "want http://host/path",
		"http://":                               "want http://host/path",
		"http://:8080/webhooks":                 "want http://host/path",
		"http://a b/hidden":                     "want http://host/path",
		"https://user:hidden@host/":             "user name or a password",
		"https://user@host/":                    "user name or a password",
		"http://169.254.169.254/latest?hidden":  "169.254.169.254 is not a public address (link-local)",
		"http://[fe80::1%25eth0]/hidden":        "link-local",
		"http://[::ffff:10.0.0.1]:8080/?hidden": "private",
		"https://[::1]/hidden":                  "loopback",
	} {
		_, err := consumers.NewMarketing(consumers.MarketingConfig{URL: url, Secrets: []string{secret}})
		require.ErrorContains(t, err, "marketing webhook URL: ", url)
		require.ErrorContains(t, err, reason, url)
		require.NotContains(t, err.Error(), "hidden")
	}
	_, err := consumers.NewMarketing(consumers.MarketingConfig{URL: "https://marketing.example", Secrets: []string{secret + "!"}})
	require.EqualError(t, err, "marketing: webhook secret 1 of 1: what follows whsec_ is not base64")
	_, err = consumers.NewMarketing(consumers.MarketingConfig{URL: "https://marketing.example"})
	require.ErrorContains(t, err, "no webhook secret")
}

// What one side signs the other verifies, whatever it is, and nothing else.
func FuzzMarketingSignature(f *testing.F) {
	f.Add("01a0b1c2-d3e4-7f56-8901-23456789abcd", int64(1614265330), []byte(`{"test": 2432232314}`), uint16(3))
	f.Add("a.b", int64(-1), []byte{}, uint16(0))
	f.Add(".", int64(0), []byte("\x00\xff."), uint16(1))
	other := webhookSecret("a secret that nobody else has")
	f.Fuzz(func(t *testing.T, id string, seconds int64, body []byte, spot uint16) {
		if id == "" {
			t.Skip("no id")
		}
		at := time.Unix(seconds, 0)
		system, err := localmarketing.New(localmarketing.Config{Secrets: []string{secret}, Now: func() time.Time { return at }})
		require.NoError(t, err)
		handler := system.Handler()
		status := func(h http.Header, body []byte) int {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/webhooks", bytes.NewReader(body))
			r.Header = h
			rec := httptest.NewRecorder()
			handler.ServeHTTP(rec, r)
			return rec.Code
		}
		h, err := consumers.WebhookHeaders([]string{other, secret}, id, at, body)
		require.NoError(t, err)
		// It goes on to be looked at for what it says.
		require.NotEqual(t, http.StatusUnauthorized, status(h, body))

		require.Equal(t, http.StatusUnauthorized, status(h, append(bytes.Clone(body), 'x')), "a longer body")
		if len(body) > 0 {
			forged := bytes.Clone(body)
			forged[int(spot)%len(forged)] ^= 1
			require.Equal(t, http.StatusUnauthorized, status(h, forged), "another body")
		}
		for _, name := range []string{"Webhook-Id", "Webhook-Timestamp"} {
			forged := h.Clone()
			forged.Set(name, forged.Get(name)+"0")
			require.Equal(t, http.StatusUnauthorized, status(forged, body), name)
		}
		unknown, err := consumers.WebhookHeaders([]string{other}, id, at, body)
		require.NoError(t, err)
		require.Equal(t, http.StatusUnauthorized, status(unknown, body), "another secret")
	})
}

// discard is the log of a server whose clients hang up on purpose.
func discard() *log.Logger { return log.New(io.Discard, "", 0) }

// A trace context made by hand is no header: it neither adds one nor holds up the
// event for ever.
func TestMarketingHostileTraceContext(t *testing.T) {
	w, o := setupMarketing(t), newOffice(t)
	e := w.append(schema.CustomerPromoted{CustomerID: "c", OrderID: uuid.New(), Quantity: 100})
	e.Body = strings.Replace(e.Body, e.Traceparent, `00-aa\r\nX-Evil: 1`, 1)
	delete(e.Attributes, "traceparent")
	w.startMarketing(marketingAt(t, o.url()))
	w.publish(e)
	w.await(e.ID, "done")
	require.Empty(t, o.Received()[0].Traceparent)
}
