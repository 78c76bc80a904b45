package localaws

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"

	"github.com/google/uuid"
)

var snsActions = map[string]formAction{
	"CreateTopic":               (*Server).createTopic,
	"DeleteTopic":               (*Server).deleteTopic,
	"GetTopicAttributes":        (*Server).getTopicAttributes,
	"SetTopicAttributes":        (*Server).setTopicAttributes,
	"ListTopics":                (*Server).listTopics,
	"TagResource":               (*Server).tagTopic,
	"UntagResource":             (*Server).untagTopic,
	"ListTagsForResource":       (*Server).listTopicTags,
	"Subscribe":                 (*Server).subscribe,
	"Unsubscribe":               (*Server).unsubscribe,
	"GetSubscriptionAttributes": (*Server).getSubscriptionAttributes,
	"SetSubscriptionAttributes": (*Server).setSubscriptionAttributes,
	"ListSubscriptions":         (*Server).listSubscriptions,
	"ListSubscriptionsByTopic":  (*Server).listSubscriptionsByTopic,
	"Publish":                   (*Server).publish,
	"PublishBatch":              (*Server).publishBatch,
}

// publication is one message as it was published.
type publication struct {
	entryID    string
	message    string
	forSQS     string // what the queues get: with MessageStructure json the text for sqs, else the message
	structure  string
	subject    string
	hasSubject bool
	attributes attributes
	group      string
	dedup      string
}

func readPublication(f *form) (publication, error) {
	p := publication{
		entryID: f.get("Id"), message: f.get("Message"), structure: f.get("MessageStructure"),
		group: f.get("MessageGroupId"), dedup: f.get("MessageDeduplicationId"),
	}
	p.forSQS = p.message
	p.subject, p.hasSubject = f.lookup("Subject")
	pairs, err := f.at("MessageAttributes", "entry").pairs("Name", "Value")
	if err != nil {
		return p, invalidParameter("MessageAttributes: %s", err)
	}
	p.attributes = make(attributes, len(pairs))
	for name, v := range pairs {
		a := attribute{dataType: v.get("DataType"), text: v.get("StringValue")}
		if encoded, ok := v.lookup("BinaryValue"); ok {
			if a.binary, err = base64.StdEncoding.DecodeString(encoded); err != nil {
				return p, invalidParameter("MessageAttributes: the value of '%s' is not base64", clip(name))
			}
		}
		p.attributes[name] = a
	}
	return p, nil
}

func (p publication) size() int { return len(p.message) + p.attributes.size() }

// checkContent checks what does not depend on the topic.
func (p *publication) checkContent() error {
	switch {
	case p.message == "":
		return invalidParameter("Empty message")
	case !isXMLText(p.message):
		return invalidParameter("Message Reason: it holds a character that is not allowed in XML")
	case p.hasSubject && !isSubject(p.subject):
		return invalidParameter("Subject")
	case p.structure != "" && p.structure != "json":
		return invalidParameter("MessageStructure")
	}
	if flaw := p.attributes.flaw(); flaw != "" {
		return parameterValueInvalid("%s", flaw)
	}
	return p.pickStructure()
}

func (p *publication) pickStructure() error {
	if p.structure == "" {
		return nil
	}
	var byProtocol map[string]string
	if err := json.Unmarshal([]byte(p.message), &byProtocol); err != nil {
		return invalidParameter("Message Structure - JSON message body failed to parse")
	}
	text, ok := byProtocol["default"]
	if !ok {
		return invalidParameter("Message Structure - No default entry in JSON message body")
	}
	if own, ok := byProtocol["sqs"]; ok {
		text = own
	}
	p.forSQS = text
	return nil
}

// checkIDs settles the group and the deduplication id.
func (p *publication) checkIDs(t *topic) error {
	if p.group != "" && !isFIFOID(p.group) {
		return invalidParameter("The MessageGroupId parameter can only include alphanumeric and punctuation characters, 1 to 128 in length")
	}
	if p.dedup != "" && !isFIFOID(p.dedup) {
		return invalidParameter("The MessageDeduplicationId parameter can only include alphanumeric and punctuation characters, 1 to 128 in length")
	}
	switch {
	case !t.fifo && p.dedup != "":
		return invalidParameter("The request includes MessageDeduplicationId parameter that is not valid for this topic type")
	case !t.fifo:
		return nil
	case p.group == "":
		return invalidParameter("The MessageGroupId parameter is required for FIFO topics")
	case p.dedup == "" && !t.contentHash():
		return invalidParameter("The topic should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly")
	case p.dedup == "":
		p.dedup = contentHash(p.message)
	}
	return nil
}

func contentHash(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

func (s *Server) publish(_ *call, f *form) (formReply, error) {
	arn := f.get("TopicArn")
	if arn == "" {
		arn = f.get("TargetArn")
	}
	p, err := readPublication(f)
	if err != nil {
		return nil, err
	}
	t, err := s.lockedTopic(arn)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if err := firstError(p.checkContent(), p.checkIDs(t)); err != nil {
		return nil, err
	}
	if p.size() > t.maxBytes() {
		return nil, invalidParameter("Message too long")
	}
	first := s.accept(t, p)
	return func(w *xmlWriter) { w.accepted(t.fifo, first) }, nil
}

func (w *xmlWriter) accepted(fifo bool, first accepted) {
	w.text("MessageId", first.messageID)
	if fifo {
		w.text("SequenceNumber", sequenceString(first.sequence))
	}
}

func (s *Server) publishBatch(c *call, f *form) (formReply, error) {
	entries, err := f.at("PublishBatchRequestEntries", "member").list()
	if err != nil {
		return nil, invalidParameter("PublishBatchRequestEntries: %s", err)
	}
	pubs := make([]publication, len(entries))
	for i, e := range entries {
		if pubs[i], err = readPublication(e); err != nil {
			return nil, err
		}
	}
	t, err := s.lockedTopic(f.get("TopicArn"))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if err := t.checkBatch(pubs); err != nil {
		return nil, err
	}
	done, errs := make([]accepted, len(pubs)), make([]error, len(pubs))
	for i, p := range pubs {
		if errs[i] = c.entryError(p.entryID, nil); errs[i] == nil {
			done[i] = s.accept(t, p)
		}
	}
	return func(w *xmlWriter) { w.batchResult(t.fifo, pubs, done, errs) }, nil
}

// checkBatch finds what makes SNS refuse the entire batch. That includes what is wrong with a single entry: SNS fails an
// entry alone only for reasons of its own, which here are faults.
func (t *topic) checkBatch(pubs []publication) error {
	if len(pubs) == 0 {
		return refuse("EmptyBatchRequest", "The batch request doesn't contain any entries.")
	}
	if len(pubs) > 10 {
		return refuse("TooManyEntriesInBatchRequest", "The batch request contains more entries than permissible (%d, at most 10).", len(pubs))
	}
	seen, total := make(map[string]bool, len(pubs)), 0
	for i := range pubs {
		p := &pubs[i]
		if !isBatchID(p.entryID) {
			return refuse("InvalidBatchEntryId", "The Id of a batch entry in a batch request doesn't abide by the specification.")
		}
		if seen[p.entryID] {
			return refuse("BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id.")
		}
		seen[p.entryID] = true
		total += p.size()
	}
	if total > t.maxBytes() {
		return refuse("BatchRequestTooLong", "The length of all the batch messages put together is more than the limit (%d of %d bytes).", total, t.maxBytes())
	}
	for i := range pubs {
		if err := firstError(pubs[i].checkContent(), pubs[i].checkIDs(t)); err != nil {
			return err
		}
	}
	return nil
}

func (w *xmlWriter) batchResult(fifo bool, pubs []publication, done []accepted, errs []error) {
	w.inside("Successful", func() {
		for i, p := range pubs {
			if errs[i] == nil {
				w.inside("member", func() {
					w.text("Id", p.entryID)
					w.accepted(fifo, done[i])
				})
			}
		}
	})
	w.inside("Failed", func() {
		for i, p := range pubs {
			if errs[i] == nil {
				continue
			}
			failed := failure(p.entryID, errs[i])
			w.inside("member", func() {
				w.text("Id", failed.Id)
				w.text("Code", failed.Code)
				w.text("Message", failed.Message)
				w.bool("SenderFault", failed.SenderFault)
			})
		}
	})
}

// accept delivers a publication, unless its deduplication id was seen: then the answer is that of the first.
func (s *Server) accept(t *topic, p publication) accepted {
	now := s.now()
	key := dedupKey(p.dedup, p.group, t.dedupPerGroup())
	if t.fifo {
		if first, ok := t.dedup.lookup(now, key); ok {
			return first
		}
	}
	t.sequence++
	first := accepted{messageID: uuid.NewString(), sequence: snsSequenceBase + t.sequence}
	if t.fifo {
		t.dedup.remember(now, key, first)
	}
	s.fanOut(t, &delivery{publication: p, accepted: first, topic: t, at: now})
	return first
}
