package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// sweep reads the outbox rows that are absent from the ledger, in the order of seq:
// what a slot that was lost can never bring. Its one snapshot is taken when a slot
// stands and all that it has gone past is visible, so that whatever the snapshot does not see is brought by that slot. Only
// keys are sorted; rows are read a few at a time, when there is room for them.
type sweep struct {
	pool     *pgxpool.Pool
	table    pgx.Identifier
	shard    Shard
	newTable bool // the rows of the one before are gone, and to be counted
	window   *window
	out      chan<- []change
	begun    func(missed) // told once, before the first row
}

// missed is what a sweep has found.
type missed struct {
	events int
	age    time.Duration // of the oldest
	gone   int           // rows of the ledger without an event
	upTo   pglogrepl.LSN // all that the snapshot sees was committed below
}

const (
	// sweepEvents and sweepBytes bound what is read at once.
	sweepEvents = chunkEvents
	sweepBytes  = 4 << 20
	// sweepOverhead is what a row takes beside its body and attributes.
	sweepOverhead = entryOverhead + 512
)

// run hands the rows on, and returns when all of them are taken.
func (s *sweep) run(ctx context.Context) (missed, error) {
	defer close(s.out)
	var found missed
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var err error
		if found.upTo, err = s.open(ctx, tx); err != nil {
			return err
		}
		keys, err := fetchMissing(ctx, tx)
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			found.events, found.age = keys[0].Total, time.Duration(keys[0].Age*float64(time.Second))
		}
		if s.newTable {
			err := tx.QueryRow(ctx, `SELECT count(*) FROM ledger l WHERE NOT EXISTS
				(SELECT FROM `+s.table.Sanitize()+` o WHERE o.day = l.day AND o.id = l.event_id)`).Scan(&found.gone)
			if err != nil {
				return err
			}
		}
		s.begun(found)
		for len(keys) > 0 && err == nil {
			if err = s.handOn(ctx, tx, keys); err == nil {
				keys, err = fetchMissing(ctx, tx)
			}
		}
		return err
	})
	if err != nil {
		return found, fmt.Errorf("sweep the outbox: %w", err)
	}
	return found, nil
}

// open takes the snapshot and declares the cursor over what is missing.
func (s *sweep) open(ctx context.Context, tx pgx.Tx) (upTo pglogrepl.LSN, err error) {
	// The transaction waits for the publisher, however long that takes, and the
	// cursor is read to its end.
	for _, setting := range []string{"statement_timeout = 0", "idle_in_transaction_session_timeout = 0", "cursor_tuple_fraction = 1", "enable_partitionwise_join = on"} {
		if _, err := tx.Exec(ctx, "SET LOCAL "+setting); err != nil {
			return 0, err
		}
	}
	// The first query takes the snapshot, and evaluates the function after that. One more
	// time-out is known from Postgres 17 on.
	if err := tx.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text,
		(SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout')`).Scan(&upTo, nil); err != nil {
		return 0, err
	}
	missing, err := missingQuery(ctx, tx, s.table, s.shard)
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `DECLARE missing NO SCROLL CURSOR FOR `+missing)
	return upTo, err
}

// missingQuery asks for the keys of the rows that the ledger does not hold.
func missingQuery(ctx context.Context, db querier, table pgx.Identifier, shard Shard) (string, error) {
	at, err := committedAt(ctx, db, table)
	if err != nil {
		return "", err
	}
	within := ""
	if !shard.whole() { // rows from before there were buckets have none
		within = fmt.Sprintf("coalesce(o.bucket, bucket_of(o.message_group)) BETWEEN %d AND %d AND ", shard.First, shard.Last)
	}
	// Not by (day, seq): a transaction that began before midnight and waited for its
	// group's lock has the older day and the higher seq.
	return `SELECT o.day, o.id, coalesce(octet_length(o.body::text), 0) + coalesce(octet_length(o.attributes::text), 0),
			count(*) OVER (), extract(epoch FROM clock_timestamp() - min(` + at + `) OVER ())::float8
		FROM ` + table.Sanitize() + ` o WHERE ` + within + `NOT EXISTS (SELECT FROM ledger l WHERE l.day = o.day AND l.event_id = o.id) ORDER BY o.seq`, nil
}

// committedAt is when a row o of the table was committed, in SQL.
func committedAt(ctx context.Context, db querier, table pgx.Identifier) (string, error) {
	rows, err := db.Query(ctx, `SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = $1::regclass AND attname = 'created_at' AND NOT attisdropped)`, table.Sanitize())
	if err != nil {
		return "", err
	}
	timed, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
	if !timed { // a table of somebody else's, who has no use for it
		return "o.day::timestamp AT TIME ZONE 'UTC'", err
	}
	return "o.created_at", err
}

// missingKey is a row's key and size. Each has the count and the age of all.
type missingKey struct {
	Day   time.Time
	ID    uuid.UUID
	Bytes int
	Total int
	Age   float64
}

func (k missingKey) memory() int { return k.Bytes + sweepOverhead }

func fetchMissing(ctx context.Context, tx pgx.Tx) ([]missingKey, error) {
	rows, err := tx.Query(ctx, fmt.Sprintf(`FETCH %d FROM missing`, sweepEvents))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[missingKey])
}

// handOn reads the rows of the keys, in pieces that the window has room for.
func (s *sweep) handOn(ctx context.Context, tx pgx.Tx, keys []missingKey) error {
	for len(keys) > 0 {
		n, memory := 1, keys[0].memory()
		for n < len(keys) && memory+keys[n].memory() <= min(sweepBytes, int(s.window.limit)/4) {
			memory += keys[n].memory()
			n++
		}
		if err := s.waitUntil(ctx, func() bool { return s.window.acquire(memory) }); err != nil {
			return err
		}
		chunk, err := s.read(ctx, tx, keys[:n])
		if err != nil {
			return err
		}
		select {
		case s.out <- chunk:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		keys = keys[n:]
	}
	return nil
}

// waitUntil asks again whenever the window has given something back.
func (s *sweep) waitUntil(ctx context.Context, happened func() bool) error {
	for !happened() {
		select {
		case <-s.window.freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// read reads rows of the table as the stream would bring them.
func (s *sweep) read(ctx context.Context, tx pgx.Tx, keys []missingKey) ([]change, error) {
	days, ids := make([]time.Time, len(keys)), make([]uuid.UUID, len(keys))
	for i, k := range keys {
		days[i], ids[i] = k.Day, k.ID
	}
	rows, err := tx.Query(ctx, `SELECT to_char(o.day, 'YYYY-MM-DD'), o.id::text, o.seq::text, o.type, o.message_group, o.subject, o.attributes::text, o.body::text, o.traceparent
		FROM unnest($1::date[], $2::uuid[]) WITH ORDINALITY k (day, id, n) JOIN `+s.table.Sanitize()+` o ON o.day = k.day AND o.id = k.id ORDER BY k.n`, days, ids)
	if err != nil {
		return nil, err
	}
	relation := &pglogrepl.RelationMessage{Namespace: s.table[0], RelationName: s.table[1]}
	for _, name := range columns {
		relation.Columns = append(relation.Columns, &pglogrepl.RelationMessageColumn{Name: name})
	}
	d := newDecoder("")
	d.tables[0] = newTable(relation)
	chunk := make([]change, 0, len(keys))
	for i := 0; rows.Next(); i++ {
		var v [columnCount]*string
		fields := make([]any, columnCount)
		for n := range v {
			fields[n] = &v[n]
		}
		if err := rows.Scan(fields...); err != nil {
			return nil, err
		}
		c, err := d.decode(insertOf(v))
		if err != nil {
			return nil, err
		}
		c.entry.memory = keys[i].memory()
		chunk = append(chunk, c)
	}
	if rows.Err() == nil && len(chunk) != len(keys) {
		return nil, fmt.Errorf("read %d rows of %d", len(chunk), len(keys))
	}
	return chunk, rows.Err()
}

// insertOf is pgoutput's message for a row of relation 0.
func insertOf(row [columnCount]*string) []byte {
	m := append([]byte("I\x00\x00\x00\x00N"), 0, columnCount)
	for _, v := range row {
		if v == nil {
			m = append(m, 'n')
			continue
		}
		m = binary.BigEndian.AppendUint32(append(m, 't'), uint32(len(*v)))
		m = append(m, *v...)
	}
	return m
}
