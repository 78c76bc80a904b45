package relay

import (
	"context"

	"github.com/restock-dev/restock/schema"
)

// Limits of one call to a publisher.
// https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html
const (
	maxBatchEntries = 10
	maxBatchBytes   = 256 << 10
)

// Publisher publishes a batch of up to 10 events and 256 KiB, no two of one
// message group. Several batches are published at once.
type Publisher interface {
	// Publish returns a result for each event, in the order given; as many as there
	// are events, or the call counts as failed. An error
	// means that the call failed as a whole: any of its events may have been
	// accepted all the same. A *RejectedError says that the request itself is at
	// fault, which one of its events may have caused.
	Publish(ctx context.Context, events []schema.Event) ([]Result, error)
}

// Result is what became of one event.
type Result struct {
	MessageID      string
	SequenceNumber string
	// Err is why it was not accepted; nil when it was.
	Err error
	// Permanent says that it never will be.
	Permanent bool
	// Throttled says that less is to be sent.
	Throttled bool
}

// RejectedError is a call that the publisher's service will refuse however often
// it is repeated.
type RejectedError struct{ Err error }

func (e *RejectedError) Error() string { return "rejected: " + e.Err.Error() }

// Unwrap returns the service's own error.
func (e *RejectedError) Unwrap() error { return e.Err }
