package consumers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/stretchr/testify/require"
)

// mailerAt is a mailer of the SES at url.
func mailerAt(t *testing.T, url string, timeout time.Duration) *mailer {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := sesv2.NewFromConfig(aws.Config{
		Region: "ap-northeast-2", BaseEndpoint: aws.String(url), HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	})
	return newMailer(client, "ads@donuts.example", "", timeout)
}

var anyMail = mail{to: "to@donuts.example", subject: "s", text: "t", html: "h", tags: [][2]string{{"event-id", "1"}}}

// What SES answers decides what the event's error means.
func TestMailerAnswers(t *testing.T) {
	t.Parallel()
	type meaning struct {
		permanent, unavailable, uncertain bool
		after                             time.Duration
	}
	hold := meaning{unavailable: true, after: mailHold}
	plain := meaning{}
	for _, test := range []struct {
		status     int
		code       string
		text       string
		retryAfter string
		want       meaning
	}{
		{429, "TooManyRequestsException", "Maximum sending rate exceeded.", "", meaning{unavailable: true}},
		{400, "ThrottlingException", "Maximum sending rate exceeded.", "", meaning{unavailable: true}},
		{429, "TooManyRequestsException", "Too many", "120", meaning{unavailable: true, after: 2 * time.Minute}},
		{429, "NewKindOfThrottle", "slow down", "", meaning{unavailable: true}},
		{429, "TooManyRequestsException", "Daily message quota exceeded.", "", hold},
		{400, "ThrottlingException", "Daily sending quota exceeded.", "", hold},
		{400, "LimitExceededException", "too many", "", hold},
		{400, "SendingPausedException", "Sending is paused", "", hold},
		{400, "AccountSuspendedException", "suspended", "", hold},
		{400, "MailFromDomainNotVerifiedException", "not verified", "", hold},
		{404, "NotFoundException", "Configuration set <ads> does not exist.", "", hold},
		{403, "AccessDeniedException", "not authorized to perform ses:SendEmail", "", hold},
		{403, "SomethingNew", "no", "", hold},
		{400, "ExpiredTokenException", "expired", "", hold},
		{400, "MessageRejected", "Email address is not verified. The following identities failed the check in region X: ads@donuts.example", "", hold},
		{400, "MessageRejected", "Sending suspended for this account.", "", hold},
		{400, "MessageRejected", "The message contains invalid content.", "", meaning{permanent: true}},
		{400, "BadRequestException", "Illegal address", "", meaning{permanent: true}},
		{400, "ValidationException", "to is wrong", "", meaning{permanent: true}},
		{409, "ConflictException", "try again", "", plain},
		{500, "InternalServiceErrorException", "oops", "", meaning{uncertain: true}},
		{502, "", "", "", meaning{uncertain: true}},
		{503, "ServiceUnavailable", "busy", "7", meaning{unavailable: true, after: 7 * time.Second}},
	} {
		t.Run(fmt.Sprint(test.status, " ", test.code, " ", test.text), func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("X-Amzn-Errortype", test.code)
				if test.retryAfter != "" {
					w.Header().Set("Retry-After", test.retryAfter)
				}
				w.WriteHeader(test.status)
				_, _ = fmt.Fprintf(w, `{"message":%q}`, test.text)
			}))
			defer server.Close()
			_, err := mailerAt(t, server.URL, time.Minute).send(t.Context(), anyMail)
			require.Error(t, err)
			got := meaning{permanent: is(err, permanent), unavailable: is(err, unavailable), uncertain: is(err, uncertain)}
			if f, ok := marked(err, retryAfter); ok {
				got.after = f.after
			}
			require.Equal(t, test.want, got, err)
			require.Equal(t, int32(1), calls.Load(), "the SDK must not try again by itself")
			require.NotContains(t, err.Error(), "@")
		})
	}
}

// What stands before SES answers by a page: an outage there is one as well.
func TestMailerAnswersByAPage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status                 int
		unavailable, uncertain bool
		after                  time.Duration
	}{
		{503, true, false, 7 * time.Second},
		{429, true, false, 7 * time.Second},
		{403, true, false, mailHold},
		{407, false, true, 0},
		{502, false, true, 0},
		{504, false, true, 0},
	} {
		t.Run(fmt.Sprint(test.status), func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, "<html><body>to@donuts.example cannot be served</body></html>")
			}))
			defer server.Close()
			_, err := mailerAt(t, server.URL, time.Minute).send(t.Context(), anyMail)
			require.Equal(t, test.unavailable, is(err, unavailable), err)
			require.Equal(t, test.uncertain, is(err, uncertain), err)
			require.False(t, is(err, permanent), err)
			var after time.Duration
			if f, ok := marked(err, retryAfter); ok {
				after = f.after
			}
			require.Equal(t, test.after, after)
			require.NotContains(t, err.Error(), "@")
		})
	}
}

// SES took the mail, whatever can be read of its answer.
func TestMailerUnreadableAnswerIsSent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer string
		length string // what the header says
		want   mailAnswer
	}{
		"good":    {answer: `{"MessageId":"m-1"}`, want: mailAnswer{id: "m-1"}},
		"no id":   {answer: `{}`, want: mailAnswer{detail: "id unknown: the answer has none"}},
		"garbled": {answer: `<html>`},
		"cut":     {answer: `{"Mess`, length: "100"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if test.length != "" {
					w.Header().Set("Content-Length", test.length)
				}
				_, _ = io.WriteString(w, test.answer)
			}))
			defer server.Close()
			got, err := mailerAt(t, server.URL, time.Minute).send(t.Context(), anyMail)
			require.NoError(t, err)
			if test.want == (mailAnswer{}) {
				require.Empty(t, got.id)
				require.Contains(t, got.detail, "id unknown: ")
				return
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestMailerWithoutAnswer(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	_, err = mailerAt(t, "http://"+ln.Addr().String(), time.Minute).send(t.Context(), anyMail)
	require.True(t, is(err, unavailable), err)
	require.False(t, is(err, uncertain), err)

	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer cut.Close()
	_, err = mailerAt(t, cut.URL, time.Minute).send(t.Context(), anyMail)
	require.True(t, is(err, uncertain), err)

	ctx, cancel := context.WithCancel(t.Context())
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is it seen that the client is gone
		cancel()
		<-r.Context().Done()
	}))
	defer slow.Close()
	_, err = mailerAt(t, slow.URL, time.Minute).send(ctx, anyMail)
	require.True(t, is(err, uncertain), err)
}

// An error shows neither the recipient nor the sender, however odd they are.
func TestMailerErrorsShowNoAddress(t *testing.T) {
	t.Parallel()
	m := &mailer{from: `"Ads" <ads@donuts.example>`}
	err := m.redacted(mail{to: `"a b"@donuts.example`}, errors.New(`"a b"@donuts.example, other@x.example and "Ads" <ads@donuts.example> are refused`))
	require.Equal(t, "(mail address), (mail address) and (mail address) are refused", err.Error())
}
