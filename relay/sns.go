package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/internal/awshttp"
	"github.com/restock-dev/restock/internal/tracing"
	"github.com/restock-dev/restock/schema"
)

// snsCallTimeout bounds one PublishBatch, connection included. A call that runs
// into it may have been accepted, and is repeated with the same ids.
const snsCallTimeout = 15 * time.Second

// SNSConfig is what NewSNS needs.
type SNSConfig struct {
	// AWS is where SNS is and as whom to call it.
	AWS aws.Config
	// TopicARN names the topic, which must be FIFO.
	TopicARN string
	// Conns is how many idle connections are kept: as many as calls may be under
	// way at once. Default 16.
	Conns int
	// StockSDK leaves it to the SDK to write requests and to read answers. That
	// costs about twice the processor time; it is a way out should SNS's protocol
	// change.
	StockSDK bool
	// Tracing makes a span of each event's publishing, in the trace of the event, and
	// one of each call. Default none.
	Tracing trace.TracerProvider
}

// SNS publishes to one SNS FIFO topic.
type SNS struct {
	client *sns.Client
	topic  string

	tracer     trace.Tracer // nil makes no spans
	attributes []attribute.KeyValue
}

// NewSNS returns a publisher to a topic, of which only the name is checked. The
// SDK's own retries are off, because the relay's lanes are the one retry layer.
func NewSNS(cfg SNSConfig) (*SNS, error) {
	if !strings.HasPrefix(cfg.TopicARN, "arn:") || !strings.HasSuffix(cfg.TopicARN, ".fifo") {
		return nil, fmt.Errorf("%q is not the ARN of a FIFO topic: it starts with arn: and ends with .fifo", cfg.TopicARN)
	}
	client := sns.NewFromConfig(cfg.AWS, func(o *sns.Options) {
		o.Retryer = aws.NopRetryer{}
		o.HTTPClient = awshttp.Wrap(cfg.AWS.HTTPClient, cmp.Or(cfg.Conns, 16))
		if !cfg.StockSDK {
			o.APIOptions = append(o.APIOptions, lightPublishBatch)
		}
	})
	return &SNS{client: client, topic: cfg.TopicARN, tracer: tracing.Tracer(cfg.Tracing), attributes: messagingAttributes(cfg.TopicARN)}, nil
}

// lightPublishBatch exchanges, in the SDK's stack of middleware, the two parts
// that cost the most. Endpoint, credentials, signature and errors stay the SDK's.
func lightPublishBatch(stack *middleware.Stack) error {
	serializer, written := stack.Serialize.Get("OperationSerializer")
	deserializer, read := stack.Deserialize.Get("OperationDeserializer")
	if !written || !read {
		return errors.New("the SDK's parts have other names: use its own (StockSDK)")
	}
	_, serr := stack.Serialize.Swap(serializer.ID(), batchWriter{serializer})
	_, derr := stack.Deserialize.Swap(deserializer.ID(), answerReader{deserializer})
	return errors.Join(serr, derr)
}

// Publish implements Publisher with one PublishBatch.
func (s *SNS) Publish(ctx context.Context, events []schema.Event) ([]Result, error) {
	spans := s.beginSpans(events)
	results, err := s.publish(ctx, events)
	spans.end(results, err)
	return results, err
}

func (s *SNS) publish(ctx context.Context, events []schema.Event) ([]Result, error) {
	ctx, cancel := context.WithTimeout(ctx, snsCallTimeout)
	defer cancel()
	entries := snsEntries(events)
	out, err := s.client.PublishBatch(ctx, &sns.PublishBatchInput{
		TopicArn: &s.topic, PublishBatchRequestEntries: entries,
	})
	if err != nil {
		return nil, fmt.Errorf("publish a batch of %d: %w", len(events), classify(err))
	}
	return snsResults(len(events), out), nil
}

func snsEntries(events []schema.Event) []types.PublishBatchRequestEntry {
	n := 0
	for _, e := range events {
		n += 7 + 2*len(e.Attributes) // a replay's attribute included
	}
	p := make(pointers, 0, n)
	entries := make([]types.PublishBatchRequestEntry, len(events))
	for i, e := range events {
		entries[i] = snsEntry(&p, i, e)
	}
	return entries
}

func snsEntry(p *pointers, i int, e schema.Event) types.PublishBatchRequestEntry {
	entry := types.PublishBatchRequestEntry{
		Id:                     p.to(strconv.Itoa(i)),
		Message:                p.to(e.Body),
		MessageGroupId:         p.to(e.Group),
		MessageDeduplicationId: p.to(e.DeduplicationID()),
		MessageAttributes:      make(map[string]types.MessageAttributeValue, len(e.Attributes)+1),
	}
	if e.Subject != "" {
		entry.Subject = p.to(e.Subject)
	}
	for name, a := range e.Attributes {
		entry.MessageAttributes[name] = types.MessageAttributeValue{DataType: p.to(a.Type), StringValue: p.to(a.Value)}
	}
	if e.Replay.ID != uuid.Nil {
		entry.MessageAttributes[schema.ReplayAttribute] = types.MessageAttributeValue{DataType: p.to("String"), StringValue: p.to(e.Replay.String())}
	}
	return entry
}

// pointers are the strings of a call, which the SDK wants pointers to: one piece
// of memory for them all.
type pointers []string

func (p *pointers) to(s string) *string {
	*p = append(*p, s)
	return &(*p)[len(*p)-1]
}

// errNotAnswered is an entry that SNS's answer does not mention.
var errNotAnswered = errors.New("the answer does not mention the entry")

func snsResults(n int, out *sns.PublishBatchOutput) []Result {
	results := make([]Result, n)
	for i := range results {
		results[i].Err = errNotAnswered
	}
	set := func(id *string, r Result) {
		if i, err := strconv.Atoi(aws.ToString(id)); err == nil && i >= 0 && i < n {
			results[i] = r
		}
	}
	for _, ok := range out.Successful {
		set(ok.Id, Result{MessageID: aws.ToString(ok.MessageId), SequenceNumber: aws.ToString(ok.SequenceNumber)})
	}
	for _, bad := range out.Failed {
		code, message := aws.ToString(bad.Code), aws.ToString(bad.Message)
		set(bad.Id, Result{
			Err:       fmt.Errorf("%s: %s", code, message),
			Permanent: bad.SenderFault && forContent(code, message),
			Throttled: awshttp.Throttled(code),
		})
	}
	return results
}

// rejections are the errors by which SNS refuses a request, or an entry of one, for
// what is in it. All others say nothing about the event, whoever's fault SNS says that
// they are: who may publish, to what, with which key, how fast. Somebody mends those,
// and then the event goes.
// https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html#API_PublishBatch_Errors
var rejections = []string{
	"InvalidParameter", "InvalidParameterException", "ParameterValueInvalid", "InvalidParameterValue",
	"InvalidParameterValueException", "MissingParameter", "ValidationError", "ValidationException",
	"BatchRequestTooLong", "BatchRequestTooLongException", "MessageTooLong", "InvalidBatchEntryId",
	"InvalidBatchEntryIdException", "MalformedInput", "InvalidMessageContents",
}

// forContent tells whether an error is for what is in an event. A topic that is no
// topic is answered with the same code, and is nobody's event's fault.
func forContent(code, message string) bool {
	return slices.Contains(rejections, code) && !strings.Contains(message, "TopicArn")
}

// classify marks the errors that an event in the request caused.
func classify(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) && forContent(api.ErrorCode(), api.ErrorMessage()) {
		return &RejectedError{Err: err}
	}
	return err
}
