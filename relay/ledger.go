package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// origin tells positions of one server's history from those of another.
type origin struct {
	system   string
	timeline int32
}

// ledger is the durable record of what was published or parked, and of how far
// that record can reach.
type ledger struct {
	pool    *pgxpool.Pool
	slot    string
	relay   string // the slot that the relay was started with
	shard   Shard
	table   pgx.Identifier // the outbox, as it is published
	origin  origin
	backoff service.Backoff
	metrics *metrics
	// parkedOnly leaves out what was published.
	parkedOnly bool
	promise    promise
	failed     func(error)  // told of each failed try
	held       func() error // as guard.held
}

// visit bounds one visit to the database. Where the server is gone without a word,
// the next try finds another.
const visit = 20 * time.Second

// recorded returns which of the events are in the ledger.
func (l *ledger) recorded(ctx context.Context, entries []*entry) (map[uuid.UUID]bool, error) {
	days := make([]time.Time, len(entries))
	ids := make([]uuid.UUID, len(entries))
	for i, e := range entries {
		days[i], ids[i] = e.day, e.id
	}
	ctx, cancel := context.WithTimeout(ctx, visit)
	defer cancel()
	rows, err := l.pool.Query(ctx,
		`SELECT event_id FROM ledger WHERE (day, event_id) IN (SELECT * FROM unnest($1::date[], $2::uuid[]))`, days, ids)
	if err != nil {
		return nil, fmt.Errorf("look events up in the ledger: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("look events up in the ledger: %w", err)
	}
	set := make(map[uuid.UUID]bool, len(found))
	for _, id := range found {
		set[id] = true
	}
	return set, nil
}

// record makes what became of the entries durable, trying until it has or ctx ends. What
// is parked is written only while the lock is surely held: by one who has lost it, the next
// relay would be told to hold back what it has in its lanes.
func (l *ledger) record(ctx context.Context, entries []*entry) error {
	if l.parkedOnly {
		entries = slices.DeleteFunc(slices.Clone(entries), (*entry).newlyPublished)
	}
	if len(entries) == 0 {
		return nil
	}
	var lost error
	err := service.Retry(ctx, l.backoff, func(ctx context.Context) error {
		start := time.Now()
		var err error
		if slices.ContainsFunc(entries, (*entry).parks) {
			if err = l.held(); errors.Is(err, errLockLost) {
				lost, entries = err, slices.DeleteFunc(slices.Clone(entries), (*entry).parks)
				err = nil
			}
		}
		if err == nil {
			err = l.write(ctx, entries)
		}
		if schema.IsMissingPartition(err) {
			if err = schema.EnsurePartitions(ctx, l.pool); err == nil {
				err = withoutDay(l.write(ctx, entries))
			}
		}
		if err != nil {
			l.metrics.ledgerFailures.Inc()
			l.failed(err)
			return err
		}
		l.metrics.ledgerSeconds.Observe(time.Since(start).Seconds())
		return nil
	})
	if err == nil {
		err = lost
	}
	return err
}

// withoutDay says the mend where an event has a day that is far from today. No outbox of
// ours takes one, because it has no such partition either.
func withoutDay(err error) error {
	var pg *pgconn.PgError
	if !schema.IsMissingPartition(err) || !errors.As(err, &pg) {
		return err
	}
	return fmt.Errorf("%w: %s An event's day is the UTC day on which it commits. To go on, as the owner: "+
		"CREATE TABLE … PARTITION OF ledger FOR VALUES FROM (that day) TO (the next), and one of parked, and keep such rows out by a CHECK", err, pg.Detail)
}

// write makes rows, parked rows and watermark durable in one transaction. Rows that
// are there already, which another relay wrote that has woken up late, are left as
// they are; COPY, which cannot, is for where it pays, and then tried first.
func (l *ledger) write(ctx context.Context, entries []*entry) error {
	ctx, cancel := context.WithTimeout(ctx, visit)
	defer cancel()
	published := slices.DeleteFunc(slices.Clone(entries), func(e *entry) bool { return !e.newlyPublished() })
	var err error
	copying := len(published) >= copyFrom
	if copying {
		err = l.copy(ctx, entries, published)
	}
	var pg *pgconn.PgError
	if !copying || errors.As(err, &pg) && pg.Code == "23505" {
		err = l.insert(ctx, entries, published)
	}
	if err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	return nil
}

// newlyPublished tells an entry of which a ledger row is all there is to write: it was
// published, and was neither parked before nor is it of a replay.
func (e *entry) newlyPublished() bool { return e.parked == nil && e.release == nil && e.item == nil }

// parks tells an entry that becomes parked, or parked once more.
func (e *entry) parks() bool { return e.parked != nil && e.item == nil }

// insert sends everything in one round trip: without BEGIN a batch is one transaction.
func (l *ledger) insert(ctx context.Context, entries, published []*entry) error {
	batch := &pgx.Batch{}
	queuePublished(batch, published)
	promised := l.queueOthers(batch, entries)
	if err := l.pool.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	l.promise.given(promised)
	return nil
}

// queueOthers queues all that is written along with what was published.
func (l *ledger) queueOthers(batch *pgx.Batch, entries []*entry) (promised pglogrepl.LSN) {
	queueGroupLocks(batch, entries)
	queueParked(batch, entries)
	queueReleased(batch, entries)
	queueParkedGroups(batch, entries)
	l.queueReplayed(batch, entries)
	return l.queueWatermark(batch, entries)
}

// rows are ledger rows of one day, as the arrays that go over the wire.
type rows struct {
	ids       []pgtype.UUID
	messages  []string
	sequences []string
}

func queuePublished(batch *pgx.Batch, published []*entry) {
	days := make(map[time.Time]*rows, 1)
	for _, e := range published {
		r := days[e.day]
		if r == nil {
			r = &rows{}
			days[e.day] = r
		}
		r.ids = append(r.ids, pgtype.UUID{Bytes: e.id, Valid: true})
		r.messages = append(r.messages, e.messageID)
		r.sequences = append(r.sequences, e.sequenceNumber)
	}
	for day, r := range days {
		batch.Queue(`INSERT INTO ledger (day, event_id, outcome, message_id, sequence_number)
			SELECT $1, event_id, 'published', message_id, sequence_number
			FROM unnest($2::uuid[], $3::text[], $4::text[]) AS r (event_id, message_id, sequence_number) ON CONFLICT DO NOTHING`,
			day, r.ids, r.messages, r.sequences)
	}
}

// storable is s as Postgres takes it: a reason that quotes odd bytes must not
// keep the ledger from being written.
func storable(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "?"), "?")
}
