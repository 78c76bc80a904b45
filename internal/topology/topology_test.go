package topology_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func clients(t *testing.T) (*sns.Client, *sqs.Client) {
	server, err := localaws.Start(localaws.Config{})
	require.NoError(t, err)
	transport := &http.Transport{}
	cfg := server.AWSConfig()
	cfg.HTTPClient = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		require.NoError(t, server.Close())
	})
	return sns.NewFromConfig(cfg), sqs.NewFromConfig(cfg)
}

func TestCreateIsIdempotent(t *testing.T) {
	t.Parallel()
	topics, queues := clients(t)
	interests := schema.Interests(schema.DefaultVIPThreshold)
	first, err := topology.Create(t.Context(), topics, queues, interests)
	require.NoError(t, err)
	require.Len(t, first.Queues, len(interests))

	// What somebody changed by hand is changed back.
	_, err = queues.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{
		QueueUrl: aws.String(first.Queues["factory"].URL), Attributes: map[string]string{"VisibilityTimeout": "5"},
	})
	require.NoError(t, err)
	again, err := topology.Create(t.Context(), topics, queues, schema.Interests(50))
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Equal(t, "60", attributes(t, queues, first.Queues["factory"].URL)["VisibilityTimeout"])

	subs, err := topics.ListSubscriptionsByTopic(t.Context(), &sns.ListSubscriptionsByTopicInput{TopicArn: aws.String(first.TopicARN)})
	require.NoError(t, err)
	require.Len(t, subs.Subscriptions, len(interests))
	for _, s := range subs.Subscriptions {
		if aws.ToString(s.Endpoint) == first.Queues["vip"].ARN {
			out, err := topics.GetSubscriptionAttributes(t.Context(), &sns.GetSubscriptionAttributesInput{SubscriptionArn: s.SubscriptionArn})
			require.NoError(t, err)
			require.JSONEq(t, `{"eventType":["order.placed"],"quantity":[{"numeric":[">=",50]}]}`, out.Attributes["FilterPolicy"])
		}
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	topics, queues := clients(t)
	made, err := topology.Create(t.Context(), topics, queues, schema.Interests(schema.DefaultVIPThreshold))
	require.NoError(t, err)
	q := made.Queues["ads"]
	got := attributes(t, queues, q.URL)
	require.Equal(t, "1209600", got["MessageRetentionPeriod"])
	require.Equal(t, "60", got["VisibilityTimeout"])
	require.Equal(t, q.ARN, got["QueueArn"])
	var redrive struct {
		DeadLetterTargetARN string `json:"deadLetterTargetArn"`
		MaxReceiveCount     json.Number
	}
	require.NoError(t, json.Unmarshal([]byte(got["RedrivePolicy"]), &redrive))
	require.Equal(t, attributes(t, queues, q.DLQURL)["QueueArn"], redrive.DeadLetterTargetARN)
	require.Equal(t, json.Number("1000"), redrive.MaxReceiveCount)
	for _, url := range []string{q.DLQURL, q.SubscriptionDLQURL} {
		require.Equal(t, "1209600", attributes(t, queues, url)["MessageRetentionPeriod"])
	}
	for _, url := range []string{q.URL, q.SubscriptionDLQURL} {
		require.Contains(t, attributes(t, queues, url)["Policy"], made.TopicARN)
	}
}

func TestEventsReachTheQueuesThatWantThem(t *testing.T) {
	t.Parallel()
	topics, queues := clients(t)
	made, err := topology.Create(t.Context(), topics, queues, schema.Interests(schema.DefaultVIPThreshold))
	require.NoError(t, err)
	publish := func(id, eventType string) {
		_, err := topics.Publish(t.Context(), &sns.PublishInput{
			TopicArn: aws.String(made.TopicARN), Message: aws.String(`{"hello":"` + id + `"}`),
			MessageGroupId: aws.String("g"), MessageDeduplicationId: aws.String(id),
			MessageAttributes: map[string]snstypes.MessageAttributeValue{"eventType": {DataType: aws.String("String"), StringValue: aws.String(eventType)}},
		})
		require.NoError(t, err)
	}
	publish("1", schema.TypeReplenishmentRequested)
	publish("2", schema.TypeStockReplenished)

	require.Equal(t, []string{`{"hello":"1"}`, `{"hello":"2"}`}, receive(t, queues, made.Queues["ads"].URL), "raw")
	enveloped := receive(t, queues, made.Queues["factory"].URL)
	require.Len(t, enveloped, 1)
	var envelope struct{ Message string }
	require.NoError(t, json.Unmarshal([]byte(enveloped[0]), &envelope))
	require.Equal(t, `{"hello":"1"}`, envelope.Message)
	require.Empty(t, receive(t, queues, made.Queues["vip"].URL))
}

func TestFindQueue(t *testing.T) {
	t.Parallel()
	topics, queues := clients(t)
	_, err := topology.FindQueue(t.Context(), queues, "factory")
	require.ErrorContains(t, err, "does not exist in this account and region: check AWS_REGION")
	made, err := topology.Create(t.Context(), topics, queues, schema.Interests(schema.DefaultVIPThreshold))
	require.NoError(t, err)
	found, err := topology.FindQueue(t.Context(), queues, "factory")
	require.NoError(t, err)
	require.Equal(t, made.Queues["factory"], found)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = topology.FindQueue(ctx, queues, "factory")
	require.ErrorIs(t, err, context.Canceled)
}

func attributes(t *testing.T, client *sqs.Client, url string) map[string]string {
	t.Helper()
	out, err := client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(url), AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll},
	})
	require.NoError(t, err)
	return out.Attributes
}

func receive(t *testing.T, client *sqs.Client, url string) []string {
	t.Helper()
	out, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: aws.String(url), MaxNumberOfMessages: 10})
	require.NoError(t, err)
	bodies := make([]string, len(out.Messages))
	for i, m := range out.Messages {
		bodies[i] = aws.ToString(m.Body)
	}
	return bodies
}
