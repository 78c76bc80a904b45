package localaws_test

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/stretchr/testify/require"
)

func topicSuite() map[string]func(T, *env) {
	return map[string]func(T, *env){
		"topic/create again":             topicCreateAgain,
		"topic/create differently":       topicCreateDifferently,
		"topic/fifo needs its suffix":    topicSuffix,
		"topic/attributes":               topicAttributes,
		"topic/unknown attribute":        topicUnknownAttribute,
		"topic/tags":                     topicTags,
		"topic/delete twice":             topicDeleteTwice,
		"topic/list":                     topicList,
		"subscription/again":             subscribeAgain,
		"subscription/again differently": subscribeDifferently,
		"subscription/attributes":        subscriptionAttributes,
		"subscription/fifo to standard":  subscribeStandardTopic,
		"subscription/unsubscribe":       unsubscribe,
		"subscription/bad protocol":      subscribeBadProtocol,
		"subscription/missing":           subscriptionMissing,
	}
}

func topicCreateAgain(t T, e *env) {
	topic := e.topic(nil)
	again, err := e.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: &topic.name, Attributes: attrs{"FifoTopic": "true"}})
	require.NoError(t, err)
	require.Equal(t, topic.arn, *again.TopicArn)
}

func topicCreateDifferently(t T, e *env) {
	topic := e.topic(nil)
	_, err := e.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: &topic.name, Attributes: attrs{"FifoTopic": "true", "ContentBasedDeduplication": "true"}})
	requireInvalid(t, err)
}

func requireInvalid(t T, err error) {
	t.Helper()
	var invalid *snstypes.InvalidParameterException
	require.ErrorAs(t, err, &invalid)
}

func requireNotFound(t T, err error) {
	t.Helper()
	var missing *snstypes.NotFoundException
	require.ErrorAs(t, err, &missing)
}

func topicSuffix(t T, e *env) {
	for name, fifo := range map[string]string{unique("topic"): "true", unique("topic") + ".fifo": "false", "a b.fifo": "true"} {
		_, err := e.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: &name, Attributes: attrs{"FifoTopic": fifo}})
		requireInvalid(t, err)
	}
}

func topicAttributes(t T, e *env) {
	topic := e.topic(nil)
	get := func() attrs {
		out, err := e.sns.GetTopicAttributes(t.Context(), &sns.GetTopicAttributesInput{TopicArn: &topic.arn})
		require.NoError(t, err)
		return out.Attributes
	}
	before := get()
	require.Equal(t, topic.arn, before["TopicArn"])
	require.Equal(t, "true", before["FifoTopic"])
	require.Equal(t, "false", before["ContentBasedDeduplication"])
	require.Equal(t, "0", before["SubscriptionsConfirmed"])
	_, err := e.sns.SetTopicAttributes(t.Context(), &sns.SetTopicAttributesInput{TopicArn: &topic.arn, AttributeName: aws.String("ContentBasedDeduplication"), AttributeValue: aws.String("true")})
	require.NoError(t, err)
	require.Equal(t, "true", get()["ContentBasedDeduplication"])
}

func topicUnknownAttribute(t T, e *env) {
	topic := e.topic(nil)
	_, err := e.sns.SetTopicAttributes(t.Context(), &sns.SetTopicAttributesInput{TopicArn: &topic.arn, AttributeName: aws.String("Nonsense"), AttributeValue: aws.String("1")})
	requireInvalid(t, err)
}

func topicTags(t T, e *env) {
	topic := e.topic(nil)
	_, err := e.sns.TagResource(t.Context(), &sns.TagResourceInput{ResourceArn: &topic.arn, Tags: []snstypes.Tag{{Key: aws.String("team"), Value: aws.String("shop")}}})
	require.NoError(t, err)
	out, err := e.sns.ListTagsForResource(t.Context(), &sns.ListTagsForResourceInput{ResourceArn: &topic.arn})
	require.NoError(t, err)
	require.Len(t, out.Tags, 1)
	require.Equal(t, "shop", *out.Tags[0].Value)
	_, err = e.sns.UntagResource(t.Context(), &sns.UntagResourceInput{ResourceArn: &topic.arn, TagKeys: []string{"team"}})
	require.NoError(t, err)
	out, err = e.sns.ListTagsForResource(t.Context(), &sns.ListTagsForResourceInput{ResourceArn: &topic.arn})
	require.NoError(t, err)
	require.Empty(t, out.Tags)
}

func topicDeleteTwice(t T, e *env) {
	topic := e.topic(nil)
	for range 2 {
		_, err := e.sns.DeleteTopic(t.Context(), &sns.DeleteTopicInput{TopicArn: &topic.arn})
		require.NoError(t, err)
	}
	_, err := e.sns.GetTopicAttributes(t.Context(), &sns.GetTopicAttributesInput{TopicArn: &topic.arn})
	requireNotFound(t, err)
	_, err = e.tryPublish(topic, "hello")
	requireNotFound(t, err)
}

func topicList(t T, e *env) {
	topic := e.topic(nil)
	found := false
	for pages := sns.NewListTopicsPaginator(e.sns, &sns.ListTopicsInput{}); pages.HasMorePages(); {
		out, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, other := range out.Topics {
			found = found || *other.TopicArn == topic.arn
		}
	}
	require.True(t, found)
}

func subscribeAgain(t T, e *env) {
	topic, q := e.topic(nil), e.queue(nil)
	first := e.subscribe(topic, q, attrs{"RawMessageDelivery": "true"})
	require.True(t, strings.HasPrefix(first, topic.arn+":"))
	require.Equal(t, first, e.subscribe(topic, q, attrs{"RawMessageDelivery": "true"}))
	out, err := e.sns.ListSubscriptionsByTopic(t.Context(), &sns.ListSubscriptionsByTopicInput{TopicArn: &topic.arn})
	require.NoError(t, err)
	require.Len(t, out.Subscriptions, 1)
	require.Equal(t, q.arn, *out.Subscriptions[0].Endpoint)
	require.Equal(t, "sqs", *out.Subscriptions[0].Protocol)
}

func subscribeDifferently(t T, e *env) {
	topic, q := e.topic(nil), e.queue(nil)
	e.subscribe(topic, q, attrs{"RawMessageDelivery": "true"})
	_, err := e.trySubscribe(topic, q, attrs{"RawMessageDelivery": "false"})
	requireInvalid(t, err)
}

func subscriptionAttributes(t T, e *env) {
	topic, q := e.topic(nil), e.queue(nil)
	arn := e.subscribe(topic, q, attrs{"FilterPolicy": `{"a":["b"]}`})
	_, err := e.sns.SetSubscriptionAttributes(t.Context(), &sns.SetSubscriptionAttributesInput{SubscriptionArn: &arn, AttributeName: aws.String("RawMessageDelivery"), AttributeValue: aws.String("true")})
	require.NoError(t, err)
	out, err := e.sns.GetSubscriptionAttributes(t.Context(), &sns.GetSubscriptionAttributesInput{SubscriptionArn: &arn})
	require.NoError(t, err)
	require.Equal(t, "true", out.Attributes["RawMessageDelivery"])
	require.JSONEq(t, `{"a":["b"]}`, out.Attributes["FilterPolicy"])
	require.Equal(t, q.arn, out.Attributes["Endpoint"])
	require.Equal(t, topic.arn, out.Attributes["TopicArn"])
}

func subscribeStandardTopic(t T, e *env) {
	name := unique("topic")
	out, err := e.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: &name})
	require.NoError(t, err)
	topic := topicRef{name: name, arn: *out.TopicArn}
	t.Cleanup(func() { _, _ = e.sns.DeleteTopic(t.Context(), &sns.DeleteTopicInput{TopicArn: out.TopicArn}) })
	_, err = e.trySubscribe(topic, e.queue(nil), nil)
	requireInvalid(t, err)
}

func unsubscribe(t T, e *env) {
	topic, q := e.topic(nil), e.queue(nil)
	arn := e.subscribe(topic, q, nil)
	_, err := e.sns.Unsubscribe(t.Context(), &sns.UnsubscribeInput{SubscriptionArn: &arn})
	require.NoError(t, err)
	e.publish(topic, "hello")
	e.nothing(q)
}

func subscribeBadProtocol(t T, e *env) {
	topic := e.topic(nil)
	_, err := e.sns.Subscribe(t.Context(), &sns.SubscribeInput{TopicArn: &topic.arn, Protocol: aws.String("pigeon"), Endpoint: aws.String("coop")})
	requireInvalid(t, err)
}

func subscriptionMissing(t T, e *env) {
	arn := e.topic(nil).arn + ":00000000-0000-0000-0000-000000000000"
	_, err := e.sns.GetSubscriptionAttributes(t.Context(), &sns.GetSubscriptionAttributesInput{SubscriptionArn: &arn})
	requireNotFound(t, err)
}
