package localaws

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// OldSQS is the way to an SQS from before MessageSystemAttributeNames, which it
// overlooks, as some emulators do. It is safe for concurrent use if Next is.
type OldSQS struct{ Next aws.HTTPClient }

// Do sends r, a receive without those names.
func (c OldSQS) Do(r *http.Request) (*http.Response, error) {
	if r.Header.Get("X-Amz-Target") != "AmazonSQS.ReceiveMessage" {
		return c.Next.Do(r)
	}
	var in map[string]json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, err
	}
	delete(in, "MessageSystemAttributeNames")
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	again := r.Clone(r.Context())
	again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return c.Next.Do(again)
}
