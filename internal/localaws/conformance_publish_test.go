package localaws_test

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

func publishSuite() map[string]func(T, *env) {
	return map[string]func(T, *env){
		"publish/raw":                        publishRaw,
		"publish/raw binary":                 publishRawBinary,
		"publish/raw with eleven attributes": publishRawEleven,
		"publish/envelope":                   publishEnvelope,
		"publish/subject":                    publishSubject,
		"publish/bad subject":                publishBadSubject,
		"publish/order":                      publishOrder,
		"publish/sequence numbers":           publishSequence,
		"publish/duplicate":                  publishDuplicate,
		"publish/content hash":               publishContentHash,
		"publish/needs group and id":         publishNeedsIDs,
		"publish/id alphabet":                publishIDAlphabet,
		"publish/empty attribute":            publishEmptyAttribute,
		"publish/attribute not a number":     publishNotANumber,
		"publish/empty message":              publishEmpty,
		"publish/illegal character":          publishIllegalCharacter,
		"publish/size":                       publishSize,
		"publish/message structure":          publishStructure,
		"batch/refused whole":                batchRefused,
		"batch/too long":                     batchTooLong,
		"batch/one bad entry refuses all":    batchBadEntry,
		"batch/by the relay":                 batchByRelay,
	}
}

func publishRaw(t T, e *env) {
	topic, q := e.pair(attrs{"RawMessageDelivery": "true"})
	out := e.publish(topic, `{"a":"<&>도너츠"}`, func(in *sns.PublishInput) {
		in.MessageGroupId, in.MessageDeduplicationId = aws.String("sku-1"), aws.String("event-1")
		in.MessageAttributes = map[string]snstypes.MessageAttributeValue{"type": text("order"), "quantity": number("7")}
	})
	require.NotEmpty(t, *out.MessageId)
	m := e.receive(q, 1)[0]
	require.Equal(t, `{"a":"<&>도너츠"}`, *m.Body)
	require.Equal(t, "sku-1", m.Attributes["MessageGroupId"])
	require.Equal(t, "event-1", m.Attributes["MessageDeduplicationId"])
	require.Equal(t, "1", m.Attributes["ApproximateReceiveCount"])
	require.Len(t, m.Attributes["SequenceNumber"], 20)
	require.Len(t, m.MessageAttributes, 2)
	require.Equal(t, "order", *m.MessageAttributes["type"].StringValue)
	require.Equal(t, "Number", *m.MessageAttributes["quantity"].DataType)
	require.Equal(t, "7", *m.MessageAttributes["quantity"].StringValue)
}

func publishRawBinary(t T, e *env) {
	topic, q := e.pair(attrs{"RawMessageDelivery": "true"})
	e.publish(topic, "b", func(in *sns.PublishInput) {
		in.MessageAttributes = map[string]snstypes.MessageAttributeValue{"blob": {DataType: aws.String("Binary"), BinaryValue: []byte{0, 1, 255}}}
	})
	m := e.receive(q, 1)[0]
	require.Equal(t, []byte{0, 1, 255}, m.MessageAttributes["blob"].BinaryValue)
}

func publishRawEleven(t T, e *env) {
	topic, raw := e.pair(attrs{"RawMessageDelivery": "true"})
	wrapped := e.queue(nil)
	e.subscribe(topic, wrapped, nil)
	e.publish(topic, "eleven", func(in *sns.PublishInput) {
		in.MessageAttributes = map[string]snstypes.MessageAttributeValue{}
		for _, name := range numbered("a", 11) {
			in.MessageAttributes[name] = text("v")
		}
	})
	e.drain(wrapped, 1)
	e.nothing(raw)
}

func publishEnvelope(t T, e *env) {
	topic, q := e.pair(nil)
	out := e.publish(topic, "line one\nline \"two\"", func(in *sns.PublishInput) {
		in.Subject = aws.String("도너츠 재고 부족")
		in.MessageAttributes = map[string]snstypes.MessageAttributeValue{"groupId": text("stock-arrival-group"), "quantity": number("3")}
	})
	m := e.receive(q, 1)[0]
	require.Empty(t, m.MessageAttributes)
	var envelope struct {
		Type, MessageId, SequenceNumber, TopicArn, Subject, Message, Timestamp, UnsubscribeURL string
		MessageAttributes                                                                      map[string]struct{ Type, Value string }
	}
	require.NoError(t, json.Unmarshal([]byte(*m.Body), &envelope))
	require.Equal(t, "Notification", envelope.Type)
	require.Equal(t, *out.MessageId, envelope.MessageId)
	require.Equal(t, aws.ToString(out.SequenceNumber), envelope.SequenceNumber)
	require.Equal(t, topic.arn, envelope.TopicArn)
	require.Equal(t, "도너츠 재고 부족", envelope.Subject)
	require.Equal(t, "line one\nline \"two\"", envelope.Message)
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`, envelope.Timestamp)
	require.Len(t, envelope.SequenceNumber, 20)
	require.NotEmpty(t, envelope.UnsubscribeURL)
	require.Equal(t, "stock-arrival-group", envelope.MessageAttributes["groupId"].Value)
	require.Equal(t, "Number", envelope.MessageAttributes["quantity"].Type)
}

func publishSubject(_ T, e *env) {
	topic := e.topic(nil)
	for _, subject := range []string{"x", "도너츠 재고 부족", strings.Repeat("부", 100)} {
		e.publish(topic, "m", func(in *sns.PublishInput) { in.Subject = &subject })
	}
}

func publishBadSubject(t T, e *env) {
	topic := e.topic(nil)
	for _, subject := range []string{"", "two\nlines", "bell\a", long(101)} {
		_, err := e.tryPublish(topic, "m", func(in *sns.PublishInput) { in.Subject = &subject })
		requireInvalid(t, err)
	}
}

func publishOrder(t T, e *env) {
	topic, q := e.pair(attrs{"RawMessageDelivery": "true"})
	const groups, batches = 3, 4
	for b := range batches {
		var entries []snstypes.PublishBatchRequestEntry
		for i := range 10 {
			entries = append(entries, entry(fmt.Sprint("e", i), fmt.Sprint("g", i%groups), fmt.Sprintf("%02d", b*10+i)))
		}
		out, err := e.publishBatch(topic, entries...)
		require.NoError(t, err)
		require.Len(t, out.Successful, 10)
	}
	last := map[string]string{}
	for _, m := range e.drain(q, batches*10) {
		group := m.Attributes["MessageGroupId"]
		require.Greater(t, *m.Body, last[group])
		last[group] = *m.Body
	}
	require.Len(t, last, groups)
}

func publishSequence(t T, e *env) {
	topic := e.topic(nil)
	last := ""
	for range 3 {
		out := e.publish(topic, "m")
		require.Len(t, aws.ToString(out.SequenceNumber), 20)
		require.Greater(t, aws.ToString(out.SequenceNumber), last)
		last = aws.ToString(out.SequenceNumber)
	}
}

func publishDuplicate(t T, e *env) {
	topic, q := e.pair(attrs{"RawMessageDelivery": "true"})
	once := func(in *sns.PublishInput) { in.MessageDeduplicationId = aws.String("once") }
	first := e.publish(topic, "first", once)
	e.drain(q, 1)
	again := e.publish(topic, "again", once)
	require.Equal(t, *first.MessageId, *again.MessageId)
	require.Equal(t, aws.ToString(first.SequenceNumber), aws.ToString(again.SequenceNumber))
	repeat := entry("a", "g", "in a batch")
	repeat.MessageDeduplicationId = aws.String("once")
	out, err := e.publishBatch(topic, repeat)
	require.NoError(t, err)
	require.Equal(t, *first.MessageId, *out.Successful[0].MessageId)
	e.nothing(q)
}

func publishContentHash(t T, e *env) {
	topic, q := e.topic(attrs{"ContentBasedDeduplication": "true"}), e.queue(nil)
	e.subscribe(topic, q, attrs{"RawMessageDelivery": "true"})
	for _, body := range []string{"hello", "hello", "world"} {
		e.publish(topic, body, func(in *sns.PublishInput) { in.MessageDeduplicationId = nil })
	}
	got := e.drain(q, 2)
	require.Equal(t, []string{"hello", "world"}, bodies(got))
	require.Equal(t, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", got[0].Attributes["MessageDeduplicationId"])
}

func publishNeedsIDs(t T, e *env) {
	topic := e.topic(nil)
	_, err := e.tryPublish(topic, "m", func(in *sns.PublishInput) { in.MessageGroupId = nil })
	requireInvalid(t, err)
	_, err = e.tryPublish(topic, "m", func(in *sns.PublishInput) { in.MessageDeduplicationId = nil })
	requireInvalid(t, err)
}

func publishIDAlphabet(t T, e *env) {
	topic := e.topic(nil)
	for _, bad := range []string{"a b", "도너츠", long(129)} {
		_, err := e.tryPublish(topic, "m", func(in *sns.PublishInput) { in.MessageGroupId = &bad })
		requireInvalid(t, err)
		_, err = e.tryPublish(topic, "m", func(in *sns.PublishInput) { in.MessageDeduplicationId = &bad })
		requireInvalid(t, err)
	}
	e.publish(topic, "m", func(in *sns.PublishInput) { in.MessageGroupId = aws.String("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~aZ9") })
}

func publishEmptyAttribute(t T, e *env) {
	topic := e.topic(nil)
	_, err := e.tryPublish(topic, "m", func(in *sns.PublishInput) {
		in.MessageAttributes = map[string]snstypes.MessageAttributeValue{"empty": text("")}
	})
	requireBadValue(t, err)
}

func requireBadValue(t T, err error) {
	t.Helper()
	var bad *snstypes.InvalidParameterValueException
	require.ErrorAs(t, err, &bad)
}

func publishNotANumber(t T, e *env) {
	topic := e.topic(nil)
	_, err := e.tryPublish(topic, "m", func(in *sns.PublishInput) {
		in.MessageAttributes = map[string]snstypes.MessageAttributeValue{"n": number("seven")}
	})
	requireBadValue(t, err)
}

func publishEmpty(t T, e *env) {
	_, err := e.tryPublish(e.topic(nil), "")
	requireInvalid(t, err)
}

func publishIllegalCharacter(t T, e *env) {
	_, err := e.tryPublish(e.topic(nil), "null\x00")
	requireInvalid(t, err)
}

func publishSize(t T, e *env) {
	topic := e.topic(nil)
	e.publish(topic, long(256<<10))
	_, err := e.tryPublish(topic, long(256<<10+1))
	requireInvalid(t, err)
	_, err = e.tryPublish(topic, long(256<<10-8), func(in *sns.PublishInput) {
		in.MessageAttributes = map[string]snstypes.MessageAttributeValue{"ab": text("c")} // 2 + len("String") + 1 bytes
	})
	requireInvalid(t, err)
}

func publishStructure(t T, e *env) {
	topic, q := e.pair(attrs{"RawMessageDelivery": "true"})
	structured := func(in *sns.PublishInput) { in.MessageStructure = aws.String("json") }
	e.publish(topic, `{"default":"everyone","sqs":"queues"}`, structured)
	require.Equal(t, "queues", *e.drain(q, 1)[0].Body)
	_, err := e.tryPublish(topic, `{"sqs":"queues"}`, structured)
	requireInvalid(t, err)
}

func batchRefused(t T, e *env) {
	topic := e.topic(nil)
	var tooMany []snstypes.PublishBatchRequestEntry
	for _, id := range numbered("e", 11) {
		tooMany = append(tooMany, entry(id, "g", "m"))
	}
	_, err := e.publishBatch(topic, tooMany...)
	var many *snstypes.TooManyEntriesInBatchRequestException
	require.ErrorAs(t, err, &many)
	_, err = e.publishBatch(topic, []snstypes.PublishBatchRequestEntry{}...)
	require.Error(t, err)
	_, err = e.publishBatch(topic, entry("same", "g", "m"), entry("same", "g", "m"))
	var same *snstypes.BatchEntryIdsNotDistinctException
	require.ErrorAs(t, err, &same)
	_, err = e.publishBatch(topic, entry("a.b", "g", "m"))
	var bad *snstypes.InvalidBatchEntryIdException
	require.ErrorAs(t, err, &bad)
	_, err = e.publishBatch(topicRef{arn: topic.arn[:len(topic.arn)-5] + "-gone.fifo"}, entry("a", "g", "m"))
	requireNotFound(t, err)
}

func batchTooLong(t T, e *env) {
	topic := e.topic(nil)
	_, err := e.publishBatch(topic, entry("a", "g", long(200<<10)), entry("b", "g", long(56<<10+1)))
	var tooLong *snstypes.BatchRequestTooLongException
	require.ErrorAs(t, err, &tooLong)
	out, err := e.publishBatch(topic, entry("a", "g", long(200<<10)), entry("b", "g", long(56<<10)))
	require.NoError(t, err)
	require.Len(t, out.Successful, 2)
}

func batchBadEntry(t T, e *env) {
	topic, q := e.pair(attrs{"RawMessageDelivery": "true"})
	bad := entry("bad", "g", "bad")
	bad.MessageAttributes = map[string]snstypes.MessageAttributeValue{"empty": text("")}
	_, err := e.publishBatch(topic, entry("a", "g", "first"), bad, entry("b", "g", "last"))
	requireBadValue(t, err)
	e.nothing(q)
}

// batchByRelay is published by the relay's own writing of requests and reading of answers.
func batchByRelay(t T, e *env) {
	topic, q := e.pair(attrs{"RawMessageDelivery": "true"})
	p, err := relay.NewSNS(relay.SNSConfig{AWS: e.cfg, TopicARN: topic.arn})
	require.NoError(t, err)
	var events []schema.Event
	for _, body := range []string{`{"a":"<&>도너츠 +%20"}`, "second"} {
		id := schema.NewID()
		events = append(events, schema.Event{ID: id, Group: id.String(), Subject: "s&t", Body: body, Attributes: map[string]schema.Attribute{
			"type": {Type: "String", Value: "a=b&c"}, "quantity": {Type: "Number", Value: "7"},
		}})
	}
	results, err := p.Publish(t.Context(), events)
	require.NoError(t, err)
	received := map[string]sqstypes.Message{}
	for _, m := range e.receive(q, len(events)) {
		received[m.Attributes["MessageDeduplicationId"]] = m
	}
	require.Len(t, results, len(events))
	for i, event := range events {
		require.NoError(t, results[i].Err)
		require.NotEmpty(t, results[i].MessageID)
		m := received[event.ID.String()]
		require.Equal(t, event.Body, *m.Body)
		require.Equal(t, event.Group, m.Attributes["MessageGroupId"])
		require.Equal(t, "a=b&c", *m.MessageAttributes["type"].StringValue)
		require.Equal(t, "7", *m.MessageAttributes["quantity"].StringValue)
	}
}
