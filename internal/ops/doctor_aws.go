package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/restock-dev/restock/schema"
)

// DoctorAWS is what there is to be checked of AWS. Without SNS nothing of it is.
type DoctorAWS struct {
	SNS      *sns.Client
	SQS      *sqs.Client
	TopicARN string
	// SES is checked where AdsFrom, the sender of the mails, is given.
	SES     *sesv2.Client
	AdsFrom string
	// WorkerAttempts are the tries that a consumer itself gives an event. A queue has
	// to allow far more.
	WorkerAttempts int
}

// longest is the retention that every queue should have: what SQS allows at most.
const longest = "1209600"

// aws checks the topic, each consumer's subscription and queues, and SES.
func (e *examination) aws(ctx context.Context, cfg DoctorAWS, interests []schema.Interest) {
	a := awsExamination{e, cfg}
	if a.topic(ctx) {
		subscribed, err := a.subscriptions(ctx)
		if err != nil {
			subject{e, "topic"}.unknown("subscriptions", err)
		}
		for _, in := range interests {
			s := subject{e, in.Consumer}
			arns, ok := a.queues(ctx, s, in.Consumer)
			if ok && err == nil {
				a.subscription(ctx, s, in, arns, subscribed[arns.queue])
			}
		}
	}
	if cfg.SES != nil && cfg.AdsFrom != "" {
		a.ses(ctx)
	}
}

type awsExamination struct {
	*examination

	cfg DoctorAWS
}

// topic checks the topic, and tells whether it can be asked for more.
func (a awsExamination) topic(ctx context.Context) bool {
	s := subject{a.examination, "topic"}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	out, err := a.cfg.SNS.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: aws.String(a.cfg.TopicARN)})
	if err != nil {
		s.fail("reachable", "check AWS_REGION, AWS_ENDPOINT_URL, the credentials (aws sts get-caller-identity) and the ARN (aws sns list-topics)", "%s", err)
		return false
	}
	if out.Attributes["FifoTopic"] != "true" {
		s.fail("FIFO", "aws sns create-topic --name "+schema.Topic+" --attributes FifoTopic=true", "%s keeps no order: it is no FIFO topic", a.cfg.TopicARN)
		return true
	}
	if out.Attributes["FifoThroughputScope"] == "MessageGroup" {
		s.ok("FIFO", "scope MessageGroup: up to 300 messages a second and group, duplicates dropped within a group")
	} else {
		s.ok("FIFO", "scope Topic: up to 3,000 messages a second, duplicates dropped in the whole topic")
	}
	return true
}

// subscriptions are the ARNs of the topic's SQS subscriptions, by the queue's.
func (a awsExamination) subscriptions(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	byQueue := map[string]string{}
	pages := sns.NewListSubscriptionsByTopicPaginator(a.cfg.SNS, &sns.ListSubscriptionsByTopicInput{TopicArn: aws.String(a.cfg.TopicARN)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the subscriptions: %w", err)
		}
		for _, s := range page.Subscriptions {
			if aws.ToString(s.Protocol) == "sqs" {
				byQueue[aws.ToString(s.Endpoint)] = aws.ToString(s.SubscriptionArn)
			}
		}
	}
	return byQueue, nil
}

// consumerARNs are a consumer's queues.
type consumerARNs struct{ queue, dlq, subscriptionDLQ string }

// queues checks a consumer's three queues.
func (a awsExamination) queues(ctx context.Context, s subject, consumer string) (consumerARNs, bool) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var arns consumerARNs
	attributes := map[string]map[string]string{}
	for name, arn := range map[string]*string{
		schema.QueueName(consumer): &arns.queue, schema.DLQName(consumer): &arns.dlq, schema.SubscriptionDLQName(consumer): &arns.subscriptionDLQ,
	} {
		found, err := a.queueAttributes(ctx, name)
		var none *types.QueueDoesNotExist
		switch {
		case errors.As(err, &none):
			s.fail("queues", "terraform apply in deployments/terraform", "queue %s does not exist in this account and region", name)
			return arns, false
		case err != nil:
			s.unknown("queues", fmt.Errorf("look at queue %s: %w", name, err))
			return arns, false
		}
		*arn, attributes[name] = found["QueueArn"], found
	}
	queue, subDLQ := attributes[schema.QueueName(consumer)], attributes[schema.SubscriptionDLQName(consumer)]
	s.ok("queues", "%s and two dead-letter queues", schema.QueueName(consumer))
	for _, name := range []string{schema.QueueName(consumer), schema.DLQName(consumer), schema.SubscriptionDLQName(consumer)} {
		if kept := attributes[name]["MessageRetentionPeriod"]; kept != longest {
			s.warn("retention", setQueue(attributes[name], "MessageRetentionPeriod", longest), "%s forgets messages after %s s, and should after 14 days", name, kept)
		}
	}
	a.receiveCount(s, queue, arns)
	a.policy(s, "policy", queue)
	a.policy(s, "policy of "+schema.SubscriptionDLQName(consumer), subDLQ)
	return arns, true
}

func (a awsExamination) queueAttributes(ctx context.Context, name string) (map[string]string, error) {
	url, err := a.cfg.SQS.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String(name)})
	if err != nil {
		return nil, err
	}
	out, err := a.cfg.SQS.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: url.QueueUrl, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
	if err != nil {
		return nil, err
	}
	out.Attributes["QueueUrl"] = aws.ToString(url.QueueUrl)
	return out.Attributes, nil
}

// setQueue is the command that sets an attribute of a queue.
func setQueue(attributes map[string]string, name, value string) string {
	text, err := json.Marshal(map[string]string{name: value})
	if err != nil {
		panic(err) // text always encodes
	}
	return fmt.Sprintf("aws sqs set-queue-attributes --queue-url %s --attributes '%s'", attributes["QueueUrl"], text)
}

// receiveCount holds the queue's own limit against the consumer's: successors of a
// failing head are received without being tried.
func (a awsExamination) receiveCount(s subject, queue map[string]string, arns consumerARNs) {
	var redrive struct {
		DeadLetterTargetArn string
		MaxReceiveCount     json.RawMessage // a number, or one as text
	}
	_ = json.Unmarshal([]byte(queue["RedrivePolicy"]), &redrive) // none leaves it empty
	limit, _ := strconv.Atoi(strings.Trim(string(redrive.MaxReceiveCount), `"`))
	wanted, _ := json.Marshal(map[string]string{"deadLetterTargetArn": arns.dlq, "maxReceiveCount": strconv.Itoa(schema.MaxReceiveCount)})
	mend := setQueue(queue, "RedrivePolicy", string(wanted))
	switch {
	case redrive.DeadLetterTargetArn != arns.dlq:
		s.fail("dead letters", mend, "the queue's messages go to %q, not to its dead-letter queue", redrive.DeadLetterTargetArn)
	case limit <= a.cfg.WorkerAttempts:
		s.fail("dead letters", mend, "maxReceiveCount is %d, and the worker tries %d times: events that wait behind a failing one die untried", limit, a.cfg.WorkerAttempts)
	case limit < schema.MaxReceiveCount:
		s.warn("dead letters", mend, "maxReceiveCount is %d, and should be %d: events that wait long behind a failing one may die untried", limit, schema.MaxReceiveCount)
	default:
		s.ok("dead letters", "after %d receives, the worker gives up after %d tries", limit, a.cfg.WorkerAttempts)
	}
}

// policy checks that the topic, and not everybody, may send to a queue.
func (a awsExamination) policy(s subject, name string, queue map[string]string) {
	wanted, _ := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
		"Effect": "Allow", "Principal": map[string]string{"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": queue["QueueArn"],
		"Condition": map[string]any{"ArnEquals": map[string]string{"aws:SourceArn": a.cfg.TopicARN}},
	}}})
	switch allowed, anybody := policyAllows(queue["Policy"], a.cfg.TopicARN); {
	case !allowed:
		s.fail(name, setQueue(queue, "Policy", string(wanted)), "the topic may not send to it: nothing arrives")
	case anybody:
		s.warn(name, setQueue(queue, "Policy", string(wanted)), "any topic may send to it")
	default:
		s.ok(name, "the topic may send to it")
	}
}

// subscription checks how a consumer's queue is subscribed.
func (a awsExamination) subscription(ctx context.Context, s subject, in schema.Interest, arns consumerARNs, arn string) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if !strings.HasPrefix(arn, "arn:") { // "PendingConfirmation" is none either
		s.fail("subscription", fmt.Sprintf(`aws sns subscribe --topic-arn %s --protocol sqs --notification-endpoint %s --attributes '{"RawMessageDelivery":"%t"}', then run this again`,
			a.cfg.TopicARN, arns.queue, in.Raw), "its queue is not subscribed to the topic: nothing arrives")
		return
	}
	out, err := a.cfg.SNS.GetSubscriptionAttributes(ctx, &sns.GetSubscriptionAttributesInput{SubscriptionArn: aws.String(arn)})
	if err != nil {
		s.unknown("subscription", err)
		return
	}
	set := func(name, value string) string {
		return fmt.Sprintf("aws sns set-subscription-attributes --subscription-arn %s --attribute-name %s --attribute-value '%s'", arn, name, value)
	}
	fine := true
	if !sameJSON(out.Attributes["FilterPolicy"], in.FilterPolicy()) {
		fine = false
		s.fail("filter policy", set("FilterPolicy", in.FilterPolicy()), "it is %s: events that the consumer wants are hidden from it, or others are sent to it", orNone(out.Attributes["FilterPolicy"]))
	}
	if scope := out.Attributes["FilterPolicyScope"]; scope != "" && scope != "MessageAttributes" {
		fine = false
		s.fail("filter policy", set("FilterPolicyScope", "MessageAttributes"), "its scope is %s, and it is about attributes", scope)
	}
	if out.Attributes["RawMessageDelivery"] != strconv.FormatBool(in.Raw) {
		fine = false
		why := "raw delivery is off: the consumer understands that, others may not"
		if !in.Raw {
			why = "raw delivery is on: an existing Lambda reads the SNS envelope"
		}
		s.warn("raw delivery", set("RawMessageDelivery", strconv.FormatBool(in.Raw)), "%s", why)
	}
	var redrive struct{ DeadLetterTargetArn string }
	_ = json.Unmarshal([]byte(out.Attributes["RedrivePolicy"]), &redrive) // none leaves it empty
	if redrive.DeadLetterTargetArn != arns.subscriptionDLQ {
		fine = false
		s.fail("undeliverable", set("RedrivePolicy", `{"deadLetterTargetArn":"`+arns.subscriptionDLQ+`"}`), "what SNS cannot deliver is thrown away, not kept in %s", schema.SubscriptionDLQName(in.Consumer))
	}
	if fine {
		s.ok("subscription", "filter policy, raw delivery (an event has at most %d attributes, with a replay %d, and raw delivery takes 10) and dead letters as they should be", schema.MaxAttributes, schema.MaxAttributes+1)
	}
}
