package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// copyFrom is how many rows are worth the round trips that COPY has more than an
// insert. It writes a quarter less WAL, in a record for many rows and not for each, which
// the slot has to pass over.
const copyFrom = 100

// copy writes the published entries with COPY, and the others along with them.
func (l *ledger) copy(ctx context.Context, entries, published []*entry) error {
	var promised pglogrepl.LSN
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		_, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(copyRows(published)),
			`COPY ledger (day, event_id, outcome, message_id, sequence_number) FROM STDIN (FORMAT binary)`)
		if err != nil {
			return err
		}
		batch := &pgx.Batch{}
		if promised = l.queueOthers(batch, entries); batch.Len() == 0 {
			return nil
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	if err == nil {
		l.promise.given(promised)
	}
	return err
}

// copyRows is the entries' ledger rows in COPY's binary format.
// https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9.4
func copyRows(published []*entry) []byte {
	const row = 2 + 5*4 + 4 + 16 + len(outcomePublished) + 36 + 20
	data := make([]byte, 0, 32+row*len(published))
	data = append(data, "PGCOPY\n\xff\r\n\x00"...)
	data = append(data, 0, 0, 0, 0, 0, 0, 0, 0) // no flags, no more header
	for _, e := range published {
		data = binary.BigEndian.AppendUint16(data, 5)
		data = binary.BigEndian.AppendUint32(data, 4)
		data = binary.BigEndian.AppendUint32(data, uint32(e.day.Sub(postgresEpoch)/(24*time.Hour)))
		data = binary.BigEndian.AppendUint32(data, uint32(len(e.id)))
		data = append(data, e.id[:]...)
		for _, text := range [...]string{outcomePublished, e.messageID, e.sequenceNumber} {
			data = binary.BigEndian.AppendUint32(data, uint32(len(text)))
			data = append(data, text...)
		}
	}
	return binary.BigEndian.AppendUint16(data, 0xffff)
}

const outcomePublished = "published"
