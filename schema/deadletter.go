package schema

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
)

// DeadLetterID is the deduplication id under which a consumer's worker sends a
// message to its dead-letter queue, so that a crash may repeat the send:
// <event>:<queue>:<replay|0>. A message that came under another deduplication id
// than the event's own, above all one that was redriven, adds a digest of it: an
// event that dies again within five minutes would else be taken for a repeat.
func DeadLetterID(event uuid.UUID, queue string, replay uuid.UUID, own string) string {
	id := event.String() + ":" + queue + ":0"
	if replay != uuid.Nil {
		id = event.String() + ":" + queue + ":" + replay.String()
	}
	if own != "" && own != event.String() {
		sum := sha256.Sum256([]byte(own))
		id += ":" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
	}
	return Group(id) // it has the length and the alphabet of one
}

var deadLetterID = regexp.MustCompile(`^([0-9a-f-]{36}):[A-Za-z0-9_-]+(?:\.fifo)?:(0|[0-9a-f-]{36})(?::[a-z2-7]{16})?$`)

// ParseDeadLetterID reads what DeadLetterID made: the identity that the message
// has in its consumer's inbox, also where the body does not give it.
func ParseDeadLetterID(id string) (event, replay uuid.UUID, ok bool) {
	m := deadLetterID.FindStringSubmatch(id)
	if m == nil {
		return uuid.Nil, uuid.Nil, false
	}
	event, err := uuid.Parse(m[1])
	if err == nil && m[2] != "0" {
		replay, err = uuid.Parse(m[2])
	}
	return event, replay, err == nil
}

// Redrive is one return of a dead event to its consumer's queue.
type Redrive struct {
	ID      uuid.UUID // of the redrive: another each time that the event died
	EventID uuid.UUID // with Day, the identity in the inbox
	Day     time.Time
}

// DeduplicationID is the one that the message returns under. It carries the
// identity, so that a message whose body gives none keeps its inbox row.
func (r Redrive) DeduplicationID() string {
	return "redrive:" + r.EventID.String() + ":" + r.Day.UTC().Format("20060102") + ":" + r.ID.String()
}

// ParseRedrive reads what DeduplicationID made.
func ParseRedrive(deduplicationID string) (Redrive, bool) {
	parts := strings.Split(deduplicationID, ":")
	if len(parts) != 4 || parts[0] != "redrive" {
		return Redrive{}, false
	}
	event, err1 := uuid.Parse(parts[1])
	day, err2 := time.Parse("20060102", parts[2])
	id, err3 := uuid.Parse(parts[3])
	return Redrive{ID: id, EventID: event, Day: day}, err1 == nil && err2 == nil && err3 == nil
}

// Unwrap takes an event out of the SNS envelope: its text, and the attributes
// that the envelope lists. ok is false where body is no envelope. Names are
// compared exactly, because an event has a "type" of its own.
// https://docs.aws.amazon.com/sns/latest/dg/sns-large-payload-raw-message-delivery.html
func Unwrap(body string) (text string, attributes map[string]string, ok bool) {
	var outer map[string]json.RawMessage
	var kind, inner string
	if json.Unmarshal([]byte(body), &outer) != nil ||
		json.Unmarshal(outer["Type"], &kind) != nil || kind != "Notification" ||
		json.Unmarshal(outer["Message"], &inner) != nil {
		return "", nil, false
	}
	var wrapped map[string]struct{ Value string }
	_ = json.Unmarshal(outer["MessageAttributes"], &wrapped) // left out where there are none
	attributes = make(map[string]string, len(wrapped))
	for name, a := range wrapped {
		attributes[name] = a.Value
	}
	return inner, attributes, true
}
