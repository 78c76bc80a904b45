package consumers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/internal/tracing"
)

// Bounds of a call to a system outside.
const (
	// maxAnswer bounds what is read of an answer's body.
	maxAnswer = 64 << 10
	// maxRetryAfter bounds the wait that an answer may ask for: it holds up every
	// later event of the group.
	maxRetryAfter = time.Hour
)

// outside is a system that is not ours and that a handler calls over HTTP.
type outside struct {
	name    string // as errors call it
	client  *http.Client
	timeout time.Duration
}

// newTransport gives each call under way a connection, which ends with a call that is not
// answered. One of HTTP/2 that leads nowhere any more would be used again, and each call
// on it time out, until the kernel gives it up after a quarter of an hour. With a dialer
// of its own a transport speaks HTTP/1.1. control is the dialer's, and may be nil.
func newTransport(control func(network, address string, c syscall.RawConn) error) *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, Control: control}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: DefaultConcurrency,
		IdleConnTimeout:     30 * time.Second, // less than what balancers keep one for
	}
}

// newOutside keeps the client's transport; its policy on redirects and its time-out
// are not used.
func newOutside(name string, client http.Client, timeout time.Duration) *outside {
	client.Timeout = 0 // the request's context has it
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &outside{name: name, client: &client, timeout: timeout}
}

// answer is what a call was answered.
type answer struct {
	status int
	header http.Header
	body   []byte // one byte over maxAnswer tells that there was more
	err    error  // why body ends early
}

// accepted tells a 2xx. Its body may be unreadable all the same.
func (a answer) accepted() bool { return a.status/100 == 2 }

// post calls once and returns the answer, whatever its status. An error of a call
// that did not begin is Unavailable; once the header is sent it is Uncertain.
//
// The call's span does not show the URL, whose path and query may be secret.
func (o *outside) post(ctx context.Context, url string, header http.Header, body []byte) (answer, error) {
	ctx, span := tracing.Start(ctx, "POST to "+o.name, trace.SpanKindClient)
	if t := tracing.Current(ctx, ""); t != "" {
		header.Set("Traceparent", t)
	}
	a, err := o.call(ctx, url, header, body)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("http.request.method", http.MethodPost), attribute.Int("http.response.status_code", a.status))
	}
	failed := err
	if err == nil && !a.accepted() {
		failed = fmt.Errorf("answered %d", a.status)
	}
	tracing.End(span, failed)
	return a, err
}

func (o *outside) call(ctx context.Context, url string, header http.Header, body []byte) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	// With an Idempotency-Key net/http would repeat a request that was cut, unseen,
	// and a system that ignores the key would do it twice. Without GetBody it cannot.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.NopCloser(bytes.NewReader(body)))
	if err != nil {
		return answer{}, Permanent(fmt.Errorf("make request: %w", withoutURL(err)))
	}
	req.ContentLength = int64(len(body))
	req.Header = header
	res, err := o.client.Do(req)
	switch {
	case err != nil && sent.Load():
		return answer{}, Uncertain(fmt.Errorf("call %s: %w", o.name, withoutURL(err)))
	case err != nil:
		return answer{}, Unavailable(fmt.Errorf("reach %s: %w", o.name, withoutURL(err)))
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	a.body, a.err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	return a, nil
}

// withoutURL takes the URL, whose path and query may be secret, out of a client's
// error.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// refusal turns an answer that did not accept into the error that it means. 3xx is
// not followed, and tried again: it tells of a moved or guarded address, not of this
// request; to take it for a refusal would drop every event until somebody mends the
// configuration.
func refusal(name string, a answer) error {
	err := fmt.Errorf("%s answered %d %s%s", name, a.status, http.StatusText(a.status), excerpt(a.body))
	switch {
	case a.status == http.StatusTooManyRequests, a.status == http.StatusServiceUnavailable:
		if d := retryAfterOf(a.header.Get("Retry-After"), time.Now()); d > 0 {
			return RetryAfter(err, d)
		}
		return err
	case a.status/100 == 3:
		return fmt.Errorf("%w; redirects are not followed: set the URL to where it moved", err)
	case a.status == http.StatusRequestTimeout, a.status == http.StatusTooEarly, a.status/100 != 4:
		return err
	}
	return Permanent(err)
}

// retryAfterOf reads a Retry-After header: seconds, or a date.
// https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
func retryAfterOf(header string, now time.Time) time.Duration {
	if s, err := strconv.ParseUint(header, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(s, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), maxRetryAfter))
}

// end notes in the audit how the call ended.
func (c *Call) end(err error) {
	c.Ended, c.Outcome = time.Now(), CallOK
	if err == nil {
		return
	}
	c.Outcome, c.Detail = CallFailed, redact(err.Error())
	if is(err, uncertain) {
		c.Outcome = CallUncertain
	}
}

// excerpt is the beginning of an answer, for a person to read.
func excerpt(answer []byte) string {
	text := strings.Join(strings.Fields(clean(string(answer))), " ")
	if text == "" {
		return ""
	}
	text = redact(text)
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return ": " + text
}

// Other sides escape what they echo, each its own way, in a form, in HTML or in JSON.
var (
	mailAddress = regexp.MustCompile(`[^\s"'<>@:,;=]+(?:@|%40)[^\s"'<>@:,;]+`)
	signature   = regexp.MustCompile(`sig(?:=|%3[Dd]|\\u003[Dd]|&#x3[Dd];|&#61;)[^\s"'&\\]*`)
	webhookKey  = regexp.MustCompile(`\bwhsec_[A-Za-z0-9+/=_-]*`)
)

// redact takes out of a text what the other side may have echoed and no log may
// show: mail addresses, the callback's signature and webhook secrets.
func redact(s string) string {
	s = signature.ReplaceAllString(s, "sig=redacted")
	s = webhookKey.ReplaceAllString(s, "whsec_redacted")
	return mailAddress.ReplaceAllString(s, "(mail address)")
}
