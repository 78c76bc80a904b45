package relay

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// batchWriter writes the body of PublishBatch in place of the SDK's serializer,
// which is nearly a third of what a call costs: it builds a map of all keys and
// values, sorts it and escapes it.
//
// Everything else of the request is the SDK's: its serializer makes a request
// without entries, whose body then is exchanged.
type batchWriter struct{ middleware.SerializeMiddleware }

// HandleSerialize implements middleware.SerializeMiddleware.
func (w batchWriter) HandleSerialize(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (middleware.SerializeOutput, middleware.Metadata, error) {
	input, ok := in.Parameters.(*sns.PublishBatchInput)
	if !ok {
		return w.SerializeMiddleware.HandleSerialize(ctx, in, next)
	}
	in.Parameters = &sns.PublishBatchInput{}
	return w.SerializeMiddleware.HandleSerialize(ctx, in, middleware.SerializeHandlerFunc(
		func(ctx context.Context, empty middleware.SerializeInput) (out middleware.SerializeOutput, metadata middleware.Metadata, err error) {
			request, ok := empty.Request.(*smithyhttp.Request)
			if !ok {
				return out, metadata, fmt.Errorf("unknown transport type %T", empty.Request)
			}
			body, err := batchBody(request.GetStream(), input)
			if err != nil {
				return out, metadata, fmt.Errorf("read the head of the request: %w", err)
			}
			if request, err = request.SetStream(bytes.NewReader(body)); err != nil {
				return out, metadata, err
			}
			return next.HandleSerialize(ctx, middleware.SerializeInput{Parameters: input, Request: request})
		}))
}

var formPool = sync.Pool{New: func() any { return new(form) }}

// batchBody returns head, which names the operation, followed by its parameters.
//
// The body is a slice of its own, of the size that it needs: the transport may
// still be sending it after the call has returned with an error or with an early
// answer, so that nobody can tell when it could be used again.
func batchBody(head io.Reader, in *sns.PublishBatchInput) ([]byte, error) {
	f, _ := formPool.Get().(*form)
	defer formPool.Put(f)
	f.Reset()
	if _, err := f.ReadFrom(head); err != nil {
		return nil, err
	}
	f.batch(in)
	return bytes.Clone(f.Bytes()), nil
}

// form is a body of AWS's query protocol under construction.
// https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
type form struct {
	bytes.Buffer
	prefix []byte // of the keys of the entry that is being written
	names  []string
}

func (f *form) batch(in *sns.PublishBatchInput) {
	f.prefix = f.prefix[:0]
	f.text("TopicArn", in.TopicArn)
	const list = "PublishBatchRequestEntries"
	if in.PublishBatchRequestEntries != nil && len(in.PublishBatchRequestEntries) == 0 {
		f.key(list)
	}
	for i := range in.PublishBatchRequestEntries {
		f.prefix = append(strconv.AppendInt(append(f.prefix[:0], list+".member."...), int64(i+1), 10), '.')
		f.entry(&in.PublishBatchRequestEntries[i])
	}
}

func (f *form) entry(e *types.PublishBatchRequestEntry) {
	f.text("Id", e.Id)
	f.text("Message", e.Message)
	f.text("MessageDeduplicationId", e.MessageDeduplicationId)
	f.text("MessageGroupId", e.MessageGroupId)
	f.text("MessageStructure", e.MessageStructure)
	f.text("Subject", e.Subject)
	f.names = slices.AppendSeq(f.names[:0], maps.Keys(e.MessageAttributes))
	slices.Sort(f.names)
	own := len(f.prefix)
	for i, name := range f.names {
		f.prefix = append(strconv.AppendInt(append(f.prefix[:own], "MessageAttributes.entry."...), int64(i+1), 10), '.')
		f.text("Name", &name)
		f.attribute(e.MessageAttributes[name])
	}
}

func (f *form) attribute(a types.MessageAttributeValue) {
	f.text("Value.DataType", a.DataType)
	f.text("Value.StringValue", a.StringValue)
	if a.BinaryValue != nil {
		encoded := base64.StdEncoding.EncodeToString(a.BinaryValue)
		f.text("Value.BinaryValue", &encoded)
	}
}

func (f *form) key(name string) {
	f.WriteByte('&')
	f.Write(f.prefix)
	f.WriteString(name)
	f.WriteByte('=')
}

// text writes a parameter unless it is not given.
func (f *form) text(name string, value *string) {
	if value == nil {
		return
	}
	f.key(name)
	f.escape(*value)
}

const upperHex = "0123456789ABCDEF"

// escape writes what url.QueryEscape returns.
func (f *form) escape(s string) {
	b := f.AvailableBuffer()
	for i := range len(s) {
		switch c := s[i]; {
		case plain[c]:
			b = append(b, c)
		case c == ' ':
			b = append(b, '+')
		default:
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	f.Write(b)
}

// plain are the bytes that stand for themselves in a form.
var plain = func() (t [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~") {
		t[c] = true
	}
	return t
}()
