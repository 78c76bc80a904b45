package relay

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"

	"github.com/restock-dev/restock/schema"
)

// columns are the outbox columns that the relay needs, by name. Others are
// ignored, and their order is the table's business.
var columns = []string{
	"day", "id", "seq", "type", "message_group", "subject", "attributes", "body", "traceparent",
}

// decoder turns pgoutput's messages into changes. It holds the relation messages
// of the stream, which precede the rows of each table.
// https://www.postgresql.org/docs/15/protocol-logicalrep-message-formats.html
type decoder struct {
	prefix string // of the logical messages that are ours
	tables map[uint32]*table
	commit pglogrepl.LSN // of the transaction being read
	index  int           // of its next row
}

type table struct {
	name    string
	place   map[string]int // of each needed column in a row
	missing string         // a needed column that it lacks; it is not an outbox then
}

func newDecoder(prefix string) *decoder {
	return &decoder{prefix: prefix, tables: make(map[uint32]*table)}
}

type changeKind int

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
	at    time.Time     // begin: commit time
	entry *entry        // event
	body  string        // probe: the logical message
}

// decode reads one pgoutput message. An error means that the stream cannot be
// understood, and nothing after it may be confirmed.
func (d *decoder) decode(data []byte) (change, error) {
	if len(data) > 0 && data[0] == 'I' {
		return d.insert(data)
	}
	message, err := parse(data)
	if err != nil {
		return change{}, fmt.Errorf("decode pgoutput message: %w", err)
	}
	switch m := message.(type) {
	case *pglogrepl.BeginMessage:
		d.commit, d.index = m.FinalLSN, 0
		return change{kind: changeBegin, lsn: m.FinalLSN, at: m.CommitTime}, nil
	case *pglogrepl.CommitMessage:
		return change{kind: changeEnd, lsn: m.TransactionEndLSN}, nil
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

func newTable(m *pglogrepl.RelationMessage) *table {
	t := &table{name: m.Namespace + "." + m.RelationName, place: make(map[string]int, len(m.Columns))}
	for i, c := range m.Columns {
		t.place[c.Name] = i
	}
	for _, name := range columns {
		if _, ok := t.place[name]; !ok {
			t.missing = name
		}
	}
	return t
}

func (d *decoder) insert(data []byte) (change, error) {
	relation, values, err := insertRow(data)
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
	row := row{t, values}
	for _, name := range columns {
		if t.place[name] >= len(values) {
			return change{}, fmt.Errorf("a row of %s has %d columns: %q is not among them", t.name, len(values), name)
		}
	}
	e := &entry{position: Position{Commit: d.commit, Index: d.index}}
	d.index++
	if err := row.identity(&e.event); err != nil {
		return change{}, err
	}
	e.poison = row.content(&e.event)
	e.prepare(len(row.text("attributes")))
	return change{kind: changeEvent, entry: e}, nil
}

// row reads an inserted row by column name.
type row struct {
	table  *table
	values [][]byte
}

// text is the column's value; that of a null is empty.
func (r row) text(name string) string { return string(r.values[r.table.place[name]]) }

// identity reads what the ledger and the order need. Its columns are typed, so a
// failure is a table that is not an outbox, never one bad row.
func (r row) identity(e *schema.Event) error {
	var err error
	if e.ID, err = uuid.Parse(r.text("id")); err != nil {
		return fmt.Errorf("column id of %s: %w", r.table.name, err)
	}
	if e.Day, err = time.Parse(time.DateOnly, r.text("day")); err != nil {
		return fmt.Errorf("column day of %s: %w", r.table.name, err)
	}
	if e.Seq, err = strconv.ParseInt(r.text("seq"), 10, 64); err != nil {
		return fmt.Errorf("column seq of %s: %w", r.table.name, err)
	}
	return nil
}

// content reads the rest. Whatever is wrong with it concerns this row alone.
func (r row) content(e *schema.Event) error {
	e.Type = r.text("type")
	e.Group = r.text("message_group")
	e.Subject = r.text("subject")
	e.Body = r.text("body")
	e.Traceparent = r.text("traceparent")
	if err := json.Unmarshal(r.values[r.table.place["attributes"]], &e.Attributes); err != nil {
		return fmt.Errorf("attributes are not {name: {type, value}}: %w", err)
	}
	if err := e.Validate(); err != nil {
		return err
	}
	body, err := schema.WithSequence(e.Body, e.Seq)
	if err != nil {
		return err
	}
	e.Body = body
	return nil
}

// entryOverhead is about what an entry costs in memory beside its texts: the
// structs, the attribute map and its share of lanes and cursor.
const entryOverhead = 1024

// prepare sizes the entry once its event is read.
func (e *entry) prepare(attributeBytes int) {
	e.size = len(e.event.Body) + len(e.event.Subject)
	for name, a := range e.event.Attributes {
		e.size += len(name) + len(a.Type) + len(a.Value)
	}
	e.memory = len(e.event.Body) + attributeBytes + entryOverhead
}
