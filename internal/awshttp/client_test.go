package awshttp_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/awshttp"
)

// sdkBody is a request body as the SDK's is: closed under the transport's hands,
// it fails in WriteTo and is at its end in Read.
type sdkBody struct {
	io.Reader
	t *testing.T
}

func (b sdkBody) WriteTo(io.Writer) (int64, error) {
	b.t.Error("the transport used WriteTo, which fails once the SDK has closed the body")
	return 0, io.EOF
}

func (b sdkBody) Close() error { return errors.New("the transport closed the SDK's body") }

func TestBodyIsReadPlainly(t *testing.T) {
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	defer echo.Close()
	client := awshttp.Wrap(nil, 1)
	defer client.CloseIdleConnections()
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, echo.URL, sdkBody{strings.NewReader("hello"), t})
		require.NoError(t, err)
		req.ContentLength = 5
		body := req.Body
		res, err := client.Do(req)
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, "hello", string(text))
		require.Equal(t, body, req.Body, "the request is given back as it was")
	}
}

func TestNoBody(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	client := awshttp.Wrap(nil, 1)
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
	require.NoError(t, err)
	res, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusNotFound, res.StatusCode)
}

func TestWrap(t *testing.T) {
	once := awshttp.Wrap(nil, 1)
	require.Same(t, once, awshttp.Wrap(once, 1), "wrapped once")
	require.NotNil(t, awshttp.Wrap(http.DefaultClient, 1))
}
