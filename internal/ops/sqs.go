package ops

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// Limits of SQS, and of a call that does not wait for messages.
const (
	maxBatch    = 10
	callTimeout = 15 * time.Second
)

// SQS is the SDK's client, named here so that no other file has to know the SDK.
type SQS = sqs.Client

// rawAttributes are message attributes as received, to be sent as they are.
type rawAttributes = map[string]types.MessageAttributeValue

// queue is one queue, in the words of this package.
type queue struct {
	client *sqs.Client
	url    string
}

// name is the last part of the queue's URL.
func (q *queue) name() string { return path.Base(q.url) }

// receive takes a page of messages, hidden from others for visibility. None means
// that there are none to be had.
func (q *queue) receive(ctx context.Context, visibility, wait time.Duration) ([]*letter, error) {
	ctx, cancel := context.WithTimeout(ctx, max(wait, 0)+callTimeout)
	defer cancel()
	out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl:                    aws.String(q.url),
		MaxNumberOfMessages:         maxBatch,
		VisibilityTimeout:           wholeSeconds(visibility),
		WaitTimeSeconds:             wholeSeconds(wait),
		MessageAttributeNames:       []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		// The name that it had before, which is all that some emulators know. Without its
		// group no message could be sent on.
		AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}, //nolint:staticcheck // old, and of use all the same
	})
	if err != nil {
		return nil, fmt.Errorf("receive from %s: %w", q.name(), err)
	}
	now := time.Now()
	letters := make([]*letter, len(out.Messages))
	for i, m := range out.Messages {
		l := &letter{
			queue: q, messageID: aws.ToString(m.MessageId), receipt: aws.ToString(m.ReceiptHandle), receivedAt: now, sentAt: now,
			group: m.Attributes["MessageGroupId"], deduplicationID: m.Attributes["MessageDeduplicationId"],
			body: aws.ToString(m.Body), attributes: m.MessageAttributes,
		}
		if ms, err := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64); err == nil {
			l.sentAt = time.UnixMilli(ms)
		}
		letters[i] = l
	}
	return letters, nil
}

// texts are the attributes that are text, by name.
func texts(raw rawAttributes) map[string]string {
	all := make(map[string]string, len(raw))
	for name, a := range raw {
		if a.StringValue != nil {
			all[name] = *a.StringValue
		}
	}
	return all
}

// hide sets for how long messages stay hidden from now on; 0 puts them back. A
// message whose time had run out already is back and not an error of a putting
// back; of any other it is: it is held no more.
func (q *queue) hide(ctx context.Context, letters []*letter, visibility time.Duration) error {
	return inBatches(letters, func(batch []*letter) error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		in := &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: aws.String(q.url)}
		for i, l := range batch {
			in.Entries = append(in.Entries, types.ChangeMessageVisibilityBatchRequestEntry{
				Id: aws.String(strconv.Itoa(i)), ReceiptHandle: aws.String(l.receipt), VisibilityTimeout: wholeSeconds(visibility),
			})
		}
		out, err := q.client.ChangeMessageVisibilityBatch(ctx, in)
		if err != nil {
			return fmt.Errorf("change visibility in %s: %w", q.name(), err)
		}
		for _, f := range out.Failed {
			if visibility > 0 || !f.SenderFault {
				return fmt.Errorf("change visibility in %s: %w", q.name(), failedEntry(f))
			}
		}
		return nil
	})
}

// delete deletes messages. A failed entry is tried again once.
func (q *queue) delete(ctx context.Context, letters []*letter) error {
	return inBatches(letters, func(batch []*letter) error {
		failed, err := q.deleteBatch(ctx, batch)
		if err == nil && len(failed) > 0 {
			failed, err = q.deleteBatch(ctx, failed)
			if err == nil && len(failed) > 0 {
				err = fmt.Errorf("delete from %s: %d of %d messages were not deleted", q.name(), len(failed), len(batch))
			}
		}
		return err
	})
}

func (q *queue) deleteBatch(ctx context.Context, batch []*letter) (failed []*letter, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	in := &sqs.DeleteMessageBatchInput{QueueUrl: aws.String(q.url)}
	for i, l := range batch {
		in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: aws.String(l.receipt)})
	}
	out, err := q.client.DeleteMessageBatch(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("delete from %s: %w", q.name(), err)
	}
	for _, f := range out.Failed {
		if i, err := strconv.Atoi(aws.ToString(f.Id)); err == nil && i >= 0 && i < len(batch) {
			failed = append(failed, batch[i])
		}
	}
	return failed, nil
}

// send sends a message as it was received, under another deduplication id.
func (q *queue) send(ctx context.Context, l *letter, deduplicationID string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := q.client.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: aws.String(q.url), MessageBody: aws.String(l.body), MessageAttributes: l.attributes,
		MessageGroupId: aws.String(l.group), MessageDeduplicationId: aws.String(deduplicationID),
	})
	if err != nil {
		return fmt.Errorf("send to %s: %w", q.name(), err)
	}
	return nil
}

// count is about how many messages wait in the queue, and how many somebody
// holds.
func (q *queue) count(ctx context.Context) (waiting, held int, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(q.url),
		AttributeNames: []types.QueueAttributeName{
			types.QueueAttributeNameApproximateNumberOfMessages, types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
		},
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count messages of %s: %w", q.name(), err)
	}
	waiting, err1 := strconv.Atoi(out.Attributes[string(types.QueueAttributeNameApproximateNumberOfMessages)])
	held, err2 := strconv.Atoi(out.Attributes[string(types.QueueAttributeNameApproximateNumberOfMessagesNotVisible)])
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, fmt.Errorf("count messages of %s: %w", q.name(), err)
	}
	return waiting, held, nil
}

// purge deletes every message, those that somebody holds too. It takes up to a
// minute. https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_PurgeQueue.html
func (q *queue) purge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := q.client.PurgeQueue(ctx, &sqs.PurgeQueueInput{QueueUrl: aws.String(q.url)})
	if busy := (*types.PurgeQueueInProgress)(nil); errors.As(err, &busy) {
		return fmt.Errorf("purge %s: it was purged less than a minute ago; wait that long: %w", q.name(), err)
	}
	if err != nil {
		return fmt.Errorf("purge %s: %w", q.name(), err)
	}
	return nil
}

func failedEntry(f types.BatchResultErrorEntry) error {
	return fmt.Errorf("%s: %s", aws.ToString(f.Code), aws.ToString(f.Message))
}

// inBatches calls f for each ten letters, all of them, and joins the errors.
func inBatches(letters []*letter, f func([]*letter) error) error {
	var errs []error
	for len(letters) > 0 {
		batch := letters[:min(len(letters), maxBatch)]
		letters = letters[len(batch):]
		errs = append(errs, f(batch))
	}
	return errors.Join(errs...)
}

// wholeSeconds rounds up, so that a short time does not become none.
func wholeSeconds(d time.Duration) int32 {
	return int32((max(d, 0) + time.Second - 1) / time.Second)
}
