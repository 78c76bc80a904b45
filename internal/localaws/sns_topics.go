package localaws

import (
	"maps"
	"strconv"
	"strings"
)

const (
	maxPublishBytes = 256 << 10
	snsPageSize     = 100
	snsSequenceBase = 10_000_000_000_000_000_000 // keeps sequence numbers at 20 digits
)

// topic is one SNS topic, guarded by the server's lock.
type topic struct {
	name, arn     string
	fifo          bool
	attributes    map[string]string // as set
	tags          map[string]string
	subscriptions []*subscription // oldest first
	dedup         dedupWindow
	sequence      uint64
}

func (t *topic) contentHash() bool   { return t.attributes["ContentBasedDeduplication"] == "true" }
func (t *topic) dedupPerGroup() bool { return t.attributes["FifoThroughputScope"] == "MessageGroup" }

func (t *topic) maxBytes() int {
	if n, err := strconv.Atoi(t.attributes["MaximumMessageSize"]); err == nil {
		return n
	}
	return maxPublishBytes
}

// lockedTopic takes the lock and returns a topic; without such a topic the lock is free again.
func (s *Server) lockedTopic(arn string) (*topic, error) {
	if !strings.HasPrefix(arn, "arn:aws:sns:") || strings.Count(arn, ":") != 5 {
		return nil, invalidParameter("TopicArn Reason: An ARN must have at least 6 elements, not %q", clip(arn))
	}
	s.mu.Lock()
	t := s.topics[arn]
	if t == nil {
		s.mu.Unlock()
		return nil, notFound("Topic")
	}
	return t, nil
}

func (s *Server) createTopic(_ *call, f *form) (formReply, error) {
	name := f.get("Name")
	if !isName(name, mostTopicName) {
		return nil, invalidParameter("Topic Name")
	}
	asked, err := f.at("Attributes", "entry").textMap("key", "value")
	if err != nil {
		return nil, invalidParameter("Attributes: %s", err)
	}
	tags, err := tagsOf(f)
	if err != nil {
		return nil, err
	}
	fifo := asked["FifoTopic"] == "true"
	if fifo != isFIFO(name) {
		return nil, invalidParameter("Fifo Topic names must end with .fifo and must be made up of only uppercase and lowercase ASCII letters, numbers, underscores, and hyphens, and must be between 1 and 256 characters long.")
	}
	for _, key := range sortedKeys(asked) {
		if err := checkTopicAttribute(key, asked[key], fifo); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	arn := s.topicARN(name)
	if t := s.topics[arn]; t == nil {
		s.topics[arn] = &topic{name: name, arn: arn, fifo: fifo, attributes: maps.Clone(asked), tags: tags}
	} else if err := t.createdAgain(asked, tags); err != nil {
		return nil, err
	}
	return func(w *xmlWriter) { w.text("TopicArn", arn) }, nil
}

func (t *topic) createdAgain(asked, tags map[string]string) error {
	all := t.settable()
	for _, key := range sortedKeys(asked) {
		if all[key] != asked[key] {
			return invalidParameter("Attributes Reason: Topic already exists with different attributes")
		}
	}
	if len(tags) > 0 && !maps.Equal(tags, t.tags) {
		return invalidParameter("Tags Reason: Topic already exists with different tags")
	}
	return nil
}

// settable are the attributes that may be set, with their defaults.
func (t *topic) settable() map[string]string {
	all := map[string]string{"DisplayName": "", "MaximumMessageSize": strconv.Itoa(maxPublishBytes)}
	if t.fifo {
		all["FifoTopic"] = "true"
		all["ContentBasedDeduplication"] = "false"
		all["FifoThroughputScope"] = "Topic"
	}
	maps.Copy(all, t.attributes)
	return all
}

func checkTopicAttribute(name, value string, fifo bool) error {
	ok := false
	switch name {
	case "DisplayName":
		ok = len(value) <= 100
	case "Policy":
		_, err := parsePolicy(value)
		ok = err == nil
	case "DeliveryPolicy", "TracingConfig", "SignatureVersion":
		ok = true
	case "MaximumMessageSize":
		_, err := intBetween(value, 1024, maxPublishBytes)
		ok = err == nil
	case "FifoTopic":
		ok = value == "true" || value == "false" && !fifo
	case "ContentBasedDeduplication":
		ok = fifo && oneOf(value, "true", "false")
	case "FifoThroughputScope":
		ok = fifo && oneOf(value, "Topic", "MessageGroup")
	default:
		return invalidParameter("Attributes Reason: Unknown attribute %s", clip(name))
	}
	if !ok {
		return invalidParameter("Attributes Reason: %s: Invalid value [%s]", name, clip(value))
	}
	return nil
}

func (s *Server) deleteTopic(_ *call, f *form) (formReply, error) {
	t, err := s.lockedTopic(f.get("TopicArn"))
	if oneOf(codeOf(err), "NotFound") {
		return nil, nil // deleting what is gone succeeds
	}
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	delete(s.topics, t.arn)
	for _, sub := range t.subscriptions {
		delete(s.subscriptions, sub.arn)
	}
	return nil, nil
}

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return asAPIError(err).code
}

func (s *Server) getTopicAttributes(_ *call, f *form) (formReply, error) {
	t, err := s.lockedTopic(f.get("TopicArn"))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	all := t.settable()
	all["TopicArn"] = t.arn
	all["Owner"] = accountID
	all["SubscriptionsConfirmed"] = strconv.Itoa(len(t.subscriptions))
	all["SubscriptionsPending"], all["SubscriptionsDeleted"] = "0", "0"
	return func(w *xmlWriter) { w.textMap("Attributes", all) }, nil
}

func (s *Server) setTopicAttributes(_ *call, f *form) (formReply, error) {
	t, err := s.lockedTopic(f.get("TopicArn"))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	name, value := f.get("AttributeName"), f.get("AttributeValue")
	if err := checkTopicAttribute(name, value, t.fifo); err != nil {
		return nil, err
	}
	if name == "FifoTopic" || name == "FifoThroughputScope" && t.dedupPerGroup() && value == "Topic" {
		return nil, invalidParameter("AttributeName: %s cannot be changed", name)
	}
	if t.attributes == nil {
		t.attributes = make(map[string]string)
	}
	t.attributes[name] = value
	return nil, nil
}

func (s *Server) listTopics(_ *call, f *form) (formReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	arns, next, err := page(sortedKeys(s.topics), f.get("NextToken"), snsPageSize)
	if err != nil {
		return nil, invalidParameter("NextToken")
	}
	return func(w *xmlWriter) {
		w.inside("Topics", func() {
			for _, arn := range arns {
				w.inside("member", func() { w.text("TopicArn", arn) })
			}
		})
		w.nextToken(next)
	}, nil
}

func (w *xmlWriter) nextToken(token string) {
	if token != "" {
		w.text("NextToken", token)
	}
}

func tagsOf(f *form) (map[string]string, error) {
	tags, err := f.at("Tags", "member").textMap("Key", "Value")
	if err != nil {
		return nil, invalidParameter("Tags: %s", err)
	}
	if len(tags) > 50 {
		return nil, refuse("TagLimitExceeded", "A resource can have at most 50 tags.")
	}
	return tags, nil
}

// taggedTopic is lockedTopic under the names that the tag actions use.
func (s *Server) taggedTopic(f *form) (*topic, error) {
	t, err := s.lockedTopic(f.get("ResourceArn"))
	if codeOf(err) == "NotFound" {
		return nil, &apiError{code: "ResourceNotFound", message: "Resource does not exist", status: 404}
	}
	return t, err
}

func (s *Server) tagTopic(_ *call, f *form) (formReply, error) {
	tags, err := tagsOf(f)
	if err != nil {
		return nil, err
	}
	t, err := s.taggedTopic(f)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if t.tags == nil {
		t.tags = make(map[string]string)
	}
	maps.Copy(t.tags, tags)
	return func(*xmlWriter) {}, nil
}

func (s *Server) untagTopic(_ *call, f *form) (formReply, error) {
	keys, err := f.at("TagKeys", "member").texts()
	if err != nil {
		return nil, invalidParameter("TagKeys: %s", err)
	}
	t, err := s.taggedTopic(f)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	for _, key := range keys {
		delete(t.tags, key)
	}
	return func(*xmlWriter) {}, nil
}

func (s *Server) listTopicTags(_ *call, f *form) (formReply, error) {
	t, err := s.taggedTopic(f)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	tags := maps.Clone(t.tags)
	return func(w *xmlWriter) {
		w.inside("Tags", func() {
			for _, key := range sortedKeys(tags) {
				w.inside("member", func() {
					w.text("Key", key)
					w.text("Value", tags[key])
				})
			}
		})
	}, nil
}
