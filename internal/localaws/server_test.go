package localaws_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
)

// bundle is a server of the test's own with clients that do not retry.
type bundle struct {
	*env
	server *localaws.Server
	clock  *clock
}

// clock is a clock that moves when told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (b *bundle) advance(d time.Duration) {
	b.clock.mu.Lock()
	b.clock.now = b.clock.now.Add(d)
	b.clock.mu.Unlock()
	b.server.Tick()
}

func setup(t *testing.T) *bundle {
	t.Helper()
	c := &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	server, err := localaws.Start(localaws.Config{Now: c.Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	cfg := server.AWSConfig()
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	return &bundle{env: newEnv(t, target{cfg: cfg, prompt: true}), server: server, clock: c}
}

func TestStartOnATakenPort(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := localaws.Start(localaws.Config{Addr: strings.TrimPrefix(b.server.URL(), "http://")})
	require.ErrorContains(t, err, "address already in use")
}

func TestCloseWakesPolls(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := b.queue(nil)
	got := b.poll(q)
	require.NoError(t, b.server.Close())
	require.NoError(t, b.server.Close(), "closing twice")
	require.Empty(t, <-got)
	_, err := http.Get(b.server.URL())
	require.Error(t, err)
}

func TestClockVisibility(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := b.queue(attrs{"VisibilityTimeout": "43200"})
	b.send(q, "g", "1", "2")
	old := b.receive(q, 2)
	got := b.poll(q)
	b.advance(12 * time.Hour)
	require.Equal(t, []string{"1", "2"}, bodies(<-got))
	require.ErrorContains(t, b.tryDelete(q, old[0]), "expired")
}

func TestClockDelay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := b.queue(attrs{"DelaySeconds": "900"})
	b.send(q, "g", "m")
	b.nothing(q)
	got := b.poll(q)
	b.advance(15 * time.Minute)
	require.Equal(t, []string{"m"}, bodies(<-got))
}

func TestClockRetention(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := b.queue(attrs{"MessageRetentionPeriod": "1209600"})
	b.send(q, "g", "m")
	b.advance(14*24*time.Hour - time.Second)
	require.Equal(t, "1", b.queueAttributes(q)["ApproximateNumberOfMessages"])
	b.advance(time.Second)
	require.Equal(t, "0", b.queueAttributes(q)["ApproximateNumberOfMessages"])
	b.nothing(q)
}

func TestClockDeduplication(t *testing.T) {
	t.Parallel()
	b := setup(t)
	topic, q := b.pair(attrs{"RawMessageDelivery": "true"})
	once := func(in *sns.PublishInput) { in.MessageDeduplicationId = aws.String("once") }
	first := b.publish(topic, "m", once)
	b.drain(q, 1)
	b.advance(5*time.Minute - time.Second)
	require.Equal(t, *first.MessageId, *b.publish(topic, "m", once).MessageId)
	b.nothing(q)
	b.advance(time.Second)
	require.NotEqual(t, *first.MessageId, *b.publish(topic, "m", once).MessageId)
	b.drain(q, 1)
}

func TestStats(t *testing.T) {
	t.Parallel()
	b := setup(t)
	topic, q := b.pair(attrs{"RawMessageDelivery": "true"})
	filtered := b.queue(nil)
	b.subscribe(topic, filtered, attrs{"FilterPolicy": `{"a":["b"]}`})
	b.publish(topic, "eleven", func(in *sns.PublishInput) {
		in.MessageAttributes = map[string]snstypes.MessageAttributeValue{}
		for _, name := range numbered("a", 11) {
			in.MessageAttributes[name] = text("v")
		}
	})
	b.setQueue(q, attrs{"Policy": ""})
	b.publish(topic, "refused")
	require.Equal(t, localaws.Stats{FilteredOut: 2, RawTooMany: 1, Refused: 1, DroppedDelivery: 1}, b.server.Stats())
}

func TestMails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	out, err := b.ses.SendEmail(t.Context(), simpleMail("shop@example.com", "ads@example.com", "재고", "안녕"))
	require.NoError(t, err)
	mails := b.server.Mails()
	require.Len(t, mails, 1)
	require.Equal(t, localaws.Mail{
		MessageID: *out.MessageId, At: b.clock.Now(), From: "shop@example.com", To: []string{"ads@example.com"},
		Subject: "재고", Text: "안녕", Tags: attrs{"event-id": "e-1"},
	}, mails[0])
	b.server.ClearMails()
	require.Empty(t, b.server.Mails())
}

const signature = "AWS4-HMAC-SHA256 Credential=AKID/20260301/ap-northeast-2/SERVICE/aws4_request, SignedHeaders=host;x-amz-date, Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// post sends a form as an old client would, and returns status and body.
func (b *bundle) post(service, path string, form url.Values) (int, string) {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, b.server.URL()+path, strings.NewReader(form.Encode()))
	require.NoError(b, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if service != "" {
		r.Header.Set("Authorization", strings.Replace(signature, "SERVICE", service, 1))
	}
	return b.do(r)
}

func (b *bundle) do(r *http.Request) (int, string) {
	b.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(r)
	require.NoError(b, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(b, err)
	return answer.StatusCode, string(body)
}

func TestWireRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := url.Values{"Action": {"ListTopics"}}
	for _, c := range []struct {
		service string
		form    url.Values
		status  int
		says    string
	}{
		{"", list, http.StatusForbidden, "<Code>MissingAuthenticationToken</Code>"},
		{"sns", url.Values{"Action": {"Fly"}}, http.StatusBadRequest, "<Code>InvalidAction</Code>"},
		{"sns", url.Values{}, http.StatusBadRequest, "<Code>MissingAction</Code>"},
		{"s3", list, http.StatusForbidden, "s3"},
		{"sns", list, http.StatusOK, "<ListTopicsResult><Topics></Topics></ListTopicsResult>"},
		{"sts", url.Values{"Action": {"GetCallerIdentity"}}, http.StatusOK, "<Account>000000000000</Account>"},
	} {
		status, body := b.post(c.service, "/", c.form)
		require.Equal(t, c.status, status, body)
		require.Contains(t, body, c.says)
	}
}

func TestWireRegion(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cfg := b.server.AWSConfig()
	cfg.Region = "us-east-1"
	elsewhere := newEnv(t, target{cfg: cfg})
	_, err := elsewhere.sns.ListTopics(t.Context(), &sns.ListTopicsInput{})
	require.NoError(t, err, "a client signs for the region that it was set up with")
}

func TestWirePresigned(t *testing.T) {
	t.Parallel()
	b := setup(t)
	query := url.Values{
		"Action": {"ListTopics"}, "X-Amz-Algorithm": {"AWS4-HMAC-SHA256"}, "X-Amz-Credential": {"AKID/20260301/ap-northeast-2/sns/aws4_request"},
		"X-Amz-Signature": {strings.Repeat("ab", 32)},
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.server.URL()+"/?"+query.Encode(), nil)
	require.NoError(t, err)
	status, body := b.do(r)
	require.Equal(t, http.StatusOK, status, body)
}

// TestSQSQueryProtocol speaks SQS as clients did before its JSON protocol.
func TestSQSQueryProtocol(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, body := b.post("sqs", "/", url.Values{
		"Action": {"CreateQueue"}, "QueueName": {"old.fifo"}, "Attribute.1.Name": {"FifoQueue"}, "Attribute.1.Value": {"true"},
	})
	require.Contains(t, body, "<QueueUrl>"+b.server.URL()+"/000000000000/old.fifo</QueueUrl>")
	const path = "/000000000000/old.fifo"
	status, body := b.post("sqs", path, url.Values{
		"Action": {"SendMessage"}, "MessageBody": {"a<b>도"}, "MessageGroupId": {"g"}, "MessageDeduplicationId": {"d"},
		"MessageAttribute.1.Name": {"n"}, "MessageAttribute.1.Value.DataType": {"Number"}, "MessageAttribute.1.Value.StringValue": {"7"},
	})
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, "<SequenceNumber>")
	_, body = b.post("sqs", path, url.Values{"Action": {"ReceiveMessage"}, "AttributeName.1": {"MessageGroupId"}, "MessageAttributeName.1": {"All"}})
	require.Contains(t, body, "<Body>a&lt;b&gt;도</Body>")
	require.Contains(t, body, "<Attribute><Name>MessageGroupId</Name><Value>g</Value></Attribute>")
	require.Contains(t, body, "<MessageAttribute><Name>n</Name><Value><StringValue>7</StringValue><DataType>Number</DataType></Value></MessageAttribute>")
	status, body = b.post("sqs", "/", url.Values{"Action": {"GetQueueUrl"}, "QueueName": {"gone"}})
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "<Code>AWS.SimpleQueueService.NonExistentQueue</Code>")
}

func TestPublishesConcurrently(t *testing.T) {
	t.Parallel()
	b := setup(t)
	topic, q := b.pair(attrs{"RawMessageDelivery": "true"})
	var publishers sync.WaitGroup
	for _, group := range numbered("g", 4) {
		publishers.Go(func() {
			for _, body := range numbered(group+"-", 9) {
				_, err := b.tryPublish(topic, body, func(in *sns.PublishInput) { in.MessageGroupId = &group })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	last := map[string]string{}
	for _, m := range b.drain(q, 36) {
		group := m.Attributes["MessageGroupId"]
		require.Greater(t, *m.Body, last[group])
		last[group] = *m.Body
	}
	publishers.Wait()
}

func BenchmarkPublishBatch(b *testing.B) {
	server, err := localaws.Start(localaws.Config{})
	require.NoError(b, err)
	defer server.Close()
	e := newEnv(b, target{cfg: server.AWSConfig(), prompt: true})
	topic := e.topic(nil)
	e.subscribe(topic, e.queue(nil), attrs{"RawMessageDelivery": "true"})
	body := long(400)
	messages := 0
	for b.Loop() {
		var entries []snstypes.PublishBatchRequestEntry
		for _, id := range numbered("e", 10) {
			entries = append(entries, entry(id, id, body))
		}
		_, err := e.publishBatch(topic, entries...)
		require.NoError(b, err)
		messages += 10
	}
	b.ReportMetric(float64(messages)/b.Elapsed().Seconds(), "msg/s")
}

func BenchmarkReceiveDelete(b *testing.B) {
	server, err := localaws.Start(localaws.Config{})
	require.NoError(b, err)
	defer server.Close()
	e := newEnv(b, target{cfg: server.AWSConfig(), prompt: true})
	q := e.queue(nil)
	for _, group := range numbered("g", 500) {
		e.send(q, group, numbered(group+"-", 4)...)
	}
	for b.Loop() {
		out, err := e.sqs.ReceiveMessage(b.Context(), &sqs.ReceiveMessageInput{QueueUrl: &q.url, MaxNumberOfMessages: 10})
		require.NoError(b, err)
		e.nack(q, out.Messages...)
	}
}
