package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"

	"github.com/restock-dev/restock/schema"
)

// decoder turns pgoutput's messages into changes. It holds the relation messages
// of the stream, which precede the rows of each table. Begin, insert and commit
// are read here, because each event costs one of each; the rest is pglogrepl's.
// https://www.postgresql.org/docs/15/protocol-logicalrep-message-formats.html
type decoder struct {
	prefix string // of the logical messages that are ours
	tables map[uint32]*table
	commit pglogrepl.LSN // of the transaction being read
	index  int           // of its next row
	day    day           // of the last row
}

func newDecoder(prefix string) *decoder {
	return &decoder{prefix: prefix, tables: make(map[uint32]*table)}
}

type changeKind byte

const (
	changeNothing changeKind = iota // of no interest
	changeBegin
	changeEvent
	changeEnd
	changeIdle
	changeProbe   // a logical message of ours
	changeForeign // somebody else's
)

// change is one step of the stream.
type change struct {
	kind  changeKind
	lsn   pglogrepl.LSN // begin: of the commit record; end: after it; idle: the server's position
	at    int64         // begin: commit time in microseconds of Postgres
	entry *entry        // event
	body  string        // probe: the logical message
}

// postgresEpoch is when Postgres's clock began.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (c change) time() time.Time { return postgresEpoch.Add(time.Duration(c.at) * time.Microsecond) }

// decode reads one pgoutput message, of which it keeps nothing. An error means that
// the stream cannot be understood, and nothing after it may be confirmed.
func (d *decoder) decode(data []byte) (change, error) {
	if len(data) == 0 {
		return change{}, errors.New("decode pgoutput message: it is empty")
	}
	switch data[0] {
	case 'I':
		return d.insert(data)
	case 'B':
		return d.begin(data)
	case 'C':
		return d.end(data)
	}
	message, err := parse(data)
	if err != nil {
		return change{}, fmt.Errorf("decode pgoutput message: %w", err)
	}
	switch m := message.(type) {
	case *pglogrepl.RelationMessage:
		d.tables[m.RelationID] = newTable(m)
		return change{}, nil
	case *pglogrepl.LogicalDecodingMessage:
		if m.Prefix != d.prefix {
			return change{kind: changeForeign}, nil // its content may be large, and is nobody's here
		}
		return change{kind: changeProbe, body: string(m.Content)}, nil
	default:
		return change{}, nil
	}
}

// parse is pglogrepl's parser, which panics on a message that is cut short.
func parse(data []byte) (message pglogrepl.Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("malformed message: %v", r)
		}
	}()
	return pglogrepl.Parse(data)
}

// begin is followed by the LSN of the commit record, the commit time and the xid.
func (d *decoder) begin(data []byte) (change, error) {
	if len(data) < 1+8+8+4 {
		return change{}, errors.New("decode a begin: it is cut short")
	}
	d.commit, d.index = pglogrepl.LSN(binary.BigEndian.Uint64(data[1:])), 0
	return change{kind: changeBegin, lsn: d.commit, at: int64(binary.BigEndian.Uint64(data[9:]))}, nil
}

// end is followed by flags, the LSN of the commit record, the LSN after it and the
// commit time.
func (d *decoder) end(data []byte) (change, error) {
	if len(data) < 1+1+8+8+8 {
		return change{}, errors.New("decode a commit: it is cut short")
	}
	return change{kind: changeEnd, lsn: pglogrepl.LSN(binary.BigEndian.Uint64(data[10:]))}, nil
}

func (d *decoder) insert(data []byte) (change, error) {
	relation, text, err := insertedText(data)
	if err != nil {
		return change{}, fmt.Errorf("decode a row: %w", err)
	}
	t := d.tables[relation]
	if t == nil {
		return change{}, fmt.Errorf("a row of relation %d came before its description", relation)
	}
	if t.missing != "" {
		return change{}, refusal("table %s has no column %q: add it, or publish the outbox table", t.name, t.missing)
	}
	values, err := t.values(text)
	if err != nil {
		return change{}, fmt.Errorf("decode a row of %s: %w", t.name, err)
	}
	e := &entry{position: Position{Commit: d.commit, Index: d.index}, group: values[group], row: row{t, text}}
	d.index++
	if err := d.identity(e, values); err != nil {
		return change{}, fmt.Errorf("decode a row of %s: %w", t.name, err)
	}
	e.weigh(values)
	return change{kind: changeEvent, entry: e}, nil
}

const (
	// sequenceBytes is what the sequence adds to a body.
	sequenceBytes = 36
	// entryOverhead is about what an entry costs in memory beside its text: the
	// struct and its share of lanes and cursor.
	entryOverhead = 512
)

// weigh sets what the entry, whose row has these values, weighs.
func (e *entry) weigh(v values) {
	e.size = len(v[body]) + sequenceBytes + len(v[subject]) + len(v[attributes])
	e.memory = len(e.row.text) + entryOverhead
}

// identity reads what the ledger and the order need. Its columns are typed, so a
// failure is a table that is not an outbox, never one bad row.
func (d *decoder) identity(e *entry, values values) error {
	var err error
	if e.id, err = uuid.Parse(values[id]); err != nil {
		return fmt.Errorf("column id: %w", err)
	}
	if e.day, err = d.day.parse(values[dayColumn]); err != nil {
		return fmt.Errorf("column day: %w", err)
	}
	if e.seq, err = strconv.ParseInt(values[seq], 10, 64); err != nil {
		return fmt.Errorf("column seq: %w", err)
	}
	return nil
}

// day remembers the last date that it parsed: nearly every row has the same.
type day struct {
	text string
	time time.Time
}

func (d *day) parse(text string) (time.Time, error) {
	if text == d.text && text != "" {
		return d.time, nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return t, err
	}
	d.text, d.time = text, t
	return t, nil
}

// event reads the whole event. Whatever is wrong with it concerns this event alone,
// and means that it can never be published.
func (e *entry) event() (schema.Event, error) {
	v, err := e.row.table.values(e.row.text)
	if err != nil {
		return schema.Event{}, err
	}
	event := schema.Event{
		Day: e.day, ID: e.id, Seq: e.seq, Group: e.group,
		Type: v[eventType], Subject: v[subject], Body: v[body], Traceparent: v[traceparent],
	}
	if event.Attributes, err = parseAttributes(v[attributes]); err != nil {
		return event, fmt.Errorf("attributes are not {name: {type, value}}: %w", err)
	}
	if err := event.Validate(); err != nil {
		return event, err
	}
	event.Body, err = schema.WithSequence(event.Body, e.seq)
	return event, err
}
