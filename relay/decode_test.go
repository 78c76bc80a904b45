package relay

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"
)

// pgoutput builds messages as Postgres sends them.
type pgoutput []byte

func (b pgoutput) byte(c byte) pgoutput     { return append(b, c) }
func (b pgoutput) int16(n uint16) pgoutput  { return binary.BigEndian.AppendUint16(b, n) }
func (b pgoutput) int32(n uint32) pgoutput  { return binary.BigEndian.AppendUint32(b, n) }
func (b pgoutput) int64(n uint64) pgoutput  { return binary.BigEndian.AppendUint64(b, n) }
func (b pgoutput) text(s string) pgoutput   { return append(append(b, s...), 0) }
func (b pgoutput) column(s string) pgoutput { return append(b.byte('t').int32(uint32(len(s))), s...) }

func relationMessage(id uint32, names ...string) pgoutput {
	b := pgoutput{}.byte('R').int32(id).text("public").text("outbox").byte('d').int16(uint16(len(names)))
	for _, n := range names {
		b = b.byte(0).text(n).int32(25).int32(0)
	}
	return b
}

func insertMessage(id uint32, values ...string) pgoutput {
	b := pgoutput{}.byte('I').int32(id).byte('N').int16(uint16(len(values)))
	for _, v := range values {
		if v == "null" {
			b = b.byte('n')
			continue
		}
		b = b.column(v)
	}
	return b
}

func beginMessage(lsn uint64) pgoutput { return pgoutput{}.byte('B').int64(lsn).int64(0).int32(1) }

func TestDecode(t *testing.T) {
	d := newDecoder("restock:s")
	// Not the order of the constant columns, with one that is not needed.
	names := []string{"note", "body", "id", "day", "type", "seq", "message_group", "subject", "attributes", "created_at", "traceparent"}
	values := []string{
		"x", `{"a":1}`, "01938f5e-0000-7000-8000-000000000001", "2026-11-22", "order.placed", "7", "g", "null",
		`{"eventType":{"type":"String","value":"order.placed"}}`, "2026-11-22 10:00:00+00", "null",
	}
	c, err := d.decode(beginMessage(100))
	require.NoError(t, err)
	require.Equal(t, changeBegin, c.kind)
	require.Equal(t, pglogrepl.LSN(100), c.lsn)
	_, err = d.decode(relationMessage(16400, names...))
	require.NoError(t, err)
	for i := range 2 {
		c, err = d.decode(insertMessage(16400, values...))
		require.NoError(t, err)
		require.Equal(t, changeEvent, c.kind)
		require.Equal(t, Position{100, i}, c.entry.position)
	}
	e, err := c.entry.event()
	require.NoError(t, err)
	require.Equal(t, uuid.MustParse("01938f5e-0000-7000-8000-000000000001"), e.ID)
	require.Equal(t, "2026-11-22", e.Day.Format(time.DateOnly))
	require.Equal(t, int64(7), e.Seq)
	require.Equal(t, "order.placed", e.Type)
	require.Empty(t, e.Subject)
	require.Equal(t, `{"sequence":"0000000000000000007","a":1}`, e.Body)

	c, err = d.decode(pgoutput{}.byte('C').byte(0).int64(100).int64(150).int64(0))
	require.NoError(t, err)
	require.Equal(t, changeEnd, c.kind)
	require.Equal(t, pglogrepl.LSN(150), c.lsn)
}

func TestDecodeRefuses(t *testing.T) {
	_, err := newDecoder("restock:s").decode(insertMessage(1, "x"))
	require.ErrorContains(t, err, "came before its description")

	d := newDecoder("restock:s")
	_, err = d.decode(relationMessage(1, "id", "body"))
	require.NoError(t, err)
	_, err = d.decode(insertMessage(1, "x", "y"))
	require.ErrorContains(t, err, "add it, or publish the outbox table")

	d = newDecoder("restock:s")
	_, err = d.decode(relationMessage(1, columns[:]...))
	require.NoError(t, err)
	_, err = d.decode(insertMessage(1, "2026-11-22"))
	require.ErrorContains(t, err, "has 1 columns")
	values := []string{"2026-11-22", "42", "7", "t", "g", "null", "{}", "{}", "null"}
	_, err = d.decode(insertMessage(1, values...))
	require.ErrorContains(t, err, "decode a row of public.outbox: column id")
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(beginMessage(1)))
	f.Add([]byte(relationMessage(1, columns[:]...)))
	f.Add([]byte(insertMessage(1, "2026-11-22", "01938f5e-0000-7000-8000-000000000001", "7", "t", "g", "null", "{}", "{}", "null")))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := newDecoder("restock:s")
		_, err := d.decode(relationMessage(1, columns[:]...))
		require.NoError(t, err)
		c, err := d.decode(data)
		if err != nil || c.kind != changeEvent {
			return
		}
		event, err := c.entry.event()
		if err == nil {
			require.NoError(t, event.Validate())
		}
	})
}
