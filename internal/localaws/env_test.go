package localaws_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

type attrs = map[string]string

// target is what the suite runs against.
type target struct {
	cfg      aws.Config
	prompt   bool // what was sent can be received at once, so that finding nothing need not wait
	patience int  // how many receives of five seconds wait for what must come; ten if zero
}

// env is one test's clients and helpers. What it creates it deletes.
type env struct {
	T
	target
	sns *sns.Client
	sqs *sqs.Client
	ses *sesv2.Client
}

func newEnv(t T, to target) *env {
	if to.patience == 0 {
		to.patience = 10
	}
	cfg := to.cfg.Copy()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	cfg.HTTPClient = &http.Client{Transport: transport, Timeout: 25 * time.Second}
	t.Cleanup(transport.CloseIdleConnections)
	return &env{T: t, target: to, sns: sns.NewFromConfig(cfg), sqs: sqs.NewFromConfig(cfg), ses: sesv2.NewFromConfig(cfg)}
}

func unique(kind string) string { return "restock-" + kind + "-" + uuid.NewString()[:13] }

type topicRef struct{ name, arn string }

func (e *env) topic(extra attrs) topicRef {
	e.Helper()
	name := unique("topic") + ".fifo"
	out, err := e.sns.CreateTopic(e.Context(), &sns.CreateTopicInput{Name: &name, Attributes: with(attrs{"FifoTopic": "true"}, extra)})
	require.NoError(e, err)
	e.Cleanup(func() {
		_, _ = e.sns.DeleteTopic(context.Background(), &sns.DeleteTopicInput{TopicArn: out.TopicArn})
	})
	return topicRef{name: name, arn: *out.TopicArn}
}

func with(base, extra attrs) attrs {
	for k, v := range extra {
		base[k] = v
	}
	return base
}

type queueRef struct{ name, url, arn string }

// queue creates a FIFO queue that lets every topic in.
func (e *env) queue(extra attrs) queueRef {
	e.Helper()
	return e.queueNamed(unique("queue")+".fifo", with(attrs{"FifoQueue": "true"}, extra))
}

func (e *env) queueNamed(name string, attributes attrs) queueRef {
	e.Helper()
	out, err := e.sqs.CreateQueue(e.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	require.NoError(e, err)
	e.Cleanup(func() {
		_, _ = e.sqs.DeleteQueue(context.Background(), &sqs.DeleteQueueInput{QueueUrl: out.QueueUrl})
	})
	q := queueRef{name: name, url: *out.QueueUrl}
	q.arn = e.queueAttributes(q)["QueueArn"]
	if _, given := attributes["Policy"]; !given {
		e.setQueue(q, attrs{"Policy": policyFor(q.arn, "*")})
	}
	return q
}

func policyFor(queueARN, topicARN string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"sns.amazonaws.com"},`+
		`"Action":"sqs:SendMessage","Resource":%q,"Condition":{"ArnLike":{"aws:SourceArn":%q}}}]}`, queueARN, topicARN)
}

func (e *env) setQueue(q queueRef, attributes attrs) {
	e.Helper()
	_, err := e.sqs.SetQueueAttributes(e.Context(), &sqs.SetQueueAttributesInput{QueueUrl: &q.url, Attributes: attributes})
	require.NoError(e, err)
}

func (e *env) queueAttributes(q queueRef) attrs {
	e.Helper()
	out, err := e.sqs.GetQueueAttributes(e.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &q.url, AttributeNames: []sqstypes.QueueAttributeName{"All"}})
	require.NoError(e, err)
	return out.Attributes
}

func (e *env) subscribe(t topicRef, q queueRef, attributes attrs) string {
	e.Helper()
	out, err := e.trySubscribe(t, q, attributes)
	require.NoError(e, err)
	return *out.SubscriptionArn
}

func (e *env) trySubscribe(t topicRef, q queueRef, attributes attrs) (*sns.SubscribeOutput, error) {
	return e.sns.Subscribe(e.Context(), &sns.SubscribeInput{
		TopicArn: &t.arn, Protocol: aws.String("sqs"), Endpoint: &q.arn, Attributes: attributes, ReturnSubscriptionArn: true,
	})
}

// pair is a topic with one subscribed queue.
func (e *env) pair(subscription attrs) (topicRef, queueRef) {
	e.Helper()
	t, q := e.topic(nil), e.queue(nil)
	e.subscribe(t, q, subscription)
	return t, q
}

func entry(id, group, body string) snstypes.PublishBatchRequestEntry {
	return snstypes.PublishBatchRequestEntry{
		Id: &id, MessageGroupId: &group, Message: &body, MessageDeduplicationId: aws.String(uuid.NewString()),
	}
}

func (e *env) publishBatch(t topicRef, entries ...snstypes.PublishBatchRequestEntry) (*sns.PublishBatchOutput, error) {
	return e.sns.PublishBatch(e.Context(), &sns.PublishBatchInput{TopicArn: &t.arn, PublishBatchRequestEntries: entries})
}

func (e *env) publish(t topicRef, body string, change ...func(*sns.PublishInput)) *sns.PublishOutput {
	e.Helper()
	out, err := e.tryPublish(t, body, change...)
	require.NoError(e, err)
	return out
}

func (e *env) tryPublish(t topicRef, body string, change ...func(*sns.PublishInput)) (*sns.PublishOutput, error) {
	in := &sns.PublishInput{TopicArn: &t.arn, Message: &body, MessageGroupId: aws.String("g"), MessageDeduplicationId: aws.String(uuid.NewString())}
	for _, c := range change {
		c(in)
	}
	return e.sns.Publish(e.Context(), in)
}

func (e *env) send(q queueRef, group string, bodies ...string) {
	e.Helper()
	for _, body := range bodies {
		_, err := e.sqs.SendMessage(e.Context(), &sqs.SendMessageInput{
			QueueUrl: &q.url, MessageBody: &body, MessageGroupId: &group, MessageDeduplicationId: aws.String(uuid.NewString()),
		})
		require.NoError(e, err)
	}
}

func (e *env) receiveOnce(q queueRef, change ...func(*sqs.ReceiveMessageInput)) []sqstypes.Message {
	e.Helper()
	in := &sqs.ReceiveMessageInput{
		QueueUrl: &q.url, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"},
		MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"},
	}
	for _, c := range change {
		c(in)
	}
	out, err := e.sqs.ReceiveMessage(e.Context(), in)
	require.NoError(e, err)
	return out.Messages
}

func waiting(seconds int32) func(*sqs.ReceiveMessageInput) {
	return func(in *sqs.ReceiveMessageInput) { in.WaitTimeSeconds = seconds }
}

func visibleAfter(seconds int32) func(*sqs.ReceiveMessageInput) {
	return func(in *sqs.ReceiveMessageInput) { in.VisibilityTimeout = seconds }
}

// receive waits for exactly n messages and leaves them in flight.
func (e *env) receive(q queueRef, n int, change ...func(*sqs.ReceiveMessageInput)) []sqstypes.Message {
	e.Helper()
	var got []sqstypes.Message
	for range e.patience {
		got = append(got, e.receiveOnce(q, append(change, waiting(5))...)...)
		if len(got) >= n {
			break
		}
	}
	require.Len(e, got, n)
	return got
}

// drain receives and deletes exactly n messages.
func (e *env) drain(q queueRef, n int) []sqstypes.Message {
	e.Helper()
	var got []sqstypes.Message
	for range n + e.patience {
		batch := e.receiveOnce(q, waiting(5))
		e.delete(q, batch...)
		if got = append(got, batch...); len(got) >= n {
			break
		}
	}
	require.Len(e, got, n)
	return got
}

func (e *env) nothing(q queueRef) {
	e.Helper()
	wait := int32(2)
	if e.prompt {
		wait = 0
	}
	require.Empty(e, bodies(e.receiveOnce(q, waiting(wait))))
}

func (e *env) delete(q queueRef, messages ...sqstypes.Message) {
	e.Helper()
	for _, m := range messages {
		require.NoError(e, e.tryDelete(q, m))
	}
}

func (e *env) tryDelete(q queueRef, m sqstypes.Message) error {
	_, err := e.sqs.DeleteMessage(e.Context(), &sqs.DeleteMessageInput{QueueUrl: &q.url, ReceiptHandle: m.ReceiptHandle})
	return err
}

func (e *env) nack(q queueRef, messages ...sqstypes.Message) {
	e.Helper()
	for _, m := range messages {
		_, err := e.sqs.ChangeMessageVisibility(e.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: &q.url, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 0})
		require.NoError(e, err)
	}
}

func bodies(messages []sqstypes.Message) []string {
	var out []string
	for _, m := range messages {
		out = append(out, *m.Body)
	}
	return out
}

func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = prefix + strconv.Itoa(i)
	}
	return out
}

func redriveTo(dlq queueRef, receives int) string {
	return fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":%d}`, dlq.arn, receives)
}

func text(value string) snstypes.MessageAttributeValue {
	return snstypes.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
}

func number(value string) snstypes.MessageAttributeValue {
	return snstypes.MessageAttributeValue{DataType: aws.String("Number"), StringValue: &value}
}

func long(n int) string { return strings.Repeat("x", n) }
