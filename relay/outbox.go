package relay

import "encoding/binary"

// loadedTable is the outbox as this process reads it itself: the columns that an
// event is read from and that an entry does not hold.
var loadedTable = &table{name: "outbox", needed: []int{eventType, subject, attributes, body, traceparent}}

// loadedRow is a row of loadedTable in the form in which the stream brings rows.
func loadedRow(columns ...*string) row {
	text := binary.BigEndian.AppendUint16(nil, uint16(len(columns)))
	for _, c := range columns {
		if c == nil {
			text = append(text, 'n')
			continue
		}
		text = binary.BigEndian.AppendUint32(append(text, 't'), uint32(len(*c)))
		text = append(text, *c...)
	}
	return row{loadedTable, string(text)}
}

// measure sets what an entry weighs, from its row.
func (e *entry) measure() error {
	v, err := e.row.table.values(e.row.text)
	if err == nil {
		e.weigh(v)
	}
	return err
}
