package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// insertRow reads an Insert message: the relation's id and the row's columns as
// text, nil for a null. The columns are slices of data. pglogrepl's parser trusts
// lengths and panics on a message cut short; this one, which every event passes,
// checks them and copies nothing.
func insertRow(data []byte) (relation uint32, columns [][]byte, err error) {
	if len(data) < 8 || data[0] != 'I' || data[5] != 'N' {
		return 0, nil, errors.New("malformed insert message")
	}
	relation = binary.BigEndian.Uint32(data[1:])
	count := int(binary.BigEndian.Uint16(data[6:]))
	rest := data[8:]
	columns = make([][]byte, 0, min(count, len(rest)))
	for range count {
		var column []byte
		if column, rest, err = nextColumn(rest); err != nil {
			return 0, nil, err
		}
		columns = append(columns, column)
	}
	return relation, columns, nil
}

func nextColumn(data []byte) (column, rest []byte, err error) {
	if len(data) == 0 {
		return nil, nil, errors.New("insert message ends within a row")
	}
	switch kind := data[0]; kind {
	case 'n', 'u':
		return nil, data[1:], nil
	case 't':
		if len(data) < 5 {
			return nil, nil, errors.New("insert message ends within a column")
		}
		n := binary.BigEndian.Uint32(data[1:])
		if uint64(n) > uint64(len(data)-5) {
			return nil, nil, errors.New("insert message ends within a column")
		}
		return data[5 : 5+n], data[5+n:], nil
	default:
		return nil, nil, fmt.Errorf("insert message has a column of kind %q", kind)
	}
}
