package consumers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/internal/awshttp"
	"github.com/restock-dev/restock/internal/tracing"
)

// SES is the SDK's client, named here so that no other file has to know the SDK.
type SES = sesv2.Client

// mailHold is the wait after an answer by which SES takes no mail until somebody
// does something, or a day is over. AWS advises up to ten minutes; the wait of an
// outage that lasts grows beyond it by itself.
// https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html
const mailHold = 5 * time.Minute

// mail is one mail to one person.
type mail struct {
	to, subject, text, html string
	tags                    [][2]string // letters, digits, '_' and '-' only
}

// mailAnswer is what is known of a mail that SES took: its id, or why there is none.
type mailAnswer struct{ id, detail string }

// mailer sends mails through SES.
type mailer struct {
	client           *sesv2.Client
	from             string
	configurationSet *string // nil is none
	timeout          time.Duration
}

// mailConns is how many idle connections to SES are kept, where the client given
// has no HTTP client of its own kind.
const mailConns = 16

// newMailer makes a mailer out of client. The SDK's retryer is off: it would send
// again after a time-out, unseen, and SES has no idempotency key.
func newMailer(client *sesv2.Client, from, configurationSet string, timeout time.Duration) *mailer {
	m := &mailer{from: from, timeout: timeout}
	m.client = sesv2.New(client.Options(), func(o *sesv2.Options) {
		o.Retryer = aws.NopRetryer{}
		o.HTTPClient = awshttp.Wrap(o.HTTPClient, mailConns)
	})
	if configurationSet != "" {
		m.configurationSet = aws.String(configurationSet)
	}
	return m
}

// send sends one mail. Its error says by its marks what it means for the event,
// and shows no mail address.
func (m *mailer) send(ctx context.Context, letter mail) (mailAnswer, error) {
	ctx, span := tracing.Start(ctx, "SES SendEmail", trace.SpanKindClient)
	a, err := m.call(ctx, letter)
	tracing.End(span, err)
	return a, err
}

func (m *mailer) call(ctx context.Context, letter mail) (mailAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	var wrote atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }})
	out, err := m.client.SendEmail(ctx, m.input(letter), func(o *sesv2.Options) {
		if t := tracing.Current(ctx, ""); t != "" {
			o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("Traceparent", t))
		}
	})
	switch status := statusOf(err); {
	case err == nil && aws.ToString(out.MessageId) != "":
		return mailAnswer{id: *out.MessageId}, nil
	case err == nil:
		return mailAnswer{detail: "id unknown: the answer has none"}, nil
	case status/100 == 2:
		return mailAnswer{detail: "id unknown: " + m.redacted(letter, err).Error()}, nil
	default:
		return mailAnswer{}, sesMeaning(m.redacted(letter, err), wrote.Load())
	}
}

func (m *mailer) input(letter mail) *sesv2.SendEmailInput {
	content := func(text string) *types.Content {
		return &types.Content{Data: aws.String(text), Charset: aws.String("UTF-8")}
	}
	in := &sesv2.SendEmailInput{
		FromEmailAddress: aws.String(m.from),
		Destination:      &types.Destination{ToAddresses: []string{letter.to}},
		Content: &types.EmailContent{Simple: &types.Message{
			Subject: content(letter.subject),
			Body:    &types.Body{Text: content(letter.text), Html: content(letter.html)},
		}},
		ConfigurationSetName: m.configurationSet,
	}
	for _, tag := range letter.tags {
		in.EmailTags = append(in.EmailTags, types.MessageTag{Name: aws.String(tag[0]), Value: aws.String(tag[1])})
	}
	return in
}

// redactedError shows no mail address and is what it wraps all the same.
type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string { return e.text }
func (e *redactedError) Unwrap() error { return e.err }

// redacted takes the addresses out of an error's text: SES names those that it
// refuses.
func (m *mailer) redacted(letter mail, err error) error {
	text := strings.NewReplacer(letter.to, "(mail address)", m.from, "(mail address)").Replace(err.Error())
	return &redactedError{text: redact(text), err: err}
}

// statusOf is the status that SES answered with, 0 where it did not answer.
func statusOf(err error) int {
	var res interface{ HTTPStatusCode() int }
	if !errors.As(err, &res) {
		return 0
	}
	return res.HTTPStatusCode()
}

// What SES's codes mean, apart from those with a case of their own.
// https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html#API_SendEmail_Errors
// https://docs.aws.amazon.com/ses/latest/APIReference-V2/CommonErrors.html
var (
	// the account, its identities, its configuration set or our key: somebody has to
	// mend it, and then every mail goes
	sesHeld = []string{
		"SendingPausedException", "AccountSuspendedException", "LimitExceededException", "MailFromDomainNotVerifiedException",
		"NotFoundException", "AccessDenied", "AccessDeniedException", "NotAuthorized", "OptInRequired",
		"ExpiredToken", "ExpiredTokenException", "RequestExpired", "UnrecognizedClientException", "InvalidClientTokenId",
		"InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken",
	}
	// the mail itself, its recipient's address or what is in it
	sesRefused = []string{"BadRequestException", "BadRequest", "MessageRejected", "ValidationException", "ValidationError", "InvalidParameterValue"}
	// what the texts of MessageRejected hold where it is not the mail that is refused
	sesNotTheMail = []string{"not verified", "suspended", "paused", "disabled"}
	// by which no mail was taken, whatever the answer says
	statusesOfPages = []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable}
)

// sesMeaning marks an error of SendEmail by what it means for the event, wrote
// telling whether the request was sent. See Ads. What stands before SES answers by
// a page, without a code: where that took no mail its status says so.
func sesMeaning(err error, wrote bool) error {
	err = fmt.Errorf("send mail: %w", err)
	var api smithy.APIError
	var code, text string
	if errors.As(err, &api) {
		code, text = api.ErrorCode(), strings.ToLower(api.ErrorMessage())
	}
	switch status := statusOf(err); {
	case api == nil && !wrote:
		return Unavailable(err)
	case api == nil && !slices.Contains(statusesOfPages, status):
		return Uncertain(err)
	case awshttp.Throttled(code) && !slices.Contains(sesHeld, code) || status == http.StatusTooManyRequests:
		// The quota of a day comes with the same code as that of a second.
		if strings.Contains(text, "quota") {
			return onHold(err)
		}
		return Unavailable(withRetryAfter(err))
	case slices.Contains(sesHeld, code), status == http.StatusUnauthorized, status == http.StatusForbidden:
		return onHold(err)
	case code == "MessageRejected" && containsAny(text, sesNotTheMail):
		return onHold(err)
	case slices.Contains(sesRefused, code):
		return Permanent(err)
	case status == http.StatusServiceUnavailable:
		return Unavailable(withRetryAfter(err))
	case status/100 == 5:
		return Uncertain(err)
	}
	return err
}

// onHold marks an error that lasts until somebody mends its cause.
func onHold(err error) error { return Unavailable(RetryAfter(err, mailHold)) }

// withRetryAfter marks an error with the wish for a pause that the answer states,
// if it does.
func withRetryAfter(err error) error {
	var res *smithyhttp.ResponseError
	if !errors.As(err, &res) || res.Response == nil {
		return err
	}
	if d := retryAfterOf(res.Response.Header.Get("Retry-After"), time.Now()); d > 0 {
		return RetryAfter(err, d)
	}
	return err
}

func containsAny(s string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(s, part) })
}
