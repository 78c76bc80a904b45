package localaws

import (
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"time"
)

const maxMessageBytes = 1 << 20

// queueSettings are the attributes of a queue that a user may set.
type queueSettings struct {
	raw         map[string]string // as set, without those at their defaults
	delay       time.Duration
	visibility  time.Duration
	retention   time.Duration
	wait        time.Duration
	maxBytes    int
	contentHash bool
	redrive     *redrivePolicy
	allow       *redriveAllowPolicy
	policy      *policy
}

// redrivePolicy says where messages go that were received too often.
type redrivePolicy struct {
	target      string
	maxReceives int
}

// redriveAllowPolicy says which queues may name this one as their dead-letter queue.
type redriveAllowPolicy struct {
	Permission string   `json:"redrivePermission"`
	Sources    []string `json:"sourceQueueArns"`
}

func (s queueSettings) dedupPerGroup() bool {
	return s.raw["DeduplicationScope"] == "messageGroup"
}

func queueDefaults() map[string]string {
	return map[string]string{
		"DelaySeconds": "0", "MaximumMessageSize": strconv.Itoa(maxMessageBytes), "MessageRetentionPeriod": "345600",
		"ReceiveMessageWaitTimeSeconds": "0", "VisibilityTimeout": "30", "SqsManagedSseEnabled": "true",
	}
}

func fifoDefaults() map[string]string {
	return map[string]string{
		"ContentBasedDeduplication": "false", "DeduplicationScope": "queue", "FifoThroughputLimit": "perQueue",
	}
}

// merge returns the settings with changes applied, or says which of them is wrong. An empty value unsets a policy.
func (s queueSettings) merge(changes map[string]string, fifo bool) (queueSettings, error) {
	next := queueSettings{raw: maps.Clone(s.raw)}
	if next.raw == nil {
		next.raw = queueDefaults()
		if fifo {
			maps.Copy(next.raw, fifoDefaults())
		}
	}
	for _, name := range sortedKeys(changes) {
		if err := checkSettable(name, fifo); err != nil {
			return s, err
		}
		if changes[name] == "" && isPolicyAttribute(name) {
			delete(next.raw, name)
			continue
		}
		next.raw[name] = changes[name]
	}
	if err := next.parse(); err != nil {
		return s, err
	}
	return next, nil
}

func isPolicyAttribute(name string) bool { return strings.HasSuffix(name, "Policy") }

func checkSettable(name string, fifo bool) error {
	switch name {
	case "DelaySeconds", "MaximumMessageSize", "MessageRetentionPeriod", "ReceiveMessageWaitTimeSeconds", "VisibilityTimeout",
		"Policy", "RedrivePolicy", "RedriveAllowPolicy", "SqsManagedSseEnabled":
		return nil
	case "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit":
		if fifo {
			return nil
		}
	}
	return sqsError("InvalidAttributeName", "Unknown Attribute %s.", clip(name))
}

func (s *queueSettings) parse() error {
	seconds := func(name string, low, high int, into *time.Duration) error {
		n, err := intBetween(s.raw[name], low, high)
		if err != nil {
			return badSetting(name)
		}
		*into = time.Duration(n) * time.Second
		return nil
	}
	maxBytes, sizeErr := intBetween(s.raw["MaximumMessageSize"], 1024, maxMessageBytes)
	if sizeErr != nil {
		return badSetting("MaximumMessageSize")
	}
	s.maxBytes = maxBytes
	s.contentHash = s.raw["ContentBasedDeduplication"] == "true"
	return firstError(
		seconds("DelaySeconds", 0, 900, &s.delay),
		seconds("VisibilityTimeout", 0, 43200, &s.visibility),
		seconds("MessageRetentionPeriod", 60, 1209600, &s.retention),
		seconds("ReceiveMessageWaitTimeSeconds", 0, 20, &s.wait),
		s.parseChoices(),
		s.parsePolicies(),
	)
}

func (s *queueSettings) parseChoices() error {
	choices := map[string]string{
		"ContentBasedDeduplication": "true false", "SqsManagedSseEnabled": "true false",
		"DeduplicationScope": "queue messageGroup", "FifoThroughputLimit": "perQueue perMessageGroupId",
	}
	for _, name := range sortedKeys(choices) {
		value, set := s.raw[name]
		if set && !oneOf(value, strings.Fields(choices[name])...) {
			return badSetting(name)
		}
	}
	if s.raw["FifoThroughputLimit"] == "perMessageGroupId" && !s.dedupPerGroup() {
		return sqsError("InvalidAttributeValue", "Invalid value for the parameter FifoThroughputLimit. Reason: perMessageGroupId needs DeduplicationScope messageGroup.")
	}
	return nil
}

func (s *queueSettings) parsePolicies() error {
	var err error
	if raw := s.raw["Policy"]; raw != "" {
		if s.policy, err = parsePolicy(raw); err != nil {
			return sqsError("InvalidAttributeValue", "Invalid value for the parameter Policy. Reason: %s.", err)
		}
	}
	if raw := s.raw["RedrivePolicy"]; raw != "" {
		if s.redrive, err = parseRedrivePolicy(raw); err != nil {
			return err
		}
	}
	if raw := s.raw["RedriveAllowPolicy"]; raw != "" {
		s.allow, err = parseRedriveAllowPolicy(raw)
	}
	return err
}

// parseRedrivePolicy accepts maxReceiveCount as a number or as text, as SQS does.
func parseRedrivePolicy(raw string) (*redrivePolicy, error) {
	var doc struct {
		Target string          `json:"deadLetterTargetArn"`
		Max    json.RawMessage `json:"maxReceiveCount"`
	}
	if err := json.Unmarshal([]byte(raw), &doc); err != nil {
		return nil, badRedrive("it is not valid JSON")
	}
	n, err := intBetween(strings.Trim(string(doc.Max), `"`), 1, 1000)
	if err != nil {
		return nil, badRedrive("maxReceiveCount must be between 1 and 1000")
	}
	if !strings.HasPrefix(doc.Target, "arn:aws:sqs:") {
		return nil, badRedrive("deadLetterTargetArn is not the ARN of a queue")
	}
	return &redrivePolicy{target: doc.Target, maxReceives: n}, nil
}

func badRedrive(reason string) error {
	return sqsError("InvalidAttributeValue", "Invalid value for the parameter RedrivePolicy. Reason: %s.", reason)
}

func parseRedriveAllowPolicy(raw string) (*redriveAllowPolicy, error) {
	var p redriveAllowPolicy
	if err := json.Unmarshal([]byte(raw), &p); err != nil {
		return nil, badSetting("RedriveAllowPolicy")
	}
	byQueue := p.Permission == "byQueue"
	if !oneOf(p.Permission, "allowAll", "denyAll", "byQueue") || byQueue != (len(p.Sources) > 0) || len(p.Sources) > 10 {
		return nil, badSetting("RedriveAllowPolicy")
	}
	return &p, nil
}

// allows tells whether a queue may use this one as its dead-letter queue.
func (p *redriveAllowPolicy) allows(source string) bool {
	return p == nil || p.Permission == "allowAll" || oneOf(source, p.Sources...)
}

func badSetting(name string) error {
	return sqsError("InvalidAttributeValue", "Invalid value for the parameter %s.", name)
}
