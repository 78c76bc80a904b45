package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/api"
	"github.com/restock-dev/restock/schema"
)

// callback sells a product out and returns the address that the factory is told.
func (w *world) callback() *url.URL {
	w.Helper()
	_, err := w.owner.Exec(w.Context(), `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
		VALUES ('CP-1', 'Donut', 0, 0, 10, 'FF-500293', 'manager@example.com')`)
	require.NoError(w, err)
	a, err := api.New(w.Context(), api.Config{
		DSN: w.db.RoleDSN(schema.RoleAPI, password), PublicURL: "https://shop.example.com/prod", DefaultSKU: "CP-1", CallbackSecrets: [][]byte{[]byte(secret)},
	})
	require.NoError(w, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(w, <-ended)
	}()
	res := httptest.NewRecorder()
	a.Handler().ServeHTTP(res, httptest.NewRequest(http.MethodPost, "/checkout", nil))
	require.Equal(w, http.StatusConflict, res.Code, res.Body)
	var text string
	require.NoError(w, w.owner.QueryRow(w.Context(), `SELECT attributes->'callbackUrl'->>'value' FROM outbox`).Scan(&text))
	u, err := url.Parse(text)
	require.NoError(w, err)
	return u
}

// post is the payload of a request, as an HTTP API makes it.
func post(u *url.URL, body string, encoded bool, language string) map[string]any {
	if encoded {
		body = base64.StdEncoding.EncodeToString([]byte(body))
	}
	return map[string]any{
		"version": "2.0", "routeKey": "POST /stock-increase/{id}", "rawPath": u.EscapedPath(), "rawQueryString": u.RawQuery,
		"headers":        map[string]string{"content-type": "application/json", "accept-language": language, "host": u.Host},
		"requestContext": map[string]any{"stage": "prod", "http": map[string]any{"method": "POST", "path": u.Path, "sourceIp": "192.0.2.1"}},
		"body":           body, "isBase64Encoded": encoded,
	}
}

func (w *world) http(payload any) (status int, headers map[string]string, body map[string]any) {
	w.Helper()
	o := w.invoke(payload, enough)
	require.False(w, o.failed, string(o.body))
	var response struct {
		StatusCode int
		Headers    map[string]string
		Body       string
	}
	require.NoError(w, json.Unmarshal(o.body, &response))
	require.NoError(w, json.Unmarshal([]byte(response.Body), &body))
	return response.StatusCode, response.Headers, body
}

func TestStockIncrease(t *testing.T) {
	w := newWorld(t)
	u := w.callback()
	var exports atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { exports.Add(r.ContentLength) }))
	t.Cleanup(collector.Close)
	w.start("OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_BSP_SCHEDULE_DELAY=3600000", "RESTOCK_CONSUMER=stock-increase", "RESTOCK_DATABASE_URL="+w.db.RoleDSN(schema.RoleAPI, password),
		"RESTOCK_PUBLIC_URL=https://shop.example.com/prod", "RESTOCK_CALLBACK_SECRETS="+secret)
	delivery := `{"MessageGroupId":"stock-arrival-group","MessageAttributeProductId":"CP-1","MessageAttributeProductCnt":"7",` +
		`"MessageAttributeFactoryId":"FF-500293","MessageAttributeRequester":"manager@example.com","CallbackUrl":"` + u.String() + `"}`

	forged := *u
	forged.RawQuery = "sig=" + strings.Repeat("A", 43)
	status, headers, body := w.http(post(&forged, delivery, false, ""))
	require.Equal(t, http.StatusForbidden, status, body)
	require.Eventually(t, func() bool { return exports.Load() > 0 }, patience, time.Millisecond, "spans are sent before the function is frozen")
	require.Equal(t, "application/problem+json", headers["content-type"])

	status, headers, body = w.http(post(u, delivery, true, "en"))
	require.Equal(t, http.StatusOK, status, body)
	require.Equal(t, "application/json", headers["content-type"])
	require.Equal(t, "en", headers["content-language"])
	require.Contains(t, body["message"], "7")
	status, _, body = w.http(post(u, delivery, false, "")) // again
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "입고 완료! 남은 재고: 7", body["message"])
	var stock int
	require.NoError(t, w.owner.QueryRow(t.Context(), `SELECT stock FROM products`).Scan(&stock))
	require.Equal(t, 7, stock, "once")
	require.NotContains(t, w.log.String(), u.Query().Get("sig"))

	o := w.invoke(map[string]any{"version": "1.0", "httpMethod": "POST"}, enough)
	require.True(t, o.failed)
	require.Contains(t, string(o.body), "payload version 2.0")
}

func TestGateway(t *testing.T) {
	t.Parallel()
	var got *http.Request
	h := gateway(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Add("X-Two", "a")
		w.Header().Add("X-Two", "b")
		_, _ = w.Write([]byte{0xff, 0})
	}))
	in := gatewayRequest{
		Version: "2.0", RawPath: "/prod/a%2Fb%20c", RawQueryString: "x=1&x=%20", Headers: map[string]string{"host": "shop.example.com", "accept-language": "en,ko"},
		RequestContext: events.APIGatewayV2HTTPRequestContext{Stage: "prod", HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{Method: "PUT", SourceIP: "192.0.2.1"}},
	}
	out, err := h(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, "PUT", got.Method)
	require.Equal(t, "/a/b c", got.URL.Path)
	require.Equal(t, "/a%2Fb%20c", got.URL.EscapedPath())
	require.Equal(t, []string{"1", " "}, got.URL.Query()["x"])
	require.Equal(t, "shop.example.com", got.Host)
	require.Equal(t, "en,ko", got.Header.Get("Accept-Language"))
	require.Equal(t, gatewayResponse{StatusCode: 200, Headers: map[string]string{"x-two": "a, b"}, Body: "/wA=", IsBase64Encoded: true}, out)

	for path, want := range map[string]string{"/prod": "/", "/production/x": "/production/x", "/prod/prod": "/prod", "": "/"} {
		in.RawPath = path
		_, err = h(t.Context(), in)
		require.NoError(t, err)
		require.Equal(t, want, got.URL.Path)
	}
	in.Body, in.IsBase64Encoded = "%", true
	_, err = h(t.Context(), in)
	require.Error(t, err)
}
