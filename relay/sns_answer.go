package relay

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// maxAnswer is far more than what SNS says of ten accepted entries.
const maxAnswer = 16 << 10

// answerReader scans the answer that says that all entries were accepted. The
// SDK's deserializer, which builds a token of each tag, reads any other: an error,
// entries that failed, a form that is not the usual one.
type answerReader struct {
	middleware.DeserializeMiddleware
}

var answerPool = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// HandleDeserialize implements middleware.DeserializeMiddleware.
func (r answerReader) HandleDeserialize(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	out, metadata, err := next.HandleDeserialize(ctx, in)
	if response, ok := out.RawResponse.(*smithyhttp.Response); ok && err == nil && response.StatusCode/100 == 2 {
		read, _ := answerPool.Get().(*bytes.Buffer)
		read.Reset()
		n, readErr := read.ReadFrom(io.LimitReader(response.Body, maxAnswer))
		if readErr == nil && n < maxAnswer {
			if result := scanAnswer(read.String()); result != nil {
				answerPool.Put(read)
				out.Result = result
				smithyhttp.CloseResponseBody(ctx, response, false, nil)
				return out, metadata, nil
			}
		}
		// read is not used again: out keeps the response.
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(read, response.Body), response.Body}
	}
	return r.DeserializeMiddleware.HandleDeserialize(ctx, in, middleware.DeserializeHandlerFunc(
		func(context.Context, middleware.DeserializeInput) (middleware.DeserializeOutput, middleware.Metadata, error) {
			return out, metadata, err
		}))
}

// answer is what is left of an answer to PublishBatch:
//
//	<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/">
//	  <PublishBatchResult>
//	    <Failed/>
//	    <Successful>
//	      <member><Id>0</Id><MessageId>…</MessageId><SequenceNumber>…</SequenceNumber></member>
//	    </Successful>
//	  </PublishBatchResult>
//	…
type answer string

// scanAnswer returns nil when the answer needs the SDK's deserializer.
func scanAnswer(text string) *sns.PublishBatchOutput {
	a := answer(text)
	if !a.root() || !a.tag("<PublishBatchResult>") {
		return nil
	}
	out := &sns.PublishBatchOutput{}
	for !a.tag("</PublishBatchResult>") {
		switch {
		case a.tag("<Successful>"):
			if !a.members(&out.Successful) {
				return nil
			}
		case a.tag("<Failed/>"), a.tag("<Failed>") && a.tag("</Failed>"):
			out.Failed = []types.BatchResultErrorEntry{}
		default:
			return nil
		}
	}
	return out
}

func (a *answer) root() bool {
	if a.tag("<PublishBatchResponse>") {
		return true
	}
	if !a.tag(`<PublishBatchResponse xmlns="`) {
		return false
	}
	_, ok := a.text(`">`)
	return ok
}

func (a *answer) members(entries *[]types.PublishBatchResultEntry) bool {
	if *entries == nil {
		*entries = make([]types.PublishBatchResultEntry, 0, maxBatchEntries)
	}
	p := make(pointers, 0, 3*maxBatchEntries)
	value := func(open, end string, to **string) bool {
		if !a.tag(open) {
			return false
		}
		text, ok := a.text(end)
		*to = p.to(text)
		return ok
	}
	for !a.tag("</Successful>") {
		if !a.tag("<member>") {
			return false
		}
		var e types.PublishBatchResultEntry
		for !a.tag("</member>") {
			if !value("<Id>", "</Id>", &e.Id) &&
				!value("<MessageId>", "</MessageId>", &e.MessageId) &&
				!value("<SequenceNumber>", "</SequenceNumber>", &e.SequenceNumber) {
				return false
			}
		}
		*entries = append(*entries, e)
	}
	return true
}

// tag skips white space, and takes t if it comes next.
func (a *answer) tag(t string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(string(*a), " \t\r\n"), t)
	if ok {
		*a = answer(rest)
	}
	return ok
}

// text takes letters, digits and what ids and addresses have besides, and end
// behind them.
func (a *answer) text(end string) (string, bool) {
	s, n := string(*a), 0
	for n < len(s) && (plain[s[n]] || s[n] == ':' || s[n] == '/') {
		n++
	}
	if !strings.HasPrefix(s[n:], end) {
		return "", false
	}
	*a = answer(s[n+len(end):])
	return s[:n], true
}
