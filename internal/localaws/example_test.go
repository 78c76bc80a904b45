package localaws_test

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/restock-dev/restock/internal/localaws"
)

func Example() {
	server, err := localaws.Start(localaws.Config{})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	topics := sns.NewFromConfig(server.AWSConfig())
	out, err := topics.CreateTopic(context.Background(), &sns.CreateTopicInput{
		Name: aws.String("events.fifo"), Attributes: map[string]string{"FifoTopic": "true"},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(*out.TopicArn)
	// Output: arn:aws:sns:ap-northeast-2:000000000000:events.fifo
}

func ExampleFaults_Add() {
	server, err := localaws.Start(localaws.Config{})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	faults := server.Faults()
	// The next batch is accepted, but its answer is lost.
	faults.Add(localaws.Rule{Effect: localaws.DropAnswer, Service: "sns", Action: "PublishBatch", Count: 1})
	// Everything of one message group is refused for good.
	faults.Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Group: "CP-502101", SenderFault: true})
	// One topic is throttled until the rule is removed.
	throttled := faults.Add(localaws.Rule{Effect: localaws.Throttle, Resource: "events.fifo"})
	faults.Remove(throttled)
	fmt.Println(len(faults.Rules()))
	// Output: 2
}
