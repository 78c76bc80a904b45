package localmarketing_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/restock-dev/restock/internal/localmarketing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	key   = "a key of more than 24 bytes, and fewer than 64"
	id    = "01a0b1c2-d3e4-7f56-8901-23456789abcd"
	event = `{"sequence":"0000000000000000007","time":"2026-03-05T00:00:01Z","specversion":"1.0","id":"` + id + `","source":"/restock/customers",` +
		`"type":"customer.promoted","subject":"c-42","datacontenttype":"application/json","dataschema":"urn:restock:customer.promoted:1",` +
		`"data":{"customerId":"c-42","orderId":"7d9f1b9e-0000-4000-8000-000000000001","quantity":100}}`
)

var now = time.Date(2026, 3, 5, 0, 0, 2, 0, time.UTC)

func secretOf(key string) string { return "whsec_" + base64.StdEncoding.EncodeToString([]byte(key)) }

// bench is a system behind a server.
type bench struct {
	t *testing.T
	*localmarketing.System
	url string
}

func setup(t *testing.T, change ...func(*localmarketing.Config)) *bench {
	t.Parallel()
	cfg := localmarketing.Config{Secrets: []string{secretOf("another key, of more than 24 bytes"), secretOf(key)}, Now: func() time.Time { return now }}
	for _, c := range change {
		c(&cfg)
	}
	s, err := localmarketing.New(cfg)
	require.NoError(t, err)
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return &bench{t: t, System: s, url: server.URL}
}

// headers are those of a webhook that is in order.
func headers(id string, at time.Time, body string) http.Header {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = io.WriteString(mac, id+"."+stamp+"."+body)
	h := http.Header{}
	h.Set("Content-Type", "application/cloudevents+json")
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", stamp)
	h.Set("Webhook-Signature", "v1a,b3RoZXI= v1,b3RoZXI= v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return h
}

func (b *bench) send(method, path string, h http.Header, body string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(body))
	require.NoError(b.t, err)
	req.Header = h
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

func (b *bench) post(h http.Header, body string) (int, string) {
	b.t.Helper()
	res, text, err := b.send(http.MethodPost, "/webhooks", h, body)
	require.NoError(b.t, err)
	return res.StatusCode, text
}

func TestWebhookIsTaken(t *testing.T) {
	b := setup(t)
	h := headers(id, now, event)
	h.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	status, text := b.post(h, event)
	require.Equal(t, http.StatusOK, status, text)
	require.Len(t, b.Received(), 1)
	got := b.Received()[0]
	require.Equal(t, "7d9f1b9e-0000-4000-8000-000000000001", got.OrderID.String())
	got.OrderID = [16]byte{}
	require.Equal(t, localmarketing.Received{
		ID: id, CustomerID: "c-42", Quantity: 100, EventTime: now.Add(-time.Second), Body: event,
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Timestamps: []time.Time{now}, ReceivedAt: now,
	}, got)

	res, text, err := b.send(http.MethodGet, "/webhooks", http.Header{}, "")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	var list struct{ Received []localmarketing.Received }
	require.NoError(t, json.Unmarshal([]byte(text), &list))
	require.Equal(t, b.Received(), list.Received)
	res, _, err = b.send(http.MethodGet, "/healthz", http.Header{}, "")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
}

func TestWebhookIsTakenOnce(t *testing.T) {
	b := setup(t)
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			res, _, err := b.send(http.MethodPost, "/webhooks", headers(id, now.Add(time.Duration(i)*time.Second), event), event)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("%v %v", res, err)
			}
		})
	}
	all.Wait()
	require.Len(t, b.Received(), 1)
	require.Len(t, b.Received()[0].Timestamps, 10)

	other := strings.Replace(event, `"quantity":100`, `"quantity":101`, 1)
	status, text := b.post(headers(id, now, other), other)
	require.Equal(t, http.StatusConflict, status, text)
	require.Contains(t, b.Received()[0].Body, `"quantity":100`)
	require.Len(t, b.Received()[0].Timestamps, 10)
}

func TestWebhooksThatAreNotTheSenders(t *testing.T) {
	b := setup(t)
	for name, change := range map[string]func(http.Header){
		"no id":              func(h http.Header) { h.Del("Webhook-Id") },
		"no timestamp":       func(h http.Header) { h.Del("Webhook-Timestamp") },
		"no signature":       func(h http.Header) { h.Del("Webhook-Signature") },
		"two ids":            func(h http.Header) { h.Add("Webhook-Id", id) },
		"another id":         func(h http.Header) { h.Set("Webhook-Id", "0"+id[1:]+"1") },
		"another timestamp":  func(h http.Header) { h.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix()+1, 10)) },
		"padded timestamp":   func(h http.Header) { h.Set("Webhook-Timestamp", "0"+h.Get("Webhook-Timestamp")) },
		"timestamp in words": func(h http.Header) { h.Set("Webhook-Timestamp", "now") },
		"another version": func(h http.Header) {
			h.Set("Webhook-Signature", strings.Replace(h.Get("Webhook-Signature"), "v1,", "v2,", 2))
		},
		"another signature":   func(h http.Header) { h.Set("Webhook-Signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=") },
		"half a signature":    func(h http.Header) { h.Set("Webhook-Signature", h.Get("Webhook-Signature")[:60]) },
		"nonsense signatures": func(h http.Header) { h.Set("Webhook-Signature", "v1, v1 , ,v1") },
	} {
		h := headers(id, now, event)
		change(h)
		status, text := b.post(h, event)
		require.Equal(t, http.StatusUnauthorized, status, "%s: %s", name, text)
	}
	status, _ := b.post(headers(id, now, event), event+" ")
	require.Equal(t, http.StatusUnauthorized, status, "another body")
	for off, want := range map[time.Duration]int{
		-5 * time.Minute: 200, 5 * time.Minute: 200, -5*time.Minute - time.Second: 401, 5*time.Minute + time.Second: 401, -1e6 * time.Hour: 401,
	} {
		status, text := b.post(headers(id, now.Add(off), event), event)
		require.Equal(t, want, status, "%s: %s", off, text)
	}
	require.Len(t, b.Received(), 1)
}

func TestEventsThatAreNotInOrder(t *testing.T) {
	b := setup(t)
	replace := func(old, with string) string {
		require.Contains(t, event, old)
		return strings.Replace(event, old, with, 1)
	}
	for name, body := range map[string]string{
		"not JSON":          "hello",
		"no object":         "[]",
		"empty":             "",
		"specversion":       replace(`"specversion":"1.0"`, `"specversion":"0.3"`),
		"id":                replace(id, ""),
		"id of another":     replace(id, "0"+id[1:]+"1"),
		"source":            replace("/restock/customers", ""),
		"type":              replace("customer.promoted", "customer.eaten"),
		"no time":           replace(`"time":"2026-03-05T00:00:01Z",`, ""),
		"time":              replace("2026-03-05T00:00:01Z", "yesterday"),
		"content type":      replace("application/json", "text/plain"),
		"schema":            replace("urn:restock:customer.promoted:1", "1"),
		"attribute name":    replace(`"sequence"`, `"Sequence"`),
		"no customer":       replace(`"customerId":"c-42",`, ""),
		"another customer":  replace(`"customerId":"c-42"`, `"customerId":"c-43"`),
		"no order":          replace(`"orderId":"7d9f1b9e-0000-4000-8000-000000000001",`, ""),
		"quantity":          replace(`"quantity":100`, `"quantity":0`),
		"quantity in words": replace(`"quantity":100`, `"quantity":"many"`),
		"unknown member":    replace(`"quantity":100`, `"quantity":100,"extra":1`),
		"no data":           replace(`"data":{`, `"other":{`),
		"null data":         replace(`"data":{"customerId":"c-42","orderId":"7d9f1b9e-0000-4000-8000-000000000001","quantity":100}`, `"data":null`),
	} {
		status, text := b.post(headers(id, now, body), body)
		require.Equal(t, http.StatusBadRequest, status, "%s: %s", name, text)
	}
	for _, media := range []string{"", "application/json", "text/plain", "application/cloudevents-batch+json"} {
		h := headers(id, now, event)
		h.Set("Content-Type", media)
		status, _ := b.post(h, event)
		require.Equal(t, http.StatusUnsupportedMediaType, status, media)
	}
	large := event + strings.Repeat(" ", 300<<10)
	status, _ := b.post(headers(id, now, large), large)
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
	require.Empty(t, b.Received())

	h := headers(id, now, event)
	h.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	status, text := b.post(h, event)
	require.Equal(t, http.StatusOK, status, text)
}

func TestFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault  localmarketing.Fault
		header http.Header // of the answer, in part
		body   string
		taken  bool
	}{
		"broken":             {fault: localmarketing.Fault{Status: 500, Body: "broken"}, body: "broken"},
		"throttled":          {fault: localmarketing.Fault{Status: 429, RetryAfter: "7"}, header: http.Header{"Retry-After": {"7"}}},
		"moved":              {fault: localmarketing.Fault{Status: 302, Location: "/elsewhere"}, header: http.Header{"Location": {"/elsewhere"}}},
		"taken and nonsense": {fault: localmarketing.Fault{Status: 200, Body: "<html>", Accept: true}, body: "<html>", taken: true},
		"endless":            {fault: localmarketing.Fault{Status: 200, Body: "x", Size: 100_000}, body: "x" + strings.Repeat(" ", 100_000)},
		"cut":                {fault: localmarketing.Fault{Cut: true}},
		"taken and cut":      {fault: localmarketing.Fault{Cut: true, Accept: true}, taken: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			test.fault.Times = 1
			b.Fail(test.fault)
			res, text, err := b.send(http.MethodPost, "/webhooks", headers(id, now, event), event)
			if test.fault.Cut {
				require.Error(t, err)
			} else {
				require.NoError(t, err)
				require.Equal(t, test.fault.Status, res.StatusCode)
				require.Equal(t, test.body, text)
				require.Subset(t, res.Header, test.header)
			}
			require.Equal(t, test.taken, len(b.Received()) == 1)
			status, _ := b.post(headers(id, now, event), event)
			require.Equal(t, http.StatusOK, status, "it was one only")
			require.Len(t, b.Received(), 1)
		})
	}
}

func TestSlowAndHealed(t *testing.T) {
	ticks, asked := make(chan time.Time), make(chan time.Duration, 1)
	b := setup(t, func(c *localmarketing.Config) {
		c.After = func(d time.Duration) <-chan time.Time {
			asked <- d
			return ticks
		}
	})
	b.Fail(localmarketing.Fault{Slow: time.Hour})
	done := make(chan error, 1)
	go func() {
		res, _, err := b.send(http.MethodPost, "/webhooks", headers(id, now, event), event)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("answered %d", res.StatusCode)
		}
		done <- err
	}()
	require.Equal(t, time.Hour, <-asked)
	require.Empty(t, b.Received())
	ticks <- now
	require.NoError(t, <-done)
	require.Len(t, b.Received(), 1)
	b.Heal()
	status, _ := b.post(headers(id, now, event), event)
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, asked)
}

func TestSecretsAreChecked(t *testing.T) {
	t.Parallel()
	_, err := localmarketing.New(localmarketing.Config{})
	require.ErrorContains(t, err, "no secret")
	for _, s := range []string{"", "whsec_", "hidden", "whsec_hidden!", secretOf("hidden"), secretOf(strings.Repeat("x", 65)), base64.StdEncoding.EncodeToString([]byte(key))} {
		_, err := localmarketing.New(localmarketing.Config{Secrets: []string{secretOf(key), s}})
		require.EqualError(t, err, "marketing system: secret 2: want whsec_ and 24 to 64 bytes in base64", s)
	}
}
