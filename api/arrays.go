package api

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// array is an argument of a batch that encodes itself. Of its own slices pgx asks each
// element how it wants to be encoded, which was half of what the goroutine that all
// checkouts wait for does for one of them.
//
// The binary form of an array is that of array_send: dimensions, whether there are NULLs,
// type of the elements, length and first place, then each element behind its length.
type array interface {
	appendTo(buf []byte) []byte
}

type (
	texts      []string
	maybeTexts []string // an empty one is NULL
	uuids      []uuid.UUID
	smallints  []int16
	integers   []int32
	bigints    []int64
)

const null = ^uint32(0) // the length of NULL

func appendHeader(buf []byte, element uint32, n, size int) []byte {
	buf = slices.Grow(buf, 20+4*n+size)
	buf = binary.BigEndian.AppendUint32(buf, 1)
	buf = binary.BigEndian.AppendUint32(buf, 0) // Postgres looks for NULLs itself
	buf = binary.BigEndian.AppendUint32(buf, element)
	buf = binary.BigEndian.AppendUint32(buf, uint32(n))
	return binary.BigEndian.AppendUint32(buf, 1)
}

func (a texts) appendTo(buf []byte) []byte {
	buf = appendHeader(buf, pgtype.TextOID, len(a), sizeOf(a))
	for _, s := range a {
		buf = append(binary.BigEndian.AppendUint32(buf, uint32(len(s))), s...)
	}
	return buf
}

func (a maybeTexts) appendTo(buf []byte) []byte {
	buf = appendHeader(buf, pgtype.TextOID, len(a), sizeOf(a))
	for _, s := range a {
		if s == "" {
			buf = binary.BigEndian.AppendUint32(buf, null)
			continue
		}
		buf = append(binary.BigEndian.AppendUint32(buf, uint32(len(s))), s...)
	}
	return buf
}

func sizeOf(a []string) (n int) {
	for _, s := range a {
		n += len(s)
	}
	return n
}

func (a uuids) appendTo(buf []byte) []byte {
	buf = appendHeader(buf, pgtype.UUIDOID, len(a), 16*len(a))
	for _, id := range a {
		buf = append(binary.BigEndian.AppendUint32(buf, 16), id[:]...)
	}
	return buf
}

func (a smallints) appendTo(buf []byte) []byte {
	buf = appendHeader(buf, pgtype.Int2OID, len(a), 2*len(a))
	for _, n := range a {
		buf = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(buf, 2), uint16(n))
	}
	return buf
}

func (a integers) appendTo(buf []byte) []byte {
	buf = appendHeader(buf, pgtype.Int4OID, len(a), 4*len(a))
	for _, n := range a {
		buf = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(buf, 4), uint32(n))
	}
	return buf
}

func (a bigints) appendTo(buf []byte) []byte {
	buf = appendHeader(buf, pgtype.Int8OID, len(a), 8*len(a))
	for _, n := range a {
		buf = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(buf, 8), uint64(n))
	}
	return buf
}

// readBigints reads a bigint[] without NULLs.
func readBigints(b []byte) (bigints, error) {
	const header, each = 20, 4 + 8
	if len(b) < header || (len(b)-header)%each != 0 {
		return nil, fmt.Errorf("%d bytes are no bigint[]", len(b))
	}
	var a bigints
	for b = b[header:]; len(b) > 0; b = b[each:] {
		if n := binary.BigEndian.Uint32(b); n != 8 {
			return nil, fmt.Errorf("an element of %d bytes is no bigint", int32(n))
		}
		a = append(a, int64(binary.BigEndian.Uint64(b[4:])))
	}
	return a, nil
}

// teachArrays has a connection take arrays as they are, beside what it takes already.
func teachArrays(m *pgtype.Map) {
	for _, oid := range []uint32{pgtype.TextArrayOID, pgtype.UUIDArrayOID, pgtype.Int2ArrayOID, pgtype.Int4ArrayOID, pgtype.Int8ArrayOID} {
		known, _ := m.TypeForOID(oid)
		m.RegisterType(&pgtype.Type{Name: known.Name, OID: oid, Codec: arrayCodec{known.Codec}})
	}
}

type arrayCodec struct{ pgtype.Codec }

// PlanEncode implements pgtype.Codec.
func (c arrayCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(array); ok && format == pgtype.BinaryFormatCode {
		return arrayPlan{}
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

type arrayPlan struct{}

// Encode implements pgtype.EncodePlan.
func (arrayPlan) Encode(value any, buf []byte) ([]byte, error) {
	return value.(array).appendTo(buf), nil //nolint:forcetypeassert // PlanEncode has looked
}
