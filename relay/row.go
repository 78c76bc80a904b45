package relay

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
)

// The outbox columns that the relay needs. They are found by name: the table may
// have others, and any order.
const (
	dayColumn = iota
	id
	seq
	eventType
	group
	subject
	attributes
	body
	traceparent
	columnCount
)

var columns = [columnCount]string{
	"day", "id", "seq", "type", "message_group", "subject", "attributes", "body", "traceparent",
}

// values are a row's needed columns, as text; that of a null is empty.
type values [columnCount]string

// table is a relation of the stream.
type table struct {
	name    string
	needed  []int  // for each column of its rows which needed one it is, or -1
	missing string // a needed column that it lacks; it is not an outbox then
}

func newTable(m *pglogrepl.RelationMessage) *table {
	t := &table{name: m.Namespace + "." + m.RelationName, needed: make([]int, len(m.Columns))}
	var found [columnCount]bool
	for i, c := range m.Columns {
		t.needed[i] = -1
		for n, name := range columns {
			if c.Name == name {
				t.needed[i], found[n] = n, true
			}
		}
	}
	for n, name := range columns {
		if !found[n] {
			t.missing = name
		}
	}
	return t
}

// row is an inserted row as it came: for each column its kind, length and text.
type row struct {
	table *table
	text  string
}

// insertedText takes the columns out of an Insert message.
func insertedText(data []byte) (relation uint32, text string, err error) {
	if len(data) < 8 || data[0] != 'I' || data[5] != 'N' {
		return 0, "", errors.New("malformed insert message")
	}
	return binary.BigEndian.Uint32(data[1:]), string(data[6:]), nil
}

// values finds the needed columns in a row's text. They share its memory.
// pglogrepl's parser trusts lengths and panics on a message cut short; this one,
// which every event passes, checks them.
func (t *table) values(text string) (v values, err error) {
	count, rest := int(text[0])<<8|int(text[1]), text[2:]
	if count < len(t.needed) {
		return v, fmt.Errorf("it has %d columns, its table %d", count, len(t.needed))
	}
	for i := range count {
		var column string
		if column, rest, err = nextColumn(rest); err != nil {
			return v, err
		}
		if i < len(t.needed) && t.needed[i] >= 0 {
			v[t.needed[i]] = column
		}
	}
	return v, nil
}

func nextColumn(text string) (column, rest string, err error) {
	if text == "" {
		return "", "", errors.New("it ends before its last column")
	}
	switch kind := text[0]; kind {
	case 'n', 'u':
		return "", text[1:], nil
	case 't':
		if len(text) < 5 {
			return "", "", errors.New("it ends within a column")
		}
		n := uint(text[1])<<24 | uint(text[2])<<16 | uint(text[3])<<8 | uint(text[4])
		if n > uint(len(text)-5) {
			return "", "", errors.New("it ends within a column")
		}
		return text[5 : 5+n], text[5+n:], nil
	default:
		return "", "", fmt.Errorf("it has a column of kind %q", kind)
	}
}
