package topology

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/restock-dev/restock/schema"
)

// Attributes of every queue.
const (
	// Retention is the longest that SQS keeps a message.
	// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
	Retention = 14 * 24 * time.Hour
	// VisibilityTimeout is how long a message of a worker that died stays hidden;
	// a living worker renews it.
	VisibilityTimeout = 60 * time.Second
)

// Topology is the topic and the consumers' queues.
type Topology struct {
	TopicARN string
	Queues   map[string]Queue // by consumer
}

// Queue is one consumer's queue with the queues that stand behind it.
type Queue struct {
	URL, ARN           string
	DLQURL             string
	SubscriptionDLQURL string
}

// Create makes the topic, and a queue with a subscription for each interest.
func Create(ctx context.Context, topics *sns.Client, queues *sqs.Client, interests []schema.Interest) (Topology, error) {
	topic, err := topics.CreateTopic(ctx, &sns.CreateTopicInput{
		Name:       aws.String(schema.Topic),
		Attributes: map[string]string{"FifoTopic": "true"},
	})
	if err != nil {
		return Topology{}, fmt.Errorf("create topic %s: %w", schema.Topic, err)
	}
	t := Topology{TopicARN: aws.ToString(topic.TopicArn), Queues: make(map[string]Queue, len(interests))}
	subscribed, err := subscriptions(ctx, topics, t.TopicARN)
	if err != nil {
		return Topology{}, err
	}
	for _, in := range interests {
		q, err := createQueue(ctx, queues, t.TopicARN, in.Consumer)
		if err != nil {
			return Topology{}, err
		}
		t.Queues[in.Consumer] = q.Queue
		if err := subscribe(ctx, topics, t.TopicARN, subscribed[q.ARN], q, in); err != nil {
			return Topology{}, err
		}
	}
	return t, nil
}

type createdQueue struct {
	Queue
	subscriptionDLQARN string
}

// createQueue makes a consumer's three queues, those behind first, because a
// redrive policy names a queue that exists.
func createQueue(ctx context.Context, client *sqs.Client, topicARN, consumer string) (createdQueue, error) {
	fromTopic := allowTopic(topicARN)
	dlqURL, dlqARN, err := ensureQueue(ctx, client, schema.DLQName(consumer), nil)
	if err != nil {
		return createdQueue{}, err
	}
	subURL, subARN, err := ensureQueue(ctx, client, schema.SubscriptionDLQName(consumer), map[string]string{"Policy": fromTopic})
	if err != nil {
		return createdQueue{}, err
	}
	url, arn, err := ensureQueue(ctx, client, schema.QueueName(consumer), map[string]string{
		"Policy":            fromTopic,
		"VisibilityTimeout": seconds(VisibilityTimeout),
		"RedrivePolicy": toJSON(map[string]any{
			"deadLetterTargetArn": dlqARN,
			"maxReceiveCount":     strconv.Itoa(schema.MaxReceiveCount),
		}),
	})
	if err != nil {
		return createdQueue{}, err
	}
	return createdQueue{
		Queue:              Queue{URL: url, ARN: arn, DLQURL: dlqURL, SubscriptionDLQURL: subURL},
		subscriptionDLQARN: subARN,
	}, nil
}

// ensureQueue makes the queue where it is missing and then sets its attributes.
// CreateQueue refuses a queue that exists with other attributes, so it gets none
// but the one that can never change.
func ensureQueue(ctx context.Context, client *sqs.Client, name string, attributes map[string]string) (url, arn string, err error) {
	url, err = queueURL(ctx, client, name)
	if notThere(err) {
		var made *sqs.CreateQueueOutput
		made, err = client.CreateQueue(ctx, &sqs.CreateQueueInput{
			QueueName:  aws.String(name),
			Attributes: map[string]string{"FifoQueue": "true"},
		})
		if err == nil {
			url = aws.ToString(made.QueueUrl)
		}
	}
	if err != nil {
		return "", "", fmt.Errorf("create queue %s: %w", name, err)
	}
	all := map[string]string{"MessageRetentionPeriod": seconds(Retention)}
	for k, v := range attributes {
		all[k] = v
	}
	if _, err = client.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: aws.String(url), Attributes: all}); err != nil {
		return "", "", fmt.Errorf("set attributes of queue %s: %w", name, err)
	}
	arn, err = queueARN(ctx, client, url)
	return url, arn, err
}

// subscribe ties a queue to the topic. Subscribe refuses a queue that is
// subscribed with other attributes, so those of an old subscription are set.
func subscribe(ctx context.Context, client *sns.Client, topicARN, subscriptionARN string, q createdQueue, in schema.Interest) error {
	attributes := map[string]string{
		"FilterPolicy":       in.FilterPolicy(),
		"RawMessageDelivery": strconv.FormatBool(in.Raw),
		"RedrivePolicy":      toJSON(map[string]string{"deadLetterTargetArn": q.subscriptionDLQARN}),
	}
	if subscriptionARN == "" {
		_, err := client.Subscribe(ctx, &sns.SubscribeInput{
			TopicArn:              aws.String(topicARN),
			Protocol:              aws.String("sqs"),
			Endpoint:              aws.String(q.ARN),
			Attributes:            attributes,
			ReturnSubscriptionArn: true,
		})
		if err != nil {
			return fmt.Errorf("subscribe queue of %s: %w", in.Consumer, err)
		}
		return nil
	}
	for name, value := range attributes {
		_, err := client.SetSubscriptionAttributes(ctx, &sns.SetSubscriptionAttributesInput{
			SubscriptionArn: aws.String(subscriptionARN),
			AttributeName:   aws.String(name),
			AttributeValue:  aws.String(value),
		})
		if err != nil {
			return fmt.Errorf("set %s of the subscription of %s: %w", name, in.Consumer, err)
		}
	}
	return nil
}

// subscriptions returns the ARN of each SQS subscription of the topic by the ARN
// of its queue.
func subscriptions(ctx context.Context, client *sns.Client, topicARN string) (map[string]string, error) {
	byQueue := make(map[string]string)
	pages := sns.NewListSubscriptionsByTopicPaginator(client, &sns.ListSubscriptionsByTopicInput{TopicArn: aws.String(topicARN)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list subscriptions of %s: %w", topicARN, err)
		}
		for _, s := range page.Subscriptions {
			if aws.ToString(s.Protocol) == "sqs" {
				byQueue[aws.ToString(s.Endpoint)] = aws.ToString(s.SubscriptionArn)
			}
		}
	}
	return byQueue, nil
}

// FindQueue finds the queues of a consumer that Create or the deployment made.
func FindQueue(ctx context.Context, client *sqs.Client, consumer string) (Queue, error) {
	var (
		q   Queue
		err error
	)
	for name, url := range map[string]*string{
		schema.QueueName(consumer):           &q.URL,
		schema.DLQName(consumer):             &q.DLQURL,
		schema.SubscriptionDLQName(consumer): &q.SubscriptionDLQURL,
	} {
		if *url, err = queueURL(ctx, client, name); err != nil {
			if notThere(err) {
				return Queue{}, fmt.Errorf("queue %s does not exist in this account and region: check AWS_REGION and AWS_ENDPOINT_URL, or create it with deployments/terraform: %w", name, err)
			}
			return Queue{}, fmt.Errorf("find queue %s: %w", name, err)
		}
	}
	q.ARN, err = queueARN(ctx, client, q.URL)
	return q, err
}

func queueURL(ctx context.Context, client *sqs.Client, name string) (string, error) {
	out, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String(name)})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.QueueUrl), nil
}

func queueARN(ctx context.Context, client *sqs.Client, url string) (string, error) {
	out, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl:       aws.String(url),
		AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameQueueArn},
	})
	if err != nil {
		return "", fmt.Errorf("get attributes of queue %s: %w", url, err)
	}
	return out.Attributes[string(sqstypes.QueueAttributeNameQueueArn)], nil
}

func notThere(err error) bool {
	var missing *sqstypes.QueueDoesNotExist
	return errors.As(err, &missing)
}

// allowTopic is the queue policy that lets this topic, and no other, send.
// https://docs.aws.amazon.com/sns/latest/dg/subscribe-sqs-queue-to-sns-topic.html
func allowTopic(topicARN string) string {
	return toJSON(map[string]any{
		"Version": "2012-10-17",
		"Statement": []any{map[string]any{
			"Sid":       "topic",
			"Effect":    "Allow",
			"Principal": map[string]string{"Service": "sns.amazonaws.com"},
			"Action":    "sqs:SendMessage",
			"Resource":  "*",
			"Condition": map[string]any{"ArnEquals": map[string]string{"aws:SourceArn": topicARN}},
		}},
	})
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and maps of strings always encode
	}
	return string(text)
}
