package localaws_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
)

func TestFaultDropAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	topic, q := b.pair(attrs{"RawMessageDelivery": "true"})
	id := b.server.Faults().Add(localaws.Rule{Effect: localaws.DropAnswer, Service: "sns", Action: "PublishBatch", Count: 1})
	once := entry("a", "g", "m")
	_, err := b.publishBatch(topic, once)
	require.Error(t, err)
	require.Equal(t, 1, b.server.Faults().Hits(id))
	require.Empty(t, b.server.Faults().Rules(), "it is used up")
	_, err = b.publishBatch(topic, once)
	require.NoError(t, err)
	require.Equal(t, []string{"m"}, bodies(b.drain(q, 1)), "accepted the first time, a duplicate the second")
	b.nothing(q)
}

func TestFaultCut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	topic, q := b.pair(nil)
	b.server.Faults().Add(localaws.Rule{Effect: localaws.Cut, Resource: topic.name, Count: 1})
	_, err := b.tryPublish(topic, "m")
	require.Error(t, err)
	b.nothing(q)
}

func TestFaultFailEntries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule localaws.Rule
		code string
	}{
		"by group, sender's fault": {localaws.Rule{Group: "sku-x", SenderFault: true}, "InvalidParameter"},
		"by body, service's fault": {localaws.Rule{BodyContains: "poison"}, "InternalError"},
		"by attribute, own code":   {localaws.Rule{Attributes: attrs{"kind": "bad"}, Code: "KMSDisabled", SenderFault: true}, "KMSDisabled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			topic, q := b.pair(attrs{"RawMessageDelivery": "true"})
			c.rule.Effect = localaws.FailEntries
			id := b.server.Faults().Add(c.rule)
			bad := entry("bad", "sku-x", "poison")
			bad.MessageAttributes = map[string]snstypes.MessageAttributeValue{"kind": text("bad")}
			out, err := b.publishBatch(topic, entry("good", "sku-y", "good"), bad)
			require.NoError(t, err)
			require.Len(t, out.Successful, 1)
			require.Len(t, out.Failed, 1)
			require.Equal(t, "bad", *out.Failed[0].Id)
			require.Equal(t, c.code, *out.Failed[0].Code)
			require.Equal(t, c.rule.SenderFault, out.Failed[0].SenderFault)
			require.Equal(t, []string{"good"}, bodies(b.drain(q, 1)))
			b.server.Faults().Remove(id)
			out, err = b.publishBatch(topic, bad)
			require.NoError(t, err)
			require.Len(t, out.Successful, 1, "a failed entry was not remembered as a duplicate")
		})
	}
}

func TestFaultFailEntriesOfQueue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := b.queue(nil)
	b.server.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sqs", Group: "x"})
	out, err := b.sqs.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: []sqstypes.SendMessageBatchRequestEntry{
		sendEntry("a", "x", "1"), sendEntry("b", "y", "2"),
	}})
	require.NoError(t, err)
	require.Len(t, out.Failed, 1)
	require.Equal(t, []string{"2"}, bodies(b.receive(q, 1)))
	b.server.Faults().Clear()
	b.server.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Action: "DeleteMessageBatch", Count: 1})
	b.send(q, "z", "3")
	m := b.receive(q, 1)[0]
	deleted, err := b.sqs.DeleteMessageBatch(t.Context(), &sqs.DeleteMessageBatchInput{QueueUrl: &q.url, Entries: []sqstypes.DeleteMessageBatchRequestEntry{{Id: aws.String("a"), ReceiptHandle: m.ReceiptHandle}}})
	require.NoError(t, err)
	require.Len(t, deleted.Failed, 1)
}

func TestFaultThrottle(t *testing.T) {
	t.Parallel()
	b := setup(t)
	topic, q := b.pair(nil)
	b.server.Faults().Add(localaws.Rule{Effect: localaws.Throttle})
	_, err := b.tryPublish(topic, "m")
	require.ErrorContains(t, err, "Throttled")
	_, err = b.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &q.url})
	var throttled *sqstypes.RequestThrottled
	require.ErrorAs(t, err, &throttled)
	_, err = b.ses.SendEmail(t.Context(), simpleMail("a@example.com", "b@example.com", "s", "b"))
	require.ErrorContains(t, err, "TooManyRequestsException")
}

func TestFaultInternalErrorAndRefuse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	topic := b.topic(nil)
	b.server.Faults().Add(localaws.Rule{Effect: localaws.InternalError, Service: "sns", Action: "Publish", Count: 1})
	_, err := b.tryPublish(topic, "m")
	var internal *snstypes.InternalErrorException
	require.ErrorAs(t, err, &internal)
	b.server.Faults().Add(localaws.Rule{Effect: localaws.InternalError, Service: "sns", Status: http.StatusServiceUnavailable, Count: 1})
	_, err = b.tryPublish(topic, "m")
	require.ErrorContains(t, err, "503")
	b.server.Faults().Add(localaws.Rule{Effect: localaws.Refuse, Service: "sns", Code: "AuthorizationError", Status: http.StatusForbidden, SenderFault: true})
	_, err = b.tryPublish(topic, "m")
	var denied *snstypes.AuthorizationErrorException
	require.ErrorAs(t, err, &denied)
	require.Panics(t, func() { b.server.Faults().Add(localaws.Rule{Effect: "no such"}) })
}

func TestFaultDelayEndsWithTheCaller(t *testing.T) {
	t.Parallel()
	b := setup(t)
	topic := b.topic(nil)
	id := b.server.Faults().Add(localaws.Rule{Effect: localaws.Delay, Action: "Publish", Delay: time.Minute})
	b.server.Faults().Add(localaws.Rule{Effect: localaws.Delay, Action: "ListTopics", Delay: time.Millisecond})
	_, err := b.sns.ListTopics(t.Context(), &sns.ListTopicsInput{})
	require.NoError(t, err)
	published := make(chan error, 1)
	go func() {
		_, err := b.tryPublish(topic, "m")
		published <- err
	}()
	require.Eventually(t, func() bool { return b.server.Faults().Hits(id) == 1 }, 60*time.Second, time.Millisecond)
	b.server.Faults().GoAway()
	require.Error(t, <-published)
}

func TestFaultGoAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	topic, q := b.pair(nil)
	got := b.poll(q)
	b.server.Faults().GoAway()
	require.Empty(t, <-got)
	_, err := b.tryPublish(topic, "m")
	require.Error(t, err)
	require.True(t, b.server.Faults().Away())
	b.server.Faults().Restore()
	b.publish(topic, "m")
	b.drain(q, 1)
}

func TestFaultExpire(t *testing.T) {
	t.Parallel()
	b := setup(t)
	topic, q := b.pair(attrs{"RawMessageDelivery": "true"})
	once := func(in *sns.PublishInput) { in.MessageDeduplicationId = aws.String("once") }
	b.publish(topic, "m", once)
	old := b.receive(q, 1)[0]
	got := b.poll(q)
	require.Equal(t, 0, b.server.Faults().ExpireVisibility(q.name, "another group"))
	require.Equal(t, 1, b.server.Faults().ExpireVisibility(q.name, "g"))
	require.Len(t, <-got, 1)
	require.ErrorContains(t, b.tryDelete(q, old), "expired")
	require.Equal(t, 1, b.server.Faults().ExpireMessages(q.name))
	b.server.Faults().ExpireDeduplication(topic.name)
	b.server.Faults().ExpireDeduplication(q.name)
	b.publish(topic, "m", once)
	b.drain(q, 1)
}

func TestFaultVerifiedSenders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server.Faults().RequireVerifiedSenders(true)
	_, err := b.ses.SendEmail(t.Context(), simpleMail("a@example.com", "b@example.com", "s", "b"))
	require.ErrorContains(t, err, "MessageRejected")
	b.identity("example.com")
	_, err = b.ses.SendEmail(t.Context(), simpleMail("Shop <a@example.com>", "b@example.com", "s", "b"))
	require.NoError(t, err)
}

func (b *bundle) admin(method, path, body string) (int, string) {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), method, b.server.URL()+"/_localaws"+path, strings.NewReader(body))
	require.NoError(b, err)
	return b.do(r)
}

func TestAdminFaults(t *testing.T) {
	t.Parallel()
	b := setup(t)
	topic := b.topic(nil)
	status, body := b.admin(http.MethodPut, "/faults", `{"away":true,"rules":[{"effect":"throttle","service":"sns","count":2}]}`)
	require.Equal(t, http.StatusOK, status, body)
	var state struct {
		Away  bool
		Rules []localaws.Rule
	}
	require.NoError(t, json.Unmarshal([]byte(body), &state))
	require.True(t, state.Away, "and still reachable here")
	require.Equal(t, []localaws.Rule{{ID: "rule-1", Effect: localaws.Throttle, Service: "sns", Count: 2}}, state.Rules)
	_, err := b.tryPublish(topic, "m")
	require.Error(t, err)
	_, body = b.admin(http.MethodDelete, "/faults", "")
	require.JSONEq(t, `{"away":false,"requireVerifiedSenders":false,"rules":[]}`, body)
	b.publish(topic, "m")
	for _, bad := range []string{`{`, `{"rule":[]}`, `{"rules":[{"effect":"nonsense"}]}`, `{"rules":[{"effect":"delay"}]}`} {
		status, _ = b.admin(http.MethodPut, "/faults", bad)
		require.Equal(t, http.StatusBadRequest, status, bad)
	}
}

func TestAdminMailsStatsAndRoutes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.ses.SendEmail(t.Context(), simpleMail("a@example.com", "b@example.com", "s", "b"))
	require.NoError(t, err)
	_, body := b.admin(http.MethodGet, "/mails", "")
	require.Contains(t, body, `"from":"a@example.com"`)
	status, _ := b.admin(http.MethodDelete, "/mails", "")
	require.Equal(t, http.StatusNoContent, status)
	_, body = b.admin(http.MethodGet, "/mails", "")
	require.JSONEq(t, `{"mails":[]}`, body)
	_, body = b.admin(http.MethodGet, "/stats", "")
	require.Contains(t, body, `"filteredOut":0`)
	_, body = b.admin(http.MethodGet, "", "")
	require.Contains(t, body, "/_localaws/expire")
	status, _ = b.admin(http.MethodGet, "/nothing", "")
	require.Equal(t, http.StatusNotFound, status)
	q := b.queue(nil)
	b.send(q, "g", "m")
	_, body = b.admin(http.MethodPut, "/expire", `{"queue":"`+q.name+`","what":"messages"}`)
	require.JSONEq(t, `{"expired":1}`, body)
}
