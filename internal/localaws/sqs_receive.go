package localaws

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

const maxWaitSeconds = 20

// receiveMessage answers at once if it can, else sleeps until the queue signals, its next timer is due, or the wait ends.
func (s *Server) receiveMessage(c *call, in *receiveMessageInput) (*receiveMessageOutput, error) {
	want, err := s.receiveRequest(in)
	if err != nil {
		return nil, err
	}
	deadline := time.NewTimer(want.wait)
	defer deadline.Stop()
	for {
		out, wake, next, err := s.tryReceive(in, want)
		if err != nil || len(out.Messages) > 0 || want.wait == 0 {
			return out, err
		}
		if s.sleep(c, deadline.C, wake, next) {
			return out, nil
		}
	}
}

// sleep returns true when the receive should end.
func (s *Server) sleep(c *call, deadline <-chan time.Time, wake <-chan struct{}, next time.Duration) bool {
	var due <-chan time.Time
	if next > 0 {
		timer := time.NewTimer(next)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-wake:
	case <-due:
	case <-deadline:
		return true
	case <-c.ctx.Done():
		return true
	case <-s.closing:
		return true
	case <-c.away:
		return true
	}
	return false
}

type receiveRequest struct {
	count      int
	visibility time.Duration
	wait       time.Duration
}

func (s *Server) receiveRequest(in *receiveMessageInput) (receiveRequest, error) {
	q, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return receiveRequest{}, err
	}
	defer s.mu.Unlock()
	want := receiveRequest{count: 1, visibility: q.settings.visibility, wait: q.settings.wait}
	if n := in.MaxNumberOfMessages; n != nil {
		want.count = *n
		if *n < 1 || *n > maxReceiveBatch {
			return want, invalidParameterValue("Value %d for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.", *n)
		}
	}
	if in.ReceiveRequestAttemptId != "" && (!q.fifo || !isFIFOID(in.ReceiveRequestAttemptId)) {
		return want, invalidParameterValue("Value %s for parameter ReceiveRequestAttemptId is invalid.", clip(in.ReceiveRequestAttemptId))
	}
	for _, name := range in.systemNames() {
		if !oneOf(name, systemAttributeNames...) {
			return want, sqsError("InvalidAttributeName", "Unknown Attribute %s.", clip(name))
		}
	}
	return want, firstError(
		secondsOr(&want.visibility, in.VisibilityTimeout, 43200, "VisibilityTimeout"),
		secondsOr(&want.wait, in.WaitTimeSeconds, maxWaitSeconds, "WaitTimeSeconds"),
	)
}

// secondsOr overrides a duration with a parameter, if it is given and in range.
func secondsOr(into *time.Duration, given *int, most int, name string) error {
	if given == nil {
		return nil
	}
	if *given < 0 || *given > most {
		return invalidParameterValue("Value %d for parameter %s is invalid. Reason: Must be >= 0 and <= %d, if provided.", *given, name, most)
	}
	*into = time.Duration(*given) * time.Second
	return nil
}

func (s *Server) tryReceive(in *receiveMessageInput, want receiveRequest) (out *receiveMessageOutput, wake <-chan struct{}, next time.Duration, err error) {
	q, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return nil, nil, 0, err
	}
	defer s.mu.Unlock()
	now := s.now()
	maxReceives, dlq := s.redriveOf(q)
	got, dead, err := q.receiveAttempt(now, in.ReceiveRequestAttemptId, want, maxReceives)
	if err != nil {
		return nil, nil, 0, err
	}
	for _, m := range dead {
		dlq.adopt(now, m, q.arn)
	}
	out = &receiveMessageOutput{}
	for _, m := range got {
		out.Messages = append(out.Messages, q.describe(m, in))
	}
	if len(got) == 0 && want.wait > 0 {
		wake = q.waiter()
		if due, ok := q.nextEvent(); ok {
			// An injected clock may stand still; never spin on it.
			next = max(due.Sub(now), 5*time.Millisecond)
		}
	}
	return out, wake, next, nil
}

// redriveOf returns where the queue's dead letters go; without a queue to take them they stay.
func (s *Server) redriveOf(q *queue) (maxReceives int, dlq *queue) {
	if q.settings.redrive == nil {
		return 0, nil
	}
	dlq = s.queueByARN(q.settings.redrive.target)
	if dlq == nil || dlq.fifo != q.fifo || !dlq.settings.allow.allows(q.arn) {
		return 0, nil
	}
	return q.settings.redrive.maxReceives, dlq
}

// systemNames are the system attributes asked for, under the parameter's old name or its new one.
func (in *receiveMessageInput) systemNames() []string {
	return slices.Concat(in.AttributeNames, in.MessageSystemAttributeNames)
}

var systemAttributeNames = []string{
	"All", "SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "SequenceNumber",
	"MessageDeduplicationId", "MessageGroupId", "AWSTraceHeader", "DeadLetterQueueSourceArn",
}

func (q *queue) describe(m *message, in *receiveMessageInput) receivedMessage {
	out := receivedMessage{MessageId: m.id, ReceiptHandle: q.handle(m), MD5OfBody: bodyDigest(m.body), Body: m.body}
	if names := in.systemNames(); len(names) > 0 {
		out.Attributes = q.systemAttributes(m, names)
	}
	if picked := pickAttributes(m.attributes, in.MessageAttributeNames); len(picked) > 0 {
		out.MessageAttributes, out.MD5OfMessageAttributes = toWire(picked), picked.digest()
	}
	return out
}

func (q *queue) systemAttributes(m *message, names []string) map[string]string {
	all := map[string]string{
		"SenderId":                         m.sender,
		"SentTimestamp":                    millis(m.sent),
		"ApproximateReceiveCount":          strconv.Itoa(m.receives),
		"ApproximateFirstReceiveTimestamp": millis(m.firstReceived),
		"MessageGroupId":                   m.group,
		"MessageDeduplicationId":           m.dedup,
		"AWSTraceHeader":                   m.traceHeader,
		"DeadLetterQueueSourceArn":         m.deadFrom,
	}
	if q.fifo {
		all["SequenceNumber"] = sequenceString(m.sequence)
	}
	for name, value := range all {
		if value == "" || !oneOf(name, names...) && !oneOf("All", names...) {
			delete(all, name)
		}
	}
	return all
}

// pickAttributes returns the attributes that a receive asked for by name, by prefix ("foo.*") or all.
func pickAttributes(as attributes, names []string) attributes {
	picked := make(attributes)
	for name, a := range as {
		for _, wanted := range names {
			prefix, isPrefix := strings.CutSuffix(wanted, ".*")
			if wanted == "All" || wanted == ".*" || wanted == name || isPrefix && strings.HasPrefix(name, prefix+".") {
				picked[name] = a
			}
		}
	}
	return picked
}

func millis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
