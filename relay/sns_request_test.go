package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const testTopic = "arn:aws:sns:eu-west-1:123456789012:events.fifo"

// transport stands for the network.
type transport func(*http.Request) (*http.Response, error)

func (t transport) Do(r *http.Request) (*http.Response, error) { return t(r) }

func testConfig(do aws.HTTPClient) aws.Config {
	return aws.Config{
		Region: "eu-west-1", HTTPClient: do, BaseEndpoint: aws.String("http://sns.test/base/"),
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	}
}

func testSNS(t require.TestingT, stock bool, do transport) *SNS {
	s, err := NewSNS(SNSConfig{AWS: testConfig(do), TopicARN: testTopic, StockSDK: stock})
	require.NoError(t, err)
	return s
}

// sent is the request that PublishBatch makes, and its body.
func sent(t require.TestingT, stock bool, in *sns.PublishBatchInput) (request *http.Request, body string) {
	s := testSNS(t, stock, func(r *http.Request) (*http.Response, error) {
		read, err := io.ReadAll(r.Body)
		request, body = r, string(read)
		return nil, errors.Join(err, io.ErrClosedPipe)
	})
	_, err := s.client.PublishBatch(context.Background(), in)
	require.ErrorIs(t, err, io.ErrClosedPipe)
	return request, body
}

var (
	anyText = rapid.OneOf(
		rapid.String(),
		rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) }),
		rapid.SampledFrom([]string{"", " ", "a b+c%20&d=e;f", "~-_.!*'()", "도너츠 \U0001F369", `{"a":"<&>"}`, "\x00\xff\r\n"}),
	)
	anyAttribute = rapid.Custom(func(t *rapid.T) types.MessageAttributeValue {
		return types.MessageAttributeValue{
			DataType:    aws.String(rapid.OneOf(rapid.SampledFrom([]string{"String", "Number", "Binary"}), anyText).Draw(t, "type")),
			StringValue: optional(t, "value"),
			BinaryValue: rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOf(rapid.Byte())).Draw(t, "binary"),
		}
	})
	anyEntry = rapid.Custom(func(t *rapid.T) types.PublishBatchRequestEntry {
		return types.PublishBatchRequestEntry{
			Id: aws.String(anyText.Draw(t, "id")), Message: aws.String(anyText.Draw(t, "message")),
			MessageAttributes: rapid.OneOf(
				rapid.Just(map[string]types.MessageAttributeValue(nil)), rapid.MapOfN(anyText, anyAttribute, 0, 12)).Draw(t, "attributes"),
			MessageDeduplicationId: optional(t, "deduplication id"), MessageGroupId: optional(t, "group"),
			MessageStructure: optional(t, "structure"), Subject: optional(t, "subject"),
		}
	})
)

func optional(t *rapid.T, label string) *string {
	if rapid.Bool().Draw(t, "has "+label) {
		return aws.String(anyText.Draw(t, label))
	}
	return nil
}

// TestRequestIsTheSDKs: whatever is published, the request says the same as the one
// that the SDK makes by itself.
func TestRequestIsTheSDKs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := &sns.PublishBatchInput{
			TopicArn:                   aws.String(anyText.Draw(t, "topic")),
			PublishBatchRequestEntries: append([]types.PublishBatchRequestEntry{}, rapid.SliceOfN(anyEntry, 0, 12).Draw(t, "entries")...),
		}
		want, wantBody := sent(t, true, in)
		got, gotBody := sent(t, false, in)
		require.Equal(t, parsed(t, wantBody), parsed(t, gotBody))
		require.Len(t, gotBody, int(got.ContentLength))
		require.Equal(t, want.Method+" "+want.URL.String(), got.Method+" "+got.URL.String())
		require.NotEmpty(t, got.Header.Get("Authorization"))
		for _, own := range []string{"Authorization", "X-Amz-Date", "Amz-Sdk-Invocation-Id"} {
			want.Header.Del(own)
			got.Header.Del(own)
		}
		require.Equal(t, want.Header, got.Header)
	})
}

func parsed(t require.TestingT, body string) url.Values {
	values, err := url.ParseQuery(body)
	require.NoError(t, err)
	return values
}

// TestFieldsAreKnown fails when the SDK learns a parameter that form does not write:
// nothing else would tell, the parameter would only not arrive. Add it to form, to
// anyEntry, and here.
func TestFieldsAreKnown(t *testing.T) {
	t.Parallel()
	known := map[reflect.Type]string{
		reflect.TypeFor[sns.PublishBatchInput](): "PublishBatchRequestEntries []types.PublishBatchRequestEntry, TopicArn *string",
		reflect.TypeFor[types.PublishBatchRequestEntry](): "Id *string, Message *string, MessageAttributes map[string]types.MessageAttributeValue, " +
			"MessageDeduplicationId *string, MessageGroupId *string, MessageStructure *string, Subject *string",
		reflect.TypeFor[types.MessageAttributeValue](): "DataType *string, BinaryValue []uint8, StringValue *string",
	}
	for of, want := range known {
		var fields []string
		for _, f := range reflect.VisibleFields(of) {
			if f.IsExported() {
				fields = append(fields, f.Name+" "+f.Type.String())
			}
		}
		require.Equal(t, want, strings.Join(fields, ", "), of)
	}
}

func batchOf(message string) *sns.PublishBatchInput {
	return &sns.PublishBatchInput{TopicArn: aws.String(testTopic), PublishBatchRequestEntries: []types.PublishBatchRequestEntry{
		{Id: aws.String("0"), Message: &message}, {Id: aws.String("1"), Message: &message},
	}}
}

// TestRequestIsSentAgain: where the SDK's retries are on, each of them sends all.
func TestRequestIsSentAgain(t *testing.T) {
	t.Parallel()
	var bodies []string
	cfg := testConfig(transport(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		bodies = append(bodies, string(body))
		return nil, errors.Join(err, io.ErrUnexpectedEOF)
	}))
	client := sns.NewFromConfig(cfg, func(o *sns.Options) {
		o.APIOptions = append(o.APIOptions, lightPublishBatch)
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = 3
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		})
	})
	_, err := client.PublishBatch(t.Context(), batchOf("hello"))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Len(t, bodies, 3)
	require.Equal(t, "hello", parsed(t, bodies[0]).Get("PublishBatchRequestEntries.member.2.Message"))
	require.Equal(t, []string{bodies[0], bodies[0]}, bodies[1:])
}

// TestBodyIsNobodyElses: a body that the transport still reads is not written to by
// the next call.
func TestBodyIsNobodyElses(t *testing.T) {
	t.Parallel()
	head := "Action=PublishBatch&Version=2010-03-31"
	first, err := batchBody(strings.NewReader(head), batchOf("first"))
	require.NoError(t, err)
	kept := bytes.Clone(first)
	for range 10 {
		_, err = batchBody(strings.NewReader(head), batchOf("other"))
		require.NoError(t, err)
	}
	require.Equal(t, string(kept), string(first))
}

// TestCallsThatEndEarly: calls that are cancelled, and answers that come before the
// request is sent, leave no call with another one's request.
func TestCallsThatEndEarly(t *testing.T) {
	t.Parallel()
	var served, whole atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1)%3 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the call was cancelled
		}
		whole.Add(1)
		form, err := url.ParseQuery(string(body))
		if err != nil {
			t.Error(err)
		}
		message := form.Get("PublishBatchRequestEntries.member.1.Message")
		if message == "" || strings.Trim(message, message[:1]) != "" || form.Get("PublishBatchRequestEntries.member.2.Message") != message {
			t.Error("a request of more than one call")
		}
		_, _ = io.WriteString(w, usualAnswer)
	}))
	defer server.Close()
	s, err := NewSNS(SNSConfig{TopicARN: testTopic, AWS: aws.Config{
		Region: "eu-west-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	}})
	require.NoError(t, err)
	var group sync.WaitGroup
	for _, letter := range "abcdefgh" {
		in := batchOf(strings.Repeat(string(letter), 100<<10))
		group.Go(func() {
			for i := range 20 {
				patience := []time.Duration{time.Minute, 200 * time.Microsecond, time.Millisecond, 3 * time.Millisecond}[i%4]
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				_, _ = s.client.PublishBatch(ctx, in)
				cancel()
			}
		})
	}
	group.Wait()
	require.Positive(t, whole.Load())
}
