package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const (
	usualAnswer = `<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/">
  <PublishBatchResult>
    <Failed/>
    <Successful>
      <member>
        <MessageId>1a2b3c4d-0000-5000-8000-000000000001</MessageId>
        <Id>0</Id>
        <SequenceNumber>10000000000000000001</SequenceNumber>
      </member>
      <member>
        <MessageId>1a2b3c4d-0000-5000-8000-000000000002</MessageId>
        <Id>1</Id>
      </member>
    </Successful>
  </PublishBatchResult>
  <ResponseMetadata>
    <RequestId>9cc4c7a9-0000-5000-8000-9b3c6d1f0000</RequestId>
  </ResponseMetadata>
</PublishBatchResponse>
`
	failedMember = `<member><Id>2</Id><Code>InternalError</Code><Message>again &amp; later</Message><SenderFault>false</SenderFault></member>`
)

// understood is what PublishBatch returns for an answer.
func understood(t require.TestingT, stock bool, status int, body io.Reader) (*sns.PublishBatchOutput, error) {
	s := testSNS(t, stock, func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(body)}, nil
	})
	out, err := s.client.PublishBatch(context.Background(), batchOf("hello"))
	if out != nil {
		out.ResultMetadata = middleware.Metadata{}
	}
	return out, err
}

// TestUsualAnswerIsScanned holds the forms that make publishing fast: AWS's, and the
// one of internal/localaws.
func TestUsualAnswerIsScanned(t *testing.T) {
	t.Parallel()
	want := &sns.PublishBatchOutput{
		Failed: []types.BatchResultErrorEntry{},
		Successful: []types.PublishBatchResultEntry{
			{Id: aws.String("0"), MessageId: aws.String("1a2b3c4d-0000-5000-8000-000000000001"), SequenceNumber: aws.String("10000000000000000001")},
			{Id: aws.String("1"), MessageId: aws.String("1a2b3c4d-0000-5000-8000-000000000002")},
		},
	}
	require.Equal(t, want, scanAnswer(usualAnswer))
	tight := strings.NewReplacer("\n", "", "  ", "", "<Failed/>", "<Failed></Failed>").Replace(usualAnswer)
	require.Equal(t, want, scanAnswer(tight))
}

// sameAsSDK compares what we make of an answer with what the SDK makes of it.
func sameAsSDK(t require.TestingT, status int, body func() io.Reader) {
	want, wantErr := understood(t, true, status, body())
	got, gotErr := understood(t, false, status, body())
	require.Equal(t, want, got)
	require.Equal(t, fmt.Sprint(wantErr), fmt.Sprint(gotErr))
}

// TestAnswerIsUnderstoodAsBySDK: answers of every form, whole and cut off.
func TestAnswerIsUnderstoodAsBySDK(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := anyAnswer(t)
		status := rapid.SampledFrom([]int{200, 200, 200, 201, 302, 400, 500}).Draw(t, "status")
		if rapid.IntRange(0, 3).Draw(t, "cut") > 0 {
			sameAsSDK(t, status, func() io.Reader { return strings.NewReader(text) })
			return
		}
		text = text[:rapid.IntRange(0, len(text)).Draw(t, "length")]
		end := rapid.SampledFrom([]error{io.EOF, io.ErrUnexpectedEOF, errors.New("connection reset")}).Draw(t, "end")
		sameAsSDK(t, status, func() io.Reader { return io.MultiReader(strings.NewReader(text), iotest.ErrReader(end)) })
	})
}

// anyAnswer is an answer of which few parts are other than usual: one with many is
// never scanned.
func anyAnswer(t *rapid.T) string {
	unusual, parts := rapid.SliceOfN(rapid.IntRange(0, 60), 0, 3).Draw(t, "unusual"), 0
	pick := func(usual string, others ...string) string {
		parts++
		if !slices.Contains(unusual, parts) {
			return usual
		}
		return rapid.SampledFrom(others).Draw(t, "part")
	}
	value := func() string {
		return pick("1a2b-3", "", "a&amp;b&#65;", "a&b", "<![CDATA[x]]>", " x ", "\u00e9\u2028", "a<!-- -->b", "]]>", "a\r\nb", "\x01", "<b/>", "\xff")
	}
	space := func() string {
		return pick("\n ", "", "\t", "<!-- -->", "text", "\u00a0", "<?x y?>", "<Other>a</Other>", "<Id>9</Id>")
	}
	var members strings.Builder
	for range rapid.IntRange(0, 6).Draw(t, "members") {
		fields := []string{"<Id>" + value() + "</Id>", "<MessageId>" + value() + "</MessageId>", "<SequenceNumber>" + value() + "</SequenceNumber>"}
		fields = append(fields, pick("", "<Id>again</Id>", "<Id/>", "<id>lower</id>", `<Id a="b">c</Id>`, "<x:Id xmlns:x='y'>z</x:Id>", "<Id>open", "<Id >x</Id >", "</Id>"))
		fields = rapid.Permutation(fields).Draw(t, "order")
		members.WriteString(pick("<member>", "<Member>", "<entry>", "<member a='b'>"))
		for _, f := range fields[rapid.IntRange(0, 1).Draw(t, "left out"):] {
			members.WriteString(space() + f)
		}
		members.WriteString(space() + pick("</member>", "</Member>", "</entry>", "") + space())
	}
	successful := pick("<Successful>"+members.String()+"</Successful>", "<Successful/>", "<Successful>"+members.String(), "", strings.Repeat(" ", maxAnswer))
	failed := pick("<Failed/>", "<Failed></Failed>", "<Failed>"+failedMember+"</Failed>", "", "<Failed>", "<Failed />")
	lists := rapid.Permutation([]string{successful, failed, pick("", successful, failed)}).Draw(t, "lists")
	return pick("", `<?xml version="1.0"?>`, "\ufeff", " ") +
		pick(`<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/">`, "<PublishBatchResponse>", "<Other>",
			`<PublishBatchResponse xmlns='x'>`, `<PublishBatchResponse xmlns="a<b">`, `<a:PublishBatchResponse xmlns:a="b">`, "<ErrorResponse><Error><Code>Throttling</Code></Error>") +
		space() + pick("<PublishBatchResult>", "<publishbatchresult>", "<Other>", "") +
		strings.Join(lists, space()) + pick("</PublishBatchResult>", "", "</Other>") + space() +
		pick("<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>", "", "<") + pick("</PublishBatchResponse>", "")
}

// TestOnlyContentIsRejected: an entry is given up at once only for what is in it. What the
// service blames the sender for besides, its own failures, rates, rights, keys and a topic
// that is none, is tried again; a fault that is not the sender's always is.
func TestOnlyContentIsRejected(t *testing.T) {
	t.Parallel()
	for message, test := range map[string]struct {
		permanent bool
		codes     string
	}{
		"Invalid parameter: Message": {true, `InvalidParameter InvalidParameterException InvalidParameterValue ParameterValueInvalid
			InvalidParameterValueException MissingParameter ValidationError ValidationException BatchRequestTooLong
			BatchRequestTooLongException MessageTooLong InvalidBatchEntryId InvalidBatchEntryIdException MalformedInput InvalidMessageContents`},
		"Invalid parameter: TopicArn": {false, `InvalidParameter InvalidParameterValue ValidationError`},
		"not now": {false, `InternalError InternalFailure ServiceUnavailable RequestTimeout TooManyRequestsException OverLimit SlowDown
			Throttled ThrottlingException KMSThrottling KMSInvalidStateException KMSAccessDenied KMSNotFound KMSOptInRequired AuthorizationError
			AccessDenied InvalidSecurity InvalidClientTokenId ExpiredToken NotFound EndpointDisabled RequestLimitExceeded ConcurrentAccess SomethingNew`},
	} {
		for _, code := range strings.Fields(test.codes) {
			for _, fault := range []bool{true, false} {
				r := snsResults(1, &sns.PublishBatchOutput{Failed: []types.BatchResultErrorEntry{
					{Id: aws.String("0"), Code: aws.String(code), Message: aws.String(message), SenderFault: fault},
				}})[0]
				require.Equal(t, test.permanent && fault, r.Permanent, "%s: %s", code, message)
				require.EqualError(t, r.Err, code+": "+message)
			}
		}
	}
}

// TestThrottledEntries: an entry that is refused for the rate slows the relay down,
// whatever the service calls that.
func TestThrottledEntries(t *testing.T) {
	t.Parallel()
	throttled := func(code string) bool {
		return snsResults(1, &sns.PublishBatchOutput{Failed: []types.BatchResultErrorEntry{{Id: aws.String("0"), Code: aws.String(code)}}})[0].Throttled
	}
	for code := range retry.DefaultThrottleErrorCodes {
		require.True(t, throttled(code), code)
	}
	for _, code := range []string{"Throttled", "KMSThrottling", "KMSThrottlingException"} {
		require.True(t, throttled(code), code)
	}
	for _, code := range []string{"", "InternalError", "ServiceUnavailable", "InvalidParameter", "AuthorizationError", "KMSAccessDenied"} {
		require.False(t, throttled(code), code)
	}
}

// FuzzAnswer: what is scanned is what the SDK reads.
func FuzzAnswer(f *testing.F) {
	f.Add(usualAnswer)
	f.Add(`<PublishBatchResponse><PublishBatchResult><Successful><member><Id>0</Id></member></Successful></PublishBatchResult>`)
	f.Add(`<PublishBatchResponse xmlns=""><PublishBatchResult><Failed>` + failedMember + `</Failed></PublishBatchResult></PublishBatchResponse>`)
	f.Fuzz(func(t *testing.T, text string) {
		scanned := scanAnswer(text)
		if scanned == nil {
			return
		}
		read, err := understood(t, true, http.StatusOK, strings.NewReader(text))
		require.NoError(t, err)
		require.Equal(t, read, scanned)
	})
}
