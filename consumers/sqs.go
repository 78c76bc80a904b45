package consumers

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	"github.com/google/uuid"

	"github.com/restock-dev/restock/internal/awshttp"
	"github.com/restock-dev/restock/schema"
)

// Limits of SQS.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
const (
	maxBatch = 10
	// maxVisibility counts from the receive, however often it is changed.
	maxVisibility = 12 * time.Hour
	// callTimeout bounds a call that does not wait for messages.
	callTimeout = 10 * time.Second
	// againTimeout bounds asking again for what a receive that was cut may have
	// taken, which a worker that stops waits for.
	againTimeout = time.Second
)

// SQS is the SDK's client, named here so that no other file has to know the SDK.
type SQS = sqs.Client

// queue is one consumer's SQS queue with its dead-letter queue: what the worker
// asks of SQS, in its own words.
type queue struct {
	client      *sqs.Client
	url, dlqURL string
	wait        time.Duration
	visibility  time.Duration
}

// held is a message in hand: received and not yet deleted or put back.
type held struct {
	message
	receipt    string
	raw        map[string]types.MessageAttributeValue
	receivedAt time.Time
}

// name is the last part of the queue's URL.
func (q *queue) name() string { return path.Base(q.url) }

// receive waits for messages, at most max of them.
//
// Where ctx or the network cuts it, SQS may have answered already. Those messages
// would be hidden until their visibility timeout, and their groups with them, so
// they are asked for once more, under the same id, which gives the same messages.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/using-receiverequestattemptid-request-parameter.html
func (q *queue) receive(ctx context.Context, max int) ([]*held, error) {
	var attempt *string // only FIFO queues know it
	if strings.HasSuffix(q.url, ".fifo") {
		attempt = aws.String(uuid.NewString())
	}
	messages, err := q.receiveAttempt(ctx, q.wait+callTimeout, attempt, max, q.wait)
	if err == nil || attempt == nil || errors.As(err, new(smithy.APIError)) {
		return messages, err
	}
	messages, again := q.receiveAttempt(context.WithoutCancel(ctx), againTimeout, attempt, max, 0)
	if again != nil {
		return nil, err
	}
	return messages, nil
}

func (q *queue) receiveAttempt(ctx context.Context, timeout time.Duration, attempt *string, max int, wait time.Duration) ([]*held, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl:                    aws.String(q.url),
		MaxNumberOfMessages:         int32(max),
		WaitTimeSeconds:             wholeSeconds(wait),
		VisibilityTimeout:           wholeSeconds(q.visibility),
		ReceiveRequestAttemptId:     attempt,
		MessageAttributeNames:       []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		// The name that it had before, which is all that some emulators know. Without the
		// group of each message there would be no order.
		AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}, //nolint:staticcheck // old, and of use all the same
	})
	if err != nil {
		return nil, fmt.Errorf("receive from %s: %w", q.name(), err)
	}
	now := time.Now()
	messages := make([]*held, len(out.Messages))
	for i, m := range out.Messages {
		messages[i] = newHeld(m, now)
	}
	return messages, nil
}

func newHeld(m types.Message, now time.Time) *held {
	h := &held{receipt: aws.ToString(m.ReceiptHandle), raw: m.MessageAttributes, receivedAt: now}
	h.id, h.body = aws.ToString(m.MessageId), aws.ToString(m.Body)
	h.group, h.dedup = m.Attributes["MessageGroupId"], m.Attributes["MessageDeduplicationId"]
	if h.group == "" {
		h.group = h.id // a queue without groups
	}
	h.sentAt = now
	if ms, err := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64); err == nil {
		h.sentAt = time.UnixMilli(ms)
	}
	h.receiveCount = 1
	if n, err := strconv.Atoi(m.Attributes["ApproximateReceiveCount"]); err == nil {
		h.receiveCount = n
	}
	h.attributes = make(map[string]string, len(m.MessageAttributes))
	for name, a := range m.MessageAttributes {
		if a.StringValue != nil {
			h.attributes[name] = *a.StringValue
		}
	}
	return h
}

// newHeldOf is newHeld for a message that somebody else received.
func newHeldOf(m Message, now time.Time) *held {
	raw := make(map[string]types.MessageAttributeValue, len(m.Attributes))
	for name, a := range m.Attributes {
		v := types.MessageAttributeValue{DataType: aws.String(a.Type), BinaryValue: a.Binary}
		if a.Binary == nil {
			v.StringValue = aws.String(a.Text)
		}
		raw[name] = v
	}
	return newHeld(types.Message{
		MessageId: aws.String(m.ID), ReceiptHandle: aws.String(m.Receipt), Body: aws.String(m.Body), Attributes: m.System, MessageAttributes: raw,
	}, now)
}

// hide sets for how long each message stays invisible from now on; 0 puts it
// back. It returns the error of each message that failed.
func (q *queue) hide(ctx context.Context, messages []*held, delay func(*held) time.Duration) map[*held]error {
	return inBatches(messages, func(batch []*held) (map[*held]error, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		in := &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: aws.String(q.url)}
		for i, h := range batch {
			left := maxVisibility - time.Since(h.receivedAt) - time.Minute
			in.Entries = append(in.Entries, types.ChangeMessageVisibilityBatchRequestEntry{
				Id:                aws.String(strconv.Itoa(i)),
				ReceiptHandle:     aws.String(h.receipt),
				VisibilityTimeout: wholeSeconds(min(delay(h), left)),
			})
		}
		out, err := q.client.ChangeMessageVisibilityBatch(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("change visibility in %s: %w", q.name(), err)
		}
		return entryErrors(batch, out.Failed), nil
	})
}

// delete deletes the messages and returns the error of each that failed.
func (q *queue) delete(ctx context.Context, messages []*held) map[*held]error {
	return inBatches(messages, func(batch []*held) (map[*held]error, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		in := &sqs.DeleteMessageBatchInput{QueueUrl: aws.String(q.url)}
		for i, h := range batch {
			in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{
				Id:            aws.String(strconv.Itoa(i)),
				ReceiptHandle: aws.String(h.receipt),
			})
		}
		out, err := q.client.DeleteMessageBatch(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("delete from %s: %w", q.name(), err)
		}
		return entryErrors(batch, out.Failed), nil
	})
}

// deadLetter sends a message to the dead-letter queue as it was received. Sent
// again it is dropped there by its deduplication id, for five minutes.
func (q *queue) deadLetter(ctx context.Context, h *held, k key) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := q.client.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl:               aws.String(q.dlqURL),
		MessageBody:            aws.String(h.body),
		MessageAttributes:      h.raw,
		MessageGroupId:         aws.String(h.group),
		MessageDeduplicationId: aws.String(schema.DeadLetterID(k.eventID, q.name(), k.replayID, h.dedup)),
	})
	if err != nil {
		return fmt.Errorf("send to %s: %w", path.Base(q.dlqURL), err)
	}
	return nil
}

// entryError is the failure of one entry of a batch.
type entryError struct {
	code, message string
	ours          bool // the entry itself was wrong: trying again does not help
}

func (e *entryError) Error() string { return e.code + ": " + e.message }

// stale tells a receipt that has run out, which no retry mends: the message is
// visible again, or gone. To be too fast is called a fault of the sender as well.
func stale(err error) bool {
	var e *entryError
	return errors.As(err, &e) && e.ours && !awshttp.Throttled(e.code)
}

func entryErrors(batch []*held, failed []types.BatchResultErrorEntry) map[*held]error {
	errs := make(map[*held]error, len(failed))
	for _, f := range failed {
		i, err := strconv.Atoi(aws.ToString(f.Id))
		if err != nil || i < 0 || i >= len(batch) {
			continue // no entry of ours
		}
		errs[batch[i]] = &entryError{code: aws.ToString(f.Code), message: aws.ToString(f.Message), ours: f.SenderFault}
	}
	return errs
}

// inBatches calls f for each ten messages and gathers the errors by message. An
// error of the call is one of each of its messages.
func inBatches(messages []*held, f func([]*held) (map[*held]error, error)) map[*held]error {
	all := make(map[*held]error)
	for len(messages) > 0 {
		batch := messages[:min(len(messages), maxBatch)]
		messages = messages[len(batch):]
		errs, err := f(batch)
		for _, h := range batch {
			if err != nil {
				all[h] = err
			} else if e := errs[h]; e != nil {
				all[h] = e
			}
		}
	}
	return all
}

// wholeSeconds rounds up, so that a short wait does not become none.
func wholeSeconds(d time.Duration) int32 {
	return int32((max(d, 0) + time.Second - 1) / time.Second)
}
