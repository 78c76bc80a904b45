package consumers

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/schema"
)

// message is one message as a queue delivered it, without what only the queue
// needs to know.
type message struct {
	id           string
	group        string
	dedup        string // deduplication id
	body         string
	attributes   map[string]string // message attributes of text
	sentAt       time.Time
	receiveCount int
}

// identify says which message a log line is about, and which event where that is
// told beside it.
func (m message) identify(line *zerolog.Event) *zerolog.Event {
	_, attributes := unwrap(m)
	return line.Str("message_id", m.id).Str("event_id", attributes["eventId"]).Str("trace_id", schema.TraceID(attributes["traceparent"]))
}

// arrival is what a message turned out to be. With err set it can never be
// handled; its event id and day are then the best that could be read.
type arrival struct {
	event    schema.Envelope
	body     []byte // the event's text
	payload  schema.Payload
	eventID  uuid.UUID
	replay   schema.Replay
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
	if text, ok := attributes[schema.ReplayAttribute]; ok {
		var err error
		if a.replay, err = schema.ParseReplay(text); err != nil && a.err == nil {
			a.err = fmt.Errorf("attribute %s: %w", schema.ReplayAttribute, err)
		}
		if a.replay.Consumer != "" && a.replay.Consumer != interest.Consumer {
			a.unwanted, a.err = true, nil // and none of ours, whatever it is
		}
	}
	return a
}

// identify returns the id and the day that a message's inbox row has. They are
// the event's own wherever they can be read. A message without them is known by
// its queue and its id there, which redelivery does not change, and a redrive
// carries on.
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
		if r, ok := schema.ParseRedrive(m.dedup); ok {
			return r.EventID, r.Day
		}
		return uuid.NewSHA1(uuid.NameSpaceURL, []byte(queue+"/"+m.id)), dayOfArrival(m)
	}
	if json.Unmarshal(e.Time, &at) != nil || at.IsZero() {
		return id, dayOfArrival(m)
	}
	return id, utcDay(at)
}

// dayOfArrival is the day of a message that tells none: that on which it came,
// the first time.
func dayOfArrival(m message) time.Time {
	if r, ok := schema.ParseRedrive(m.dedup); ok {
		return r.Day
	}
	return utcDay(m.sentAt)
}

// unwrap returns the event's text and attributes, out of the SNS envelope where
// there is one.
func unwrap(m message) (body []byte, attributes map[string]string) {
	if inner, attributes, ok := schema.Unwrap(m.body); ok {
		return []byte(inner), attributes
	}
	return []byte(m.body), m.attributes
}

func utcDay(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }
