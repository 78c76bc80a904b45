package localaws_test

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"
)

func redriveSuite() map[string]func(T, *env) {
	return map[string]func(T, *env){
		"redrive/on nack":                  redriveOnNack,
		"redrive/on expiry":                redriveOnExpiry,
		"redrive/unblocks the group":       redriveUnblocks,
		"redrive/sources":                  redriveSources,
		"redrive/target must exist":        redriveMissingTarget,
		"redrive/allow policy":             redriveAllow,
		"redrive/move back":                moveBack,
		"redrive/move to another":          moveElsewhere,
		"redrive/move needs a source":      moveNeedsSource,
		"redrive/move refuses others":      moveRefusesOthers,
		"policy/queue without one":         policyNone,
		"policy/another topic":             policyOtherTopic,
		"policy/star":                      policyStar,
		"policy/subscription dead letters": policyDeadLetters,
	}
}

// deadLetters is a queue whose messages are dead-lettered after one receive.
func (e *env) deadLetters() (source, dlq queueRef) {
	e.Helper()
	dlq = e.queue(nil)
	return e.queue(attrs{"RedrivePolicy": redriveTo(dlq, 1)}), dlq
}

func redriveOnNack(t T, e *env) {
	topic := e.topic(nil)
	source, dlq := e.deadLetters()
	e.subscribe(topic, source, attrs{"RawMessageDelivery": "true"})
	e.publish(topic, "m", func(in *sns.PublishInput) {
		in.MessageGroupId = aws.String("sku-1")
		in.MessageAttributes = map[string]snstypes.MessageAttributeValue{"eventId": text("e-1")}
	})
	first := e.receive(source, 1)[0]
	e.nack(source, first)
	e.nothing(source)
	dead := e.receive(dlq, 1)[0]
	require.Equal(t, "m", *dead.Body)
	require.Equal(t, *first.MessageId, *dead.MessageId)
	require.Equal(t, "sku-1", dead.Attributes["MessageGroupId"])
	require.Equal(t, source.arn, dead.Attributes["DeadLetterQueueSourceArn"])
	require.Equal(t, "e-1", *dead.MessageAttributes["eventId"].StringValue)
}

func redriveOnExpiry(t T, e *env) {
	source, dlq := e.deadLetters()
	e.send(source, "g", "m")
	e.receive(source, 1, visibleAfter(1))
	// The move happens when a receive comes upon the message.
	require.Empty(t, e.receiveOnce(source, waiting(3)))
	require.Equal(t, []string{"m"}, bodies(e.receive(dlq, 1)))
}

func redriveUnblocks(t T, e *env) {
	source, dlq := e.deadLetters()
	e.send(source, "g", "1", "2")
	first := e.receive(source, 1, func(in *sqs.ReceiveMessageInput) { in.MaxNumberOfMessages = 1 })
	e.nack(source, first...)
	require.Equal(t, []string{"2"}, bodies(e.receive(source, 1)))
	require.Equal(t, []string{"1"}, bodies(e.receive(dlq, 1)))
}

func redriveSources(t T, e *env) {
	source, dlq := e.deadLetters()
	out, err := e.sqs.ListDeadLetterSourceQueues(t.Context(), &sqs.ListDeadLetterSourceQueuesInput{QueueUrl: &dlq.url})
	require.NoError(t, err)
	require.Equal(t, []string{source.url}, out.QueueUrls)
}

func redriveMissingTarget(t T, e *env) {
	q := e.queue(nil)
	gone := queueRef{arn: q.arn[:len(q.arn)-5] + "-gone.fifo"}
	_, err := e.sqs.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: &q.url, Attributes: attrs{"RedrivePolicy": redriveTo(gone, 3)}})
	require.Error(t, err)
}

func redriveAllow(t T, e *env) {
	dlq, q := e.queue(attrs{"RedriveAllowPolicy": `{"redrivePermission":"denyAll"}`}), e.queue(nil)
	_, err := e.sqs.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: &q.url, Attributes: attrs{"RedrivePolicy": redriveTo(dlq, 3)}})
	require.Error(t, err)
}

// bury dead-letters messages of one group.
func (e *env) bury(source, dlq queueRef, bodies ...string) {
	e.Helper()
	e.send(source, "g", bodies...)
	e.nack(source, e.receive(source, len(bodies))...)
	e.nothing(source)
	require.Equal(e, fmt.Sprint(len(bodies)), e.queueAttributes(dlq)["ApproximateNumberOfMessages"])
}

func moveBack(t T, e *env) {
	source, dlq := e.deadLetters()
	e.bury(source, dlq, "1", "2", "3")
	got := e.poll(source)
	_, err := e.sqs.StartMessageMoveTask(t.Context(), &sqs.StartMessageMoveTaskInput{SourceArn: &dlq.arn})
	require.NoError(t, err)
	moved := <-got
	for len(moved) < 3 {
		e.delete(source, moved...)
		moved = append(moved, e.receive(source, 3-len(moved))...)
	}
	require.Equal(t, []string{"1", "2", "3"}, bodies(moved))
	e.nothing(dlq)
	out, err := e.sqs.ListMessageMoveTasks(t.Context(), &sqs.ListMessageMoveTasksInput{SourceArn: &dlq.arn})
	require.NoError(t, err)
	require.Len(t, out.Results, 1)
	require.EqualValues(t, 3, out.Results[0].ApproximateNumberOfMessagesMoved)
}

func moveElsewhere(t T, e *env) {
	source, dlq := e.deadLetters()
	other := e.queue(nil)
	e.bury(source, dlq, "1")
	_, err := e.sqs.StartMessageMoveTask(t.Context(), &sqs.StartMessageMoveTaskInput{SourceArn: &dlq.arn, DestinationArn: &other.arn})
	require.NoError(t, err)
	m := e.receive(other, 1)[0]
	require.Equal(t, "1", *m.Body)
	require.Equal(t, "g", m.Attributes["MessageGroupId"])
}

func moveNeedsSource(t T, e *env) {
	plain := e.queue(nil)
	_, err := e.sqs.StartMessageMoveTask(t.Context(), &sqs.StartMessageMoveTaskInput{SourceArn: &plain.arn})
	require.ErrorContains(t, err, "InvalidParameterValue")
}

func moveRefusesOthers(t T, e *env) {
	source, dlq := e.deadLetters()
	e.bury(source, dlq, numbered("m", 10)...)
	start := func() (*sqs.StartMessageMoveTaskOutput, error) {
		return e.sqs.StartMessageMoveTask(t.Context(), &sqs.StartMessageMoveTaskInput{SourceArn: &dlq.arn, MaxNumberOfMessagesPerSecond: aws.Int32(1)})
	}
	task, err := start()
	require.NoError(t, err)
	_, err = start()
	require.Error(t, err)
	out, err := e.sqs.CancelMessageMoveTask(t.Context(), &sqs.CancelMessageMoveTaskInput{TaskHandle: task.TaskHandle})
	require.NoError(t, err)
	require.Less(t, out.ApproximateNumberOfMessagesMoved, int64(10))
	_, err = e.sqs.CancelMessageMoveTask(t.Context(), &sqs.CancelMessageMoveTaskInput{TaskHandle: aws.String("nonsense")})
	var missing *sqstypes.ResourceNotFoundException
	require.ErrorAs(t, err, &missing)
}

func policyNone(_ T, e *env) {
	topic, q := e.topic(nil), e.queueNamed(unique("queue")+".fifo", attrs{"FifoQueue": "true", "Policy": ""})
	e.subscribe(topic, q, nil)
	e.publish(topic, "m")
	e.nothing(q)
}

func policyOtherTopic(_ T, e *env) {
	topic, q := e.pair(nil)
	e.setQueue(q, attrs{"Policy": policyFor(q.arn, topic.arn+"-other")})
	e.publish(topic, "hidden")
	e.nothing(q)
	e.setQueue(q, attrs{"Policy": policyFor(q.arn, topic.arn)})
	e.publish(topic, "seen")
	e.drain(q, 1)
}

func policyStar(_ T, e *env) {
	topic, q := e.pair(nil)
	e.setQueue(q, attrs{"Policy": fmt.Sprintf(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"SQS:*","Resource":%q}}`, q.arn)})
	e.publish(topic, "m")
	e.drain(q, 1)
}

func policyDeadLetters(t T, e *env) {
	topic, dlq := e.topic(nil), e.queue(nil)
	q := e.queueNamed(unique("queue")+".fifo", attrs{"FifoQueue": "true", "Policy": ""})
	e.subscribe(topic, q, attrs{"RawMessageDelivery": "true", "RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":%q}`, dlq.arn)})
	e.publish(topic, "m")
	m := e.receive(dlq, 1)[0]
	require.Equal(t, "m", *m.Body)
	require.Equal(t, "g", m.Attributes["MessageGroupId"])
}
