// Package awshttp is the HTTP client that every client of the AWS SDK uses:
// bounded, with enough idle connections for the calls that are made at once, and
// safe against an answer that comes early. It also knows the codes by which any
// service asks for less.
//
// # Why not the SDK's own
//
// The SDK closes a request's body as soon as the answer's header is there. Go's
// transport may by then not have asked the body for its end yet, which it does
// once all of it is sent. Asked through WriteTo, a closed body of the SDK answers
// with io.EOF as an error (smithy-go, transport/http/internal/io/safe.go), so the
// transport takes the request for failed and closes the connection while the
// answer is being read. On a busy machine with a service that answers fast, a
// receive is lost like that every few hundred calls: its messages stay hidden
// until their visibility timeout. Read without WriteTo, the closed body is merely
// at its end.
package awshttp

import (
	"io"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// Client is an HTTP client for the AWS SDK. It is safe for concurrent use.
type Client struct{ next aws.HTTPClient }

var _ aws.HTTPClient = (*Client)(nil)

// Wrap makes a client of base, the one of an aws.Config; nil is the SDK's default.
// The SDK's own kind of client is given up to conns idle connections to a
// service, where http.DefaultClient has two; any other kind is taken as it is.
func Wrap(base aws.HTTPClient, conns int) *Client {
	switch b := base.(type) {
	case *Client:
		return b
	case nil:
		return &Client{tuned(awshttp.NewBuildableClient(), conns)}
	case *awshttp.BuildableClient:
		return &Client{tuned(b, conns)}
	default:
		return &Client{b}
	}
}

func tuned(c *awshttp.BuildableClient, conns int) *awshttp.BuildableClient {
	return c.WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 2*conns, conns
		t.DialContext = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	})
}

// Do sends req.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return c.next.Do(req)
	}
	sent := *req
	// The SDK goes on to close req.Body, and the transport the one that is sent.
	sent.Body = io.NopCloser(struct{ io.Reader }{req.Body})
	return c.next.Do(&sent)
}

// CloseIdleConnections closes the connections that no call uses.
func (c *Client) CloseIdleConnections() {
	if b, ok := c.next.(*awshttp.BuildableClient); ok && b.GetTransport() != nil {
		b.GetTransport().CloseIdleConnections()
	}
}
