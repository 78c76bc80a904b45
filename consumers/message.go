package consumers

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/restock-dev/restock/schema"
)

// replayAttribute is the message attribute that names a replay.
const replayAttribute = "replay"

// message is one message as a queue delivered it, without what only the queue
// needs to know.
type message struct {
	id           string
	group        string
	body         string
	attributes   map[string]string // message attributes of text
	sentAt       time.Time
	receiveCount int
}

// arrival is what a message turned out to be. With err set it can never be
// handled; its event id and day are then the best that could be read.
type arrival struct {
	event    schema.Envelope
	body     []byte // the event's text
	payload  schema.Payload
	eventID  uuid.UUID
	replayID uuid.UUID
	day      time.Time
	unwanted bool // readable, and not for this consumer
	err      error
}

// parse reads a message of the named queue. The body is an event, bare or in the
// envelope of SNS. Data that cannot be read is an error only in an event of a
// type that the consumer wants.
// https://docs.aws.amazon.com/sns/latest/dg/sns-large-payload-raw-message-delivery.html
func parse(queue string, interest schema.Interest, m message) arrival {
	body, attributes := unwrap(m)
	a := arrival{body: body}
	a.eventID, a.day = identify(queue, m, body)
	a.event, a.err = schema.Decode(body)
	if a.err == nil && slices.Contains(interest.Types, a.event.Type) {
		a.payload, a.err = a.event.Payload()
	}
	a.unwanted = a.err == nil && !interest.Wants(a.event)
	if replay, ok := attributes[replayAttribute]; ok {
		id, err := uuid.Parse(replay)
		if err != nil && a.err == nil {
			a.err = fmt.Errorf("attribute %s is not a UUID: %w", replayAttribute, err)
		}
		a.replayID = id
	}
	return a
}

// identify returns the id and the day that a message's inbox row has. They are
// the event's own wherever they can be read. A message without them is known by
// its queue and its id there, which redelivery does not change.
func identify(queue string, m message, body []byte) (uuid.UUID, time.Time) {
	var e struct {
		ID   json.RawMessage `json:"id"`
		Time json.RawMessage `json:"time"`
	}
	_ = json.Unmarshal(body, &e) // what cannot be read stays empty
	var (
		id uuid.UUID
		at time.Time
	)
	if json.Unmarshal(e.ID, &id) != nil || id == uuid.Nil {
		return uuid.NewSHA1(uuid.NameSpaceURL, []byte(queue+"/"+m.id)), utcDay(m.sentAt)
	}
	if json.Unmarshal(e.Time, &at) != nil || at.IsZero() {
		at = m.sentAt
	}
	return id, utcDay(at)
}

// unwrap returns the event's text and attributes, out of the SNS envelope where
// there is one. Names are compared exactly: an event has a "type" of its own.
func unwrap(m message) (body []byte, attributes map[string]string) {
	var outer map[string]json.RawMessage
	var kind, inner string
	if json.Unmarshal([]byte(m.body), &outer) != nil ||
		json.Unmarshal(outer["Type"], &kind) != nil || kind != "Notification" ||
		json.Unmarshal(outer["Message"], &inner) != nil {
		return []byte(m.body), m.attributes
	}
	var wrapped map[string]struct{ Value string }
	_ = json.Unmarshal(outer["MessageAttributes"], &wrapped) // left out where there are none
	attributes = make(map[string]string, len(wrapped))
	for name, a := range wrapped {
		attributes[name] = a.Value
	}
	return []byte(inner), attributes
}

func utcDay(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }
