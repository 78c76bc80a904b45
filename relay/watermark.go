package relay

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/schema"
)

// watermark is what is remembered of a slot.
type watermark struct {
	known       bool
	origin      origin        // of its positions; zero where no relay has run yet
	recorded    pglogrepl.LSN // above it no row was ever recorded
	promised    pglogrepl.LSN // above it nothing was ever confirmed; 0 if that is not known
	publication publicationID // "" if that is not known
	sweep       string        // why a sweep is due; "" if none is
}

func readWatermark(ctx context.Context, conn *pgx.Conn, slot string) (watermark, error) {
	w := watermark{known: true}
	err := conn.QueryRow(ctx, `SELECT system_identifier, timeline, recorded_lsn::text, coalesce(confirm_lsn, '0/0')::text, coalesce(publication, ''), coalesce(sweep, '')
		FROM watermarks WHERE slot = $1`, slot).Scan(&w.origin.system, &w.origin.timeline, &w.recorded, &w.promised, &w.publication, &w.sweep)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return watermark{}, nil
	case err != nil:
		return watermark{}, fmt.Errorf("read the watermark: %w", err)
	}
	return w, nil
}

// promise is the position up to which Postgres may be told that it was confirmed.
// It is durable before that, so that a slot which has confirmed more was moved, or
// made anew, by somebody else, and has passed over what was committed meanwhile.
type promise struct {
	wanted func() pglogrepl.LSN // what could be confirmed
	lsn    atomic.Uint64
}

// given notes that lsn is durable.
func (p *promise) given(lsn pglogrepl.LSN) {
	for {
		was := p.lsn.Load()
		if was >= uint64(lsn) || p.lsn.CompareAndSwap(was, uint64(lsn)) {
			return
		}
	}
}

// confirmed is the position that Postgres may be told.
func (p *promise) confirmed() pglogrepl.LSN {
	return min(p.wanted(), pglogrepl.LSN(p.lsn.Load()))
}

// queueWatermark raises the watermark along with the ledger, and returns what it promises.
func (l *ledger) queueWatermark(batch *pgx.Batch, entries []*entry) pglogrepl.LSN {
	var highest pglogrepl.LSN
	for _, e := range entries {
		highest = max(highest, e.position.Commit)
	}
	if highest == 0 { // none of them came by the stream
		return 0
	}
	promised := l.promise.wanted()
	batch.Queue(`INSERT INTO watermarks AS w (slot, system_identifier, timeline, recorded_lsn, confirm_lsn)
		VALUES ($1, $2, $3, $4::text::pg_lsn, $5::text::pg_lsn)
		ON CONFLICT (slot) DO UPDATE SET system_identifier = $2, timeline = $3, recorded_at = now(),
			recorded_lsn = greatest(w.recorded_lsn, excluded.recorded_lsn), confirm_lsn = greatest(w.confirm_lsn, excluded.confirm_lsn)`,
		l.slot, l.origin.system, l.origin.timeline, highest.String(), promised.String())
	return promised
}

// keepPromise makes durable what could be confirmed now.
func (l *ledger) keepPromise(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, visit)
	defer cancel()
	promised := l.promise.wanted()
	_, err := l.pool.Exec(ctx, `UPDATE watermarks SET confirm_lsn = greatest(confirm_lsn, $2::text::pg_lsn) WHERE slot = $1`, l.slot, promised.String())
	if err != nil {
		return fmt.Errorf("write the watermark: %w", err)
	}
	l.promise.given(promised)
	return nil
}

// begin remembers what a stream begins with.
func (l *ledger) begin(ctx context.Context, confirmed pglogrepl.LSN, id publicationID) error {
	_, err := l.pool.Exec(ctx, `INSERT INTO watermarks AS w (slot, system_identifier, timeline, confirm_lsn, publication)
		VALUES ($1, $2, $3, $4::text::pg_lsn, $5)
		ON CONFLICT (slot) DO UPDATE SET system_identifier = $2, timeline = $3, publication = $5,
			confirm_lsn = greatest(w.confirm_lsn, excluded.confirm_lsn)`,
		l.slot, l.origin.system, l.origin.timeline, confirmed.String(), string(id))
	if err != nil {
		return fmt.Errorf("write the watermark: %w", err)
	}
	return nil
}

// The steps of a sweep, so that one which is cut short at any moment is done again: it
// is due, a slot stands behind which nothing is missed, all of it is under way and the
// stream may begin beside it, it is done.

func sweepDue(ctx context.Context, db schema.Execer, slot, why string) error {
	_, err := db.Exec(ctx, `INSERT INTO watermarks (slot, system_identifier, timeline, sweep) VALUES ($1, '', 0, $2)
		ON CONFLICT (slot) DO UPDATE SET sweep = $2`, slot, why)
	if err != nil {
		return fmt.Errorf("note that a sweep is due: %w", err)
	}
	return nil
}

// sweepFrom notes where the slot stands from now on.
func sweepFrom(ctx context.Context, db schema.Execer, slot string, id publicationID) error {
	_, err := db.Exec(ctx, `UPDATE watermarks w SET publication = $2, confirm_lsn = s.confirmed_flush_lsn
		FROM pg_replication_slots s WHERE s.slot_name = w.slot AND w.slot = $1`, slot, string(id))
	if err != nil {
		return fmt.Errorf("note the slot of a sweep: %w", err)
	}
	return nil
}

// sweptUpTo notes that whatever the sweep publishes was committed at or below upTo, so
// that the stream looks up what it brings of that.
func (l *ledger) sweptUpTo(ctx context.Context, upTo pglogrepl.LSN) error {
	_, err := l.pool.Exec(ctx, `UPDATE watermarks SET system_identifier = $2, timeline = $3, recorded_at = now(),
		recorded_lsn = greatest($4::text::pg_lsn, CASE WHEN system_identifier = $2 AND timeline = $3 THEN recorded_lsn END) WHERE slot = $1`,
		l.slot, l.origin.system, l.origin.timeline, upTo.String())
	if err != nil {
		return fmt.Errorf("note how far a sweep reaches: %w", err)
	}
	return nil
}

// sweepDone notes that the ledger holds all of it.
func (l *ledger) sweepDone(ctx context.Context) error {
	if _, err := l.pool.Exec(ctx, `UPDATE watermarks SET sweep = NULL WHERE slot = $1`, l.slot); err != nil {
		return fmt.Errorf("note that a sweep is done: %w", err)
	}
	return nil
}
