package schema

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
)

// Limits on an event, enforced again by the outbox table's CHECK constraints.
const (
	// MaxEventBytes bounds body plus attributes. SNS takes 256 KiB a message and
	// a batch, attributes included; the rest is room for what the relay adds.
	// https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html
	MaxEventBytes = 200 << 10
	// MaxAttributes leaves one of the ten that raw delivery allows to a replay.
	// https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html
	MaxAttributes = 9
)

// Attribute is an SNS message attribute. Type is String or Number; Value is
// never empty, because SNS refuses an empty one.
type Attribute struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// Event is one outbox row. A writer makes it with New; the relay reads it from
// the replication stream, where Day and Seq are set as well.
type Event struct {
	Day         time.Time // UTC day of the commit, by the database's clock
	ID          uuid.UUID // UUIDv7: identity and deduplication id, never order
	Seq         int64
	Type        string
	Group       string // SNS message group
	Subject     string // SNS subject; empty is none
	Attributes  map[string]Attribute
	Body        string // CloudEvents JSON, structured mode
	Traceparent string // W3C trace context; empty is none
	Replay      Replay // that it is published for, none for the first time
}

// DeduplicationID is what SNS and SQS know a repeat by. A replay is no repeat; that
// of one event in one replay always has the same.
func (e Event) DeduplicationID() string {
	if e.Replay.ID == uuid.Nil {
		return e.ID.String()
	}
	return e.ID.String() + ":" + e.Replay.ID.String()
}

// NewID returns an event id: a UUIDv7, made before the transaction so that a
// retry of the transaction carries the same one.
func NewID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// New makes the event that tells of p. Its time is stamped by the database when
// it is appended. An error means that p itself breaks the contract, never that
// trying again would help.
func New(id uuid.UUID, p Payload, traceparent string) (Event, error) {
	about := p.about()
	data, err := json.Marshal(p)
	if err != nil {
		return Event{}, fmt.Errorf("encode %s: %w", p.EventType(), err)
	}
	e := Event{
		ID:          id,
		Type:        p.EventType(),
		Group:       Group(about.group),
		Subject:     about.subject,
		Attributes:  attributes(id, p.EventType(), traceparent, about.attributes),
		Body:        envelop(id, p.EventType(), about, traceparent, data),
		Traceparent: traceparent,
	}
	return e, e.Validate()
}

// attributes adds to own, which is the payload's, those that every event has.
func attributes(id uuid.UUID, eventType, traceparent string, own map[string]Attribute) map[string]Attribute {
	if own == nil {
		own = map[string]Attribute{}
	}
	own["eventType"] = stringAttribute(eventType)
	own["eventId"] = stringAttribute(id.String())
	if traceparent != "" {
		own["traceparent"] = stringAttribute(traceparent)
	}
	return own
}

func stringAttribute(v string) Attribute { return Attribute{Type: "String", Value: v} }

// Validate says what makes an event impossible to publish: the rules of SNS and
// of the outbox table that a row written by hand can break.
func (e Event) Validate() error {
	size := len(e.Body)
	for name, a := range e.Attributes {
		size += len(name) + len(a.Type) + len(a.Value)
		if a.Value == "" {
			return fmt.Errorf("attribute %q is empty: leave it out", name)
		}
		if a.Type != "String" && a.Type != "Number" {
			return fmt.Errorf("attribute %q has type %q: String and Number are known", name, a.Type)
		}
	}
	switch {
	case len(e.Attributes) > MaxAttributes:
		return fmt.Errorf("%d attributes: at most %d are allowed", len(e.Attributes), MaxAttributes)
	case size > MaxEventBytes:
		return fmt.Errorf("body and attributes are %d bytes: at most %d are allowed", size, MaxEventBytes)
	case !validGroup(e.Group):
		return fmt.Errorf("message group %.128q: 1 to 128 letters, digits and punctuation are allowed", e.Group)
	case utf8.RuneCountInString(e.Subject) > 100:
		return errors.New("subject is over 100 characters")
	case !utf8.ValidString(e.Body):
		return errors.New("body is not UTF-8")
	}
	return nil
}

// Execer runs one statement: a pool, a connection or a transaction of pgx.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Append adds e to the outbox as part of db's transaction. Day and Seq are given
// by the database, and so is the body's time.
func Append(ctx context.Context, db Execer, e Event) error {
	_, err := db.Exec(ctx, `SELECT append_event($1, $2, $3, $4, $5, $6, $7)`, e.AppendArgs()...)
	if err != nil {
		return fmt.Errorf("append %s to the outbox: %w", e.Type, err)
	}
	return nil
}

// AppendArgs are the arguments of the SQL function append_event, in its order:
// id, type, message_group, subject, attributes, body, traceparent.
func (e Event) AppendArgs() []any {
	return []any{e.ID, e.Type, e.Group, nullable(e.Subject), e.AttributesJSON(), e.Body, nullable(e.Traceparent)}
}

// AttributesJSON is the attributes as the outbox takes them, in no particular order.
func (e Event) AttributesJSON() string {
	b := make([]byte, 0, 64*(1+len(e.Attributes)))
	b = append(b, '{')
	for name, a := range e.Attributes {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = appendText(b, name)
		b = append(b, `:{"type":`...)
		b = appendText(b, a.Type)
		b = append(b, `,"value":`...)
		b = appendText(b, a.Value)
		b = append(b, '}')
	}
	return string(append(b, '}'))
}

func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
