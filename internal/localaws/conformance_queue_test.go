package localaws_test

import (
	"crypto/md5"
	"encoding/hex"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func queueSuite() map[string]func(T, *env) {
	return map[string]func(T, *env){
		"queue/create again":            queueCreateAgain,
		"queue/create differently":      queueCreateDifferently,
		"queue/bad attributes":          queueBadAttributes,
		"queue/missing":                 queueMissing,
		"queue/list":                    queueList,
		"queue/attributes and counts":   queueCounts,
		"queue/tags":                    queueTags,
		"queue/purge":                   queuePurge,
		"queue/group blocked":           queueGroupBlocked,
		"queue/ten of one group":        queueTenOfAGroup,
		"queue/nack restores order":     queueNackRestoresOrder,
		"queue/expiry restores order":   queueExpiryRestoresOrder,
		"queue/expired handle":          queueExpiredHandle,
		"queue/bad handle":              queueBadHandle,
		"queue/delete twice":            queueDeleteTwice,
		"queue/duplicate":               queueDuplicate,
		"queue/content hash":            queueContentHash,
		"queue/send batch":              queueSendBatch,
		"queue/delete batch":            queueDeleteBatch,
		"queue/visibility batch":        queueVisibilityBatch,
		"queue/batch refused":           queueBatchRefused,
		"queue/pick attributes":         queuePickAttributes,
		"queue/system attributes":       queueSystemAttributes,
		"queue/attribute digest":        queueDigest,
		"queue/size":                    queueSize,
		"queue/needs group":             queueNeedsGroup,
		"queue/illegal character":       queueIllegalCharacter,
		"queue/delay":                   queueDelay,
		"queue/poll wakes on send":      queuePollWakesOnSend,
		"queue/poll wakes on unblock":   queuePollWakesOnUnblock,
		"queue/poll wakes on nack":      queuePollWakesOnNack,
		"queue/standard":                queueStandard,
		"queue/too long visibility":     queueTooLongVisibility,
		"queue/receive bounds":          queueReceiveBounds,
		"queue/one handle per delivery": queueHandlesDiffer,
		"queue/receive again":           queueReceiveAgain,
	}
}

func queueReceiveAgain(t T, e *env) {
	q := e.queue(nil)
	e.send(q, "a", "1", "2")
	receive := func(attempt string) []sqstypes.Message {
		out, err := e.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: &q.url, MaxNumberOfMessages: 10, ReceiveRequestAttemptId: &attempt,
			MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"ApproximateReceiveCount"},
		})
		require.NoError(t, err)
		return out.Messages
	}
	first := receive("one")
	require.Len(t, first, 2)
	require.Equal(t, first, receive("one"), "the same messages under the same handles")
	require.Empty(t, receive("two"))
	_, err := e.sqs.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: &q.url, ReceiptHandle: first[0].ReceiptHandle})
	require.NoError(t, err)
	require.Empty(t, receive("one"), "not once one of them was deleted")
}

func queueCreateAgain(t T, e *env) {
	q := e.queue(attrs{"VisibilityTimeout": "40"})
	out, err := e.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &q.name, Attributes: attrs{"FifoQueue": "true", "VisibilityTimeout": "40"}})
	require.NoError(t, err)
	require.Equal(t, q.url, *out.QueueUrl)
	found, err := e.sqs.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: &q.name})
	require.NoError(t, err)
	require.Equal(t, q.url, *found.QueueUrl)
}

func queueCreateDifferently(t T, e *env) {
	q := e.queue(nil)
	_, err := e.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &q.name, Attributes: attrs{"FifoQueue": "true", "VisibilityTimeout": "41"}})
	var exists *sqstypes.QueueNameExists
	require.ErrorAs(t, err, &exists)
}

func queueBadAttributes(t T, e *env) {
	name := unique("queue") + ".fifo"
	for _, bad := range []attrs{
		{"FifoQueue": "true", "VisibilityTimeout": "-1"}, {"FifoQueue": "true", "Nonsense": "1"},
		{"FifoQueue": "true", "RedrivePolicy": "{"}, {"FifoQueue": "true", "DelaySeconds": "901"},
	} {
		_, err := e.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: bad})
		require.Error(t, err)
	}
}

func queueMissing(t T, e *env) {
	q := e.queue(nil)
	gone := strings.Replace(q.url, q.name, "gone.fifo", 1)
	_, err := e.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &gone})
	var missing *sqstypes.QueueDoesNotExist
	require.ErrorAs(t, err, &missing)
	_, err = e.sqs.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("gone.fifo")})
	require.ErrorAs(t, err, &missing)
}

func queueList(t T, e *env) {
	prefix := unique("list")
	for _, name := range numbered(prefix+"-", 3) {
		e.queueNamed(name+".fifo", attrs{"FifoQueue": "true"})
	}
	var urls []string
	for pages := sqs.NewListQueuesPaginator(e.sqs, &sqs.ListQueuesInput{QueueNamePrefix: &prefix, MaxResults: aws.Int32(2)}); pages.HasMorePages(); {
		out, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		urls = append(urls, out.QueueUrls...)
	}
	require.Len(t, urls, 3)
}

func queueCounts(t T, e *env) {
	q := e.queue(attrs{"MessageRetentionPeriod": "600"})
	e.send(q, "a", "1", "2")
	e.send(q, "b", "3")
	e.receive(q, 1, func(in *sqs.ReceiveMessageInput) { in.MaxNumberOfMessages = 1 })
	got := e.queueAttributes(q)
	require.Equal(t, "600", got["MessageRetentionPeriod"])
	require.Equal(t, "30", got["VisibilityTimeout"])
	require.Equal(t, "true", got["FifoQueue"])
	require.Equal(t, "2", got["ApproximateNumberOfMessages"])
	require.Equal(t, "1", got["ApproximateNumberOfMessagesNotVisible"])
	require.Equal(t, "0", got["ApproximateNumberOfMessagesDelayed"])
	require.NotEmpty(t, got["CreatedTimestamp"])
}

func queueTags(t T, e *env) {
	q := e.queue(nil)
	_, err := e.sqs.TagQueue(t.Context(), &sqs.TagQueueInput{QueueUrl: &q.url, Tags: attrs{"a": "1", "b": "2"}})
	require.NoError(t, err)
	_, err = e.sqs.UntagQueue(t.Context(), &sqs.UntagQueueInput{QueueUrl: &q.url, TagKeys: []string{"a"}})
	require.NoError(t, err)
	out, err := e.sqs.ListQueueTags(t.Context(), &sqs.ListQueueTagsInput{QueueUrl: &q.url})
	require.NoError(t, err)
	require.Equal(t, attrs{"b": "2"}, out.Tags)
}

func queuePurge(t T, e *env) {
	q := e.queue(nil)
	e.send(q, "g", "1", "2")
	purge := func() error {
		_, err := e.sqs.PurgeQueue(t.Context(), &sqs.PurgeQueueInput{QueueUrl: &q.url})
		return err
	}
	require.NoError(t, purge())
	e.nothing(q)
	var running *sqstypes.PurgeQueueInProgress
	require.ErrorAs(t, purge(), &running)
}

func queueGroupBlocked(t T, e *env) {
	q := e.queue(nil)
	e.send(q, "a", "a1", "a2", "a3")
	e.send(q, "b", "b1")
	one := func(in *sqs.ReceiveMessageInput) { in.MaxNumberOfMessages = 1 }
	first := e.receive(q, 1, one)
	second := e.receive(q, 1, one)
	require.ElementsMatch(t, []string{"a1", "b1"}, bodies(append(first, second...)))
	e.nothing(q)
	e.delete(q, append(first, second...)...)
	require.Equal(t, []string{"a2", "a3"}, bodies(e.receive(q, 2)))
}

func queueTenOfAGroup(t T, e *env) {
	q := e.queue(nil)
	want := numbered("m", 12)
	e.send(q, "g", want...)
	first := e.receive(q, 10)
	require.Equal(t, want[:10], bodies(first))
	e.nothing(q)
	e.delete(q, first[1:]...)
	e.nothing(q)
	e.delete(q, first[0])
	require.Equal(t, want[10:], bodies(e.receive(q, 2)))
}

func queueNackRestoresOrder(t T, e *env) {
	q := e.queue(nil)
	want := numbered("m", 5)
	e.send(q, "g", want...)
	got := e.receive(q, 5)
	e.nack(q, got[3], got[1], got[4], got[0], got[2])
	again := e.receive(q, 5)
	require.Equal(t, want, bodies(again))
	require.Equal(t, "2", again[0].Attributes["ApproximateReceiveCount"])
}

func queueExpiryRestoresOrder(t T, e *env) {
	q := e.queue(nil)
	want := numbered("m", 4)
	e.send(q, "g", want...)
	e.receive(q, 4, visibleAfter(1))
	require.Equal(t, want, bodies(e.receive(q, 4)))
}

func queueExpiredHandle(t T, e *env) {
	q := e.queue(nil)
	e.send(q, "g", "m")
	old := e.receive(q, 1, visibleAfter(1))[0]
	fresh := e.receive(q, 1)[0]
	require.Error(t, e.tryDelete(q, old))
	require.NoError(t, e.tryDelete(q, fresh))
}

func queueBadHandle(t T, e *env) {
	q := e.queue(nil)
	_, err := e.sqs.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: &q.url, ReceiptHandle: aws.String("nonsense")})
	var invalid *sqstypes.ReceiptHandleIsInvalid
	require.ErrorAs(t, err, &invalid)
}

func queueDeleteTwice(t T, e *env) {
	q := e.queue(nil)
	e.send(q, "g", "m")
	m := e.receive(q, 1)[0]
	e.delete(q, m, m)
	_, err := e.sqs.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: &q.url, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 5})
	require.Error(t, err)
}

func queueDuplicate(t T, e *env) {
	q := e.queue(nil)
	send := func(body string) *sqs.SendMessageOutput {
		out, err := e.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: &body, MessageGroupId: aws.String("g"), MessageDeduplicationId: aws.String("once")})
		require.NoError(t, err)
		return out
	}
	first := send("first")
	e.drain(q, 1)
	again := send("again")
	require.Equal(t, *first.MessageId, *again.MessageId)
	require.Equal(t, aws.ToString(first.SequenceNumber), aws.ToString(again.SequenceNumber))
	e.nothing(q)
}

func queueContentHash(t T, e *env) {
	q := e.queue(attrs{"ContentBasedDeduplication": "true"})
	for _, body := range []string{"hello", "hello", "world"} {
		_, err := e.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: &body, MessageGroupId: aws.String("g")})
		require.NoError(t, err)
	}
	require.Equal(t, []string{"hello", "world"}, bodies(e.drain(q, 2)))
}

func sendEntry(id, group, body string) sqstypes.SendMessageBatchRequestEntry {
	return sqstypes.SendMessageBatchRequestEntry{Id: &id, MessageBody: &body, MessageGroupId: &group, MessageDeduplicationId: aws.String(uuid.NewString())}
}

func queueSendBatch(t T, e *env) {
	q := e.queue(nil)
	var entries []sqstypes.SendMessageBatchRequestEntry
	want := numbered("m", 10)
	for _, body := range want {
		entries = append(entries, sendEntry(body, "g", body))
	}
	out, err := e.sqs.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: entries})
	require.NoError(t, err)
	require.Len(t, out.Successful, 10)
	require.Equal(t, want, bodies(e.drain(q, 10)))
}

func queueDeleteBatch(t T, e *env) {
	q := e.queue(nil)
	e.send(q, "g", "1", "2")
	got := e.receive(q, 2)
	out, err := e.sqs.DeleteMessageBatch(t.Context(), &sqs.DeleteMessageBatchInput{QueueUrl: &q.url, Entries: []sqstypes.DeleteMessageBatchRequestEntry{
		{Id: aws.String("a"), ReceiptHandle: got[0].ReceiptHandle}, {Id: aws.String("b"), ReceiptHandle: aws.String("nonsense")},
		{Id: aws.String("c"), ReceiptHandle: got[1].ReceiptHandle},
	}})
	require.NoError(t, err)
	require.Len(t, out.Successful, 2)
	require.Len(t, out.Failed, 1)
	require.Equal(t, "b", *out.Failed[0].Id)
	require.True(t, out.Failed[0].SenderFault)
	require.Equal(t, "ReceiptHandleIsInvalid", *out.Failed[0].Code)
}

func queueVisibilityBatch(t T, e *env) {
	q := e.queue(nil)
	e.send(q, "g", "1", "2")
	var entries []sqstypes.ChangeMessageVisibilityBatchRequestEntry
	for _, m := range e.receive(q, 2) {
		entries = append(entries, sqstypes.ChangeMessageVisibilityBatchRequestEntry{Id: m.MessageId, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 0})
	}
	out, err := e.sqs.ChangeMessageVisibilityBatch(t.Context(), &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url, Entries: entries})
	require.NoError(t, err)
	require.Len(t, out.Successful, 2)
	require.Equal(t, []string{"1", "2"}, bodies(e.receive(q, 2)))
}

func queueBatchRefused(t T, e *env) {
	q := e.queue(nil)
	try := func(entries ...sqstypes.SendMessageBatchRequestEntry) error {
		_, err := e.sqs.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: entries})
		return err
	}
	var tooMany []sqstypes.SendMessageBatchRequestEntry
	for _, id := range numbered("e", 11) {
		tooMany = append(tooMany, sendEntry(id, "g", "m"))
	}
	var many *sqstypes.TooManyEntriesInBatchRequest
	require.ErrorAs(t, try(tooMany...), &many)
	var same *sqstypes.BatchEntryIdsNotDistinct
	require.ErrorAs(t, try(sendEntry("a", "g", "m"), sendEntry("a", "g", "m")), &same)
	var bad *sqstypes.InvalidBatchEntryId
	require.ErrorAs(t, try(sendEntry("a b", "g", "m")), &bad)
	var empty *sqstypes.EmptyBatchRequest
	require.ErrorAs(t, try([]sqstypes.SendMessageBatchRequestEntry{}...), &empty)
}

func (e *env) sendWith(q queueRef, attributes map[string]sqstypes.MessageAttributeValue) *sqs.SendMessageOutput {
	e.Helper()
	out, err := e.sqs.SendMessage(e.Context(), &sqs.SendMessageInput{
		QueueUrl: &q.url, MessageBody: aws.String("m"), MessageGroupId: aws.String("g"), MessageDeduplicationId: aws.String(uuid.NewString()), MessageAttributes: attributes,
	})
	require.NoError(e, err)
	return out
}

func sqsText(value string) sqstypes.MessageAttributeValue {
	return sqstypes.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
}

func queuePickAttributes(t T, e *env) {
	q := e.queue(nil)
	for _, c := range []struct{ ask, want []string }{
		{nil, nil}, {[]string{"All"}, []string{"foo.a", "foo.b", "bar"}}, {[]string{"bar"}, []string{"bar"}}, {[]string{"foo.*"}, []string{"foo.a", "foo.b"}},
	} {
		e.sendWith(q, map[string]sqstypes.MessageAttributeValue{"foo.a": sqsText("1"), "foo.b": sqsText("2"), "bar": sqsText("3")})
		m := e.receive(q, 1, func(in *sqs.ReceiveMessageInput) { in.MessageAttributeNames = c.ask })[0]
		var got []string
		for name := range m.MessageAttributes {
			got = append(got, name)
		}
		require.ElementsMatch(t, c.want, got)
		e.delete(q, m)
	}
}

func queueSystemAttributes(t T, e *env) {
	q := e.queue(nil)
	_, err := e.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: &q.url, MessageBody: aws.String("m"), MessageGroupId: aws.String("g"), MessageDeduplicationId: aws.String("d"),
		MessageSystemAttributes: map[string]sqstypes.MessageSystemAttributeValue{"AWSTraceHeader": {DataType: aws.String("String"), StringValue: aws.String("Root=1-5759e988-bd862e3fe1be46a994272793")}},
	})
	require.NoError(t, err)
	all := e.receive(q, 1)[0].Attributes
	require.Equal(t, "Root=1-5759e988-bd862e3fe1be46a994272793", all["AWSTraceHeader"])
	for _, name := range []string{"SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "SequenceNumber", "MessageDeduplicationId", "MessageGroupId"} {
		require.NotEmpty(t, all[name], name)
	}
}

func queueDigest(t T, e *env) {
	q := e.queue(nil)
	out := e.sendWith(q, map[string]sqstypes.MessageAttributeValue{"k": sqsText("v")})
	sum := md5.Sum([]byte("\x00\x00\x00\x01k\x00\x00\x00\x06String\x01\x00\x00\x00\x01v"))
	require.Equal(t, hex.EncodeToString(sum[:]), *out.MD5OfMessageAttributes)
	m := e.receive(q, 1)[0]
	require.Equal(t, hex.EncodeToString(sum[:]), *m.MD5OfMessageAttributes)
	body := md5.Sum([]byte("m"))
	require.Equal(t, hex.EncodeToString(body[:]), *m.MD5OfBody)
}

func queueSize(t T, e *env) {
	q := e.queue(attrs{"MaximumMessageSize": "2048"})
	e.send(q, "g", long(2048))
	_, err := e.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String(long(2049)), MessageGroupId: aws.String("g"), MessageDeduplicationId: aws.String("d")})
	require.ErrorContains(t, err, "InvalidParameterValue")
	large := e.queue(attrs{"MaximumMessageSize": "1048576"})
	e.send(large, "g", long(1<<20))
	require.Len(t, *e.receive(large, 1)[0].Body, 1<<20)
}

func queueNeedsGroup(t T, e *env) {
	q := e.queue(nil)
	_, err := e.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String("m"), MessageDeduplicationId: aws.String("d")})
	require.ErrorContains(t, err, "MissingParameter")
	_, err = e.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String("m"), MessageGroupId: aws.String("g")})
	require.ErrorContains(t, err, "InvalidParameterValue")
}

func queueIllegalCharacter(t T, e *env) {
	q := e.queue(nil)
	_, err := e.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String("\x01"), MessageGroupId: aws.String("g"), MessageDeduplicationId: aws.String("d")})
	var invalid *sqstypes.InvalidMessageContents
	require.ErrorAs(t, err, &invalid)
}

func queueDelay(t T, e *env) {
	q := e.queue(attrs{"DelaySeconds": "1"})
	e.send(q, "g", "m")
	require.Equal(t, "1", e.queueAttributes(q)["ApproximateNumberOfMessagesDelayed"])
	require.Equal(t, []string{"m"}, bodies(e.receive(q, 1)))
}

// poll receives in the background, waiting long.
func (e *env) poll(q queueRef) <-chan []sqstypes.Message {
	got := make(chan []sqstypes.Message, 1)
	go func() {
		out, err := e.sqs.ReceiveMessage(e.Context(), &sqs.ReceiveMessageInput{QueueUrl: &q.url, WaitTimeSeconds: 20, MaxNumberOfMessages: 10})
		if err != nil {
			out = &sqs.ReceiveMessageOutput{}
		}
		got <- out.Messages
	}()
	return got
}

func queuePollWakesOnSend(t T, e *env) {
	q := e.queue(nil)
	got := e.poll(q)
	e.send(q, "g", "m")
	require.Equal(t, []string{"m"}, bodies(<-got))
}

func queuePollWakesOnUnblock(t T, e *env) {
	q := e.queue(nil)
	e.send(q, "g", "1", "2")
	first := e.receive(q, 1, func(in *sqs.ReceiveMessageInput) { in.MaxNumberOfMessages = 1 })
	got := e.poll(q)
	e.delete(q, first...)
	require.Equal(t, []string{"2"}, bodies(<-got))
}

func queuePollWakesOnNack(t T, e *env) {
	q := e.queue(nil)
	e.send(q, "g", "1", "2")
	first := e.receive(q, 1, func(in *sqs.ReceiveMessageInput) { in.MaxNumberOfMessages = 1 })
	got := e.poll(q)
	e.nack(q, first...)
	require.Equal(t, []string{"1", "2"}, bodies(<-got))
}

func queueStandard(t T, e *env) {
	q := e.queueNamed(unique("standard"), attrs{"DelaySeconds": "0"})
	want := numbered("m", 5)
	for _, body := range want {
		_, err := e.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: &body})
		require.NoError(t, err)
	}
	require.ElementsMatch(t, want, bodies(e.drain(q, 5)))
}

func queueTooLongVisibility(t T, e *env) {
	q := e.queue(nil)
	e.send(q, "g", "m")
	m := e.receive(q, 1)[0]
	_, err := e.sqs.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: &q.url, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 43201})
	require.ErrorContains(t, err, "InvalidParameterValue")
}

func queueReceiveBounds(t T, e *env) {
	q := e.queue(nil)
	for _, in := range []sqs.ReceiveMessageInput{{MaxNumberOfMessages: 11}, {WaitTimeSeconds: 21}} {
		in.QueueUrl = &q.url
		_, err := e.sqs.ReceiveMessage(t.Context(), &in)
		require.ErrorContains(t, err, "InvalidParameterValue")
	}
}

func queueHandlesDiffer(t T, e *env) {
	q := e.queue(nil)
	e.send(q, "g", "m")
	first := e.receive(q, 1)[0]
	e.nack(q, first)
	second := e.receive(q, 1)[0]
	require.Equal(t, *first.MessageId, *second.MessageId)
	require.NotEqual(t, *first.ReceiptHandle, *second.ReceiptHandle)
	require.Error(t, e.tryDelete(q, first))
}
