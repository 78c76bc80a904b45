package localaws

import (
	"net/http"
	"time"
)

func (s *Server) sendMessage(_ *call, in *sendMessageInput) (*sent, error) {
	q, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	m, system, err := in.toMessage(q)
	if err != nil {
		return nil, err
	}
	out := q.answerSend(s.now(), m, system)
	return &out, nil
}

func (s *Server) sendMessageBatch(c *call, in *sendMessageBatchInput) (*sendMessageBatchOutput, error) {
	q, err := s.lockedQueue(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if err := checkSQSBatch(in.Entries, sendEntry.batchID); err != nil {
		return nil, err
	}
	total := 0
	for _, e := range in.Entries {
		total += e.size()
	}
	if total > maxMessageBytes {
		return nil, sqsError("BatchRequestTooLong", "Batch requests cannot be longer than %d bytes. You have sent %d bytes.", maxMessageBytes, total)
	}
	out := &sendMessageBatchOutput{Successful: []sentEntry{}}
	for _, e := range in.Entries {
		m, system, err := e.toMessage(q)
		if err = c.entryError(e.Id, err); err != nil {
			out.Failed = append(out.Failed, failure(e.Id, err))
			continue
		}
		out.Successful = append(out.Successful, sentEntry{Id: e.Id, sent: q.answerSend(s.now(), m, system)})
	}
	return out, nil
}

func (q *queue) answerSend(now time.Time, m newMessage, system attributes) sent {
	first := q.send(now, m)
	out := sent{
		MessageId: first.messageID, MD5OfMessageBody: bodyDigest(m.body),
		MD5OfMessageAttributes: m.attributes.digest(), MD5OfMessageSystemAttributes: system.digest(),
	}
	if q.fifo {
		out.SequenceNumber = sequenceString(first.sequence)
	}
	return out
}

func (f sendFields) body() string {
	if f.MessageBody == nil {
		return ""
	}
	return *f.MessageBody
}

func (f sendFields) size() int { return len(f.body()) + fromWire(f.MessageAttributes).size() }

// toMessage checks what a sender gave against the queue's rules.
func (f sendFields) toMessage(q *queue) (newMessage, attributes, error) {
	m := newMessage{
		body: f.body(), attributes: fromWire(f.MessageAttributes), sender: senderID,
		group: f.MessageGroupId, dedup: f.MessageDeduplicationId,
	}
	system := fromWire(f.MessageSystemAttributes)
	m.traceHeader = system["AWSTraceHeader"].text
	err := firstError(f.checkBody(q), f.checkAttributes(m.attributes, system), f.setDelay(q, &m), q.checkFIFO(&m))
	return m, system, err
}

func (f sendFields) checkBody(q *queue) error {
	switch {
	case f.MessageBody == nil:
		return missingParameter("MessageBody")
	case f.body() == "":
		return invalidParameterValue("The message body must not be empty.")
	case !isXMLText(f.body()):
		return sqsError("InvalidMessageContents", "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF.")
	case f.size() > q.settings.maxBytes:
		return invalidParameterValue("One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", q.settings.maxBytes)
	}
	return nil
}

func (f sendFields) checkAttributes(own, system attributes) error {
	if len(own) > maxAttributes {
		return invalidParameterValue("Number of message attributes [%d] exceeds the allowed maximum [%d].", len(own), maxAttributes)
	}
	if flaw := own.flaw(); flaw != "" {
		return invalidParameterValue("%s", flaw)
	}
	for name, a := range system {
		if name != "AWSTraceHeader" || a.dataType != "String" || a.text == "" {
			return invalidParameterValue("Message system attribute name '%s' or its value is invalid.", clip(name))
		}
	}
	return nil
}

func (f sendFields) setDelay(q *queue, m *newMessage) error {
	if f.DelaySeconds == nil {
		return nil
	}
	seconds := *f.DelaySeconds
	// A FIFO queue delays all of its messages alike, or it could not keep their order.
	if seconds < 0 || seconds > 900 || q.fifo && time.Duration(seconds)*time.Second != q.settings.delay {
		return invalidParameterValue("Value %d for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for this queue type.", seconds)
	}
	delay := time.Duration(seconds) * time.Second
	m.delay = &delay
	return nil
}

// checkFIFO settles the group and the deduplication id.
func (q *queue) checkFIFO(m *newMessage) error {
	if m.group != "" && !isFIFOID(m.group) {
		return invalidParameterValue("Value %s for parameter MessageGroupId is invalid. Reason: MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length.", clip(m.group))
	}
	if !q.fifo {
		if m.dedup != "" {
			return invalidParameterValue("Value %s for parameter MessageDeduplicationId is invalid. Reason: The request include parameter that is not valid for this queue type.", clip(m.dedup))
		}
		return nil
	}
	if m.group == "" {
		return missingParameter("MessageGroupId")
	}
	if m.dedup == "" {
		if !q.settings.contentHash {
			return invalidParameterValue("The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly")
		}
		m.dedup = contentHash(m.body)
	}
	if !isFIFOID(m.dedup) {
		return invalidParameterValue("Value %s for parameter MessageDeduplicationId is invalid. Reason: MessageDeduplicationId can only include alphanumeric and punctuation characters. 1 to 128 in length.", clip(m.dedup))
	}
	return nil
}

// checkSQSBatch checks what holds for the entries of every batch action.
func checkSQSBatch[E any](entries []E, id func(E) string) error {
	if len(entries) == 0 {
		return sqsError("EmptyBatchRequest", "There should be at least one entry in the request.")
	}
	if len(entries) > 10 {
		return sqsError("TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10. You have sent %d.", len(entries))
	}
	seen := make(map[string]bool, len(entries))
	for _, e := range entries {
		if !isBatchID(id(e)) {
			return sqsError("InvalidBatchEntryId", "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.")
		}
		if seen[id(e)] {
			return sqsError("BatchEntryIdsNotDistinct", "Id %s repeated.", id(e))
		}
		seen[id(e)] = true
	}
	return nil
}

func failure(id string, err error) failedEntry {
	e := asAPIError(err)
	return failedEntry{Id: id, Code: e.queryCode(), Message: e.message, SenderFault: !e.fault && e.httpStatus() < http.StatusInternalServerError}
}

func fromWire(wire map[string]wireAttribute) attributes {
	as := make(attributes, len(wire))
	for name, w := range wire {
		as[name] = attribute{dataType: w.DataType, text: w.StringValue, binary: w.BinaryValue}
	}
	return as
}

func toWire(as attributes) map[string]wireAttribute {
	wire := make(map[string]wireAttribute, len(as))
	for name, a := range as {
		wire[name] = wireAttribute{DataType: a.dataType, StringValue: a.text, BinaryValue: a.binary}
	}
	return wire
}
