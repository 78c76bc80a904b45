package relay_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// TestThrottledWhileSplit: a call that fails as a whole slows the relay down also where it
// is one of those that find out which event of a batch was rejected.
func TestThrottledWhileSplit(t *testing.T) {
	t.Parallel()
	service, err := localaws.Start(localaws.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, service.Close()) }()
	topic, err := sns.NewFromConfig(service.AWSConfig()).CreateTopic(t.Context(),
		&sns.CreateTopicInput{Name: aws.String("events.fifo"), Attributes: map[string]string{"FifoTopic": "true"}})
	require.NoError(t, err)
	publisher, err := relay.NewSNS(relay.SNSConfig{AWS: service.AWSConfig(), TopicARN: *topic.TopicArn})
	require.NoError(t, err)
	service.Faults().Add(localaws.Rule{Effect: localaws.Refuse, Service: "sns", Code: "InvalidParameter", Count: 1})
	service.Faults().Add(localaws.Rule{Effect: localaws.Throttle, Service: "sns", Group: "b"})

	var events []schema.Event
	for _, group := range []string{"a", "b", "c"} {
		events = append(events, schema.Event{ID: schema.NewID(), Group: group, Body: "{}"})
	}
	accepted, failed, throttled, err := relay.Send(t.Context(), publisher, events)
	require.NoError(t, err)
	require.Equal(t, []int{2, 1, 1}, []int{accepted, failed, throttled})
}
