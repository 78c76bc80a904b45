package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const specVersion = "1.0"

// Envelope is an event's body: CloudEvents 1.0 JSON in structured mode.
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
type Envelope struct {
	// Sequence is the outbox row's seq as a decimal of 19 digits, so that it
	// sorts as text as well, which the CloudEvents sequence extension asks for.
	Sequence        string          `json:"sequence,omitempty"`
	Time            *time.Time      `json:"time,omitempty"`
	SpecVersion     string          `json:"specversion"`
	ID              uuid.UUID       `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	DataContentType string          `json:"datacontenttype"`
	DataSchema      string          `json:"dataschema,omitempty"`
	Traceparent     string          `json:"traceparent,omitempty"`
	Data            json.RawMessage `json:"data"`
}

// envelop is the Envelope of data, but for the time and the sequence, as JSON. It is
// written by hand because every checkout writes one: json.Marshal takes thrice as long.
func envelop(id uuid.UUID, eventType string, about about, traceparent string, data []byte) string {
	b := make([]byte, 0, 512+len(data))
	b = append(b, `{"specversion":"`+specVersion+`","id":"`...)
	b = append(b, id.String()...)
	b = append(b, `","source":`...)
	b = appendText(b, about.source)
	b = append(b, `,"type":`...)
	b = appendText(b, eventType)
	if about.entity != "" {
		b = append(b, `,"subject":`...)
		b = appendText(b, about.entity)
	}
	b = append(b, `,"datacontenttype":"application/json","dataschema":`...)
	b = appendText(b, dataSchema(eventType))
	if traceparent != "" {
		b = append(b, `,"traceparent":`...)
		b = appendText(b, traceparent)
	}
	b = append(b, `,"data":`...)
	b = append(b, data...)
	return string(append(b, '}'))
}

// dataSchema names the version of a type's data. A change that old consumers
// cannot read gets a new one; a field that they may ignore does not.
func dataSchema(eventType string) string { return "urn:restock:" + eventType + ":1" }

// Decode reads an event's body as it arrives at a consumer. What it refuses
// will never become readable: not JSON, not CloudEvents 1.0, without an id or a
// time, or of a type or version that is not known here. A trace context that is
// none is left out.
func Decode(body []byte) (Envelope, error) {
	var e Envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return Envelope{}, fmt.Errorf("not an event: %w", err)
	}
	if TraceID(e.Traceparent) == "" {
		e.Traceparent = ""
	}
	switch {
	case e.SpecVersion != specVersion:
		return e, fmt.Errorf("not an event: CloudEvents specversion %q, want %q", e.SpecVersion, specVersion)
	case e.ID == uuid.Nil:
		return e, errors.New("not an event: no id")
	case e.Time == nil:
		return e, errors.New("not an event: no time")
	case payloads[e.Type] == nil:
		return e, fmt.Errorf("unknown event type %q", e.Type)
	case e.DataSchema != dataSchema(e.Type):
		return e, fmt.Errorf("unknown version %q of %s", e.DataSchema, e.Type)
	}
	return e, nil
}

// Payload decodes the event's data into its payload type.
func (e Envelope) Payload() (Payload, error) {
	decode := payloads[e.Type]
	if decode == nil {
		return nil, fmt.Errorf("unknown event type %q", e.Type)
	}
	p, err := decode(e.Data)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.Type, err)
	}
	return p, nil
}

// Day is the UTC day that the event's rows are kept under.
func (e Envelope) Day() time.Time { return e.Time.UTC().Truncate(24 * time.Hour) }

// Seq is the event's place in its outbox, 0 where the body carries none.
func (e Envelope) Seq() int64 {
	n, err := strconv.ParseInt(e.Sequence, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// WithSequence returns body with the row's seq as its first member. It is the
// one thing that the relay adds. Only a JSON object can take it.
func WithSequence(body string, seq int64) (string, error) {
	rest, isObject := strings.CutPrefix(strings.TrimLeft(body, jsonSpace), "{")
	if rest = strings.TrimLeft(rest, jsonSpace); !isObject || rest == "" {
		return "", errNotObject
	}
	if seq < 0 {
		return "", fmt.Errorf("seq is %d: want 0 or more", seq)
	}
	if !validJSON(body) {
		return "", errNotObject
	}
	digits := strconv.FormatInt(seq, 10)
	zeros := "0000000000000000000"[len(digits):]
	comma := ","
	if rest[0] == '}' {
		comma = ""
	}
	return `{"sequence":"` + zeros + digits + `"` + comma + strings.TrimRight(rest, jsonSpace), nil
}

var errNotObject = errors.New("body is not a JSON object")
