package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// slotState is the slot as the server shows it.
type slotState struct {
	exists    bool
	plugin    string
	database  string
	lost      string // why it is of no use any more
	confirmed pglogrepl.LSN
}

// usable tells whether a relay can go on with it.
func (s slotState) usable() bool { return s.exists && s.lost == "" }

// found is all that a relay goes by when it begins.
type found struct {
	database    string // the one that it is connected to
	origin      origin
	slot        slotState
	mark        watermark
	publication publicationID
	emptyLedger bool
	// stale says what of the slot's WAL this relay has found that it cannot read.
	stale string
	// younger tells that the publication may be younger than the slot: rows from before
	// it never come, and newer servers do not even say so.
	younger bool
}

// remedy is what must be done before the stream may go on. The zero value is nothing.
type remedy struct {
	sweep    string // why rows may have gone past the slot
	newSlot  bool
	newTable bool // the rows of the one before are gone
}

// find reads it all. What it reads on conn, which is for replication, no other
// connection knows for sure.
func (r *Relay) find(ctx context.Context, cfg Config, db *pgx.Conn, conn *pgconn.PgConn, p publication) (f found, err error) {
	server, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return f, fmt.Errorf("identify the server: %w", err)
	}
	f = found{database: server.DBName, origin: origin{server.SystemID, server.Timeline}, publication: p.id, stale: r.stale}
	if f.slot, err = readSlot(ctx, db, cfg.Slot); err != nil {
		return f, err
	}
	if f.mark, err = readWatermark(ctx, db, cfg.Slot); err != nil {
		return f, err
	}
	if f.mark.publication == "" && f.slot.exists { // never used by a relay
		if f.younger, err = publicationYounger(ctx, db, cfg.shard); err != nil {
			return f, err
		}
	}
	if err := db.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM ledger)`).Scan(&f.emptyLedger); err != nil {
		return f, fmt.Errorf("look at the ledger: %w", err)
	}
	return f, nil
}

// publicationYounger tells whether a shard's publication may be younger than its slot, which
// no relay has used yet, so that its catalog_xmin is that of its making, or older where
// another slot of the cluster lagged then.
func publicationYounger(ctx context.Context, db *pgx.Conn, s Shard) (younger bool, err error) {
	err = db.QueryRow(ctx, `SELECT coalesce((SELECT age(p.xmin) <= age(s.catalog_xmin) FROM pg_publication p, pg_replication_slots s
		WHERE p.pubname = $1 AND s.slot_name = $2), false)`, s.Publication, s.Slot).Scan(&younger)
	if err != nil {
		return false, fmt.Errorf("compare slot and publication: %w", err)
	}
	return younger, nil
}

// decide says what has happened to the slot since the relay last ran, and what is
// to be done about it. It is pure.
func (f found) decide(cfg Config) (remedy, error) {
	if f.slot.exists && (f.slot.plugin != "pgoutput" || f.slot.database != f.database) {
		return remedy{}, refusal("replication slot %s is for plugin %q and database %q, not pgoutput and %q: choose another name",
			cfg.Slot, f.slot.plugin, f.slot.database, f.database)
	}
	r := f.diagnose()
	switch {
	case r.sweep == "":
		return r, nil
	case !f.slot.usable() && f.emptyLedger && f.mark.sweep == "":
		return r, refusal("slot %s: %s, and the ledger is empty, so that nothing tells what is published: run restock migrate", cfg.Slot, r.sweep)
	case f.younger && f.emptyLedger && f.mark.sweep == "":
		return r, refusal("slot %[1]s: %[2]s, and the ledger is empty, so that nothing tells what is published: SELECT pg_drop_replication_slot('%[1]s') and run restock migrate", cfg.Slot, r.sweep)
	case cfg.WithoutLedger:
		return r, refusal("slot %s: %s, and without a ledger nothing tells what is published: run the relay once with it", cfg.Slot, r.sweep)
	}
	return r, nil
}

func (f found) diagnose() remedy {
	r := f.cause()
	was := f.mark.publication
	r.newTable = was != "" && was.table() != f.publication.table()
	return r
}

func (f found) cause() remedy {
	was := f.mark.publication
	switch {
	case !f.slot.exists:
		return remedy{sweep: f.because("the slot does not exist"), newSlot: true}
	case f.slot.lost != "":
		return remedy{sweep: f.because("the slot is invalid (" + f.slot.lost + ")"), newSlot: true}
	case f.stale != "":
		return remedy{sweep: f.because("the slot cannot be read on: " + f.stale), newSlot: true}
	case f.younger:
		return remedy{sweep: f.because("the slot may be older than the publication"), newSlot: true}
	case !f.mark.known && f.emptyLedger: // the first start
		return remedy{}
	case !f.mark.known:
		return remedy{sweep: "the slot is not known, and others have published", newSlot: true}
	case was != "" && was.oid() != f.publication.oid():
		return remedy{sweep: f.because("the publication was made anew"), newSlot: true}
	case !f.moved() && f.mark.promised != 0 && f.slot.confirmed > f.mark.promised:
		return remedy{sweep: f.because(fmt.Sprintf("the slot was made anew or moved by another hand (it is at %s, its relay was not past %s)",
			f.slot.confirmed, f.mark.promised)), newSlot: true}
	case f.mark.sweep != "": // the slot was made after that was written
		return remedy{sweep: f.mark.sweep}
	case f.moved():
		return remedy{sweep: f.because("the database was restored or failed over")}
	case was != "" && was.table() != f.publication.table():
		return remedy{sweep: "the outbox table was made anew"}
	case was != "" && was != f.publication:
		return remedy{sweep: "the publication was changed"}
	}
	return remedy{}
}

// behind is an error where something has happened to the slot during a sweep, of which
// so many events are left.
func (f found) behind(swept origin, left int) error {
	now := f.diagnose()
	if f.origin != swept || now.newSlot || now.sweep != "" && left == 0 {
		return errors.New("the slot or its server changed during a sweep: sweeping again")
	}
	return nil
}

// moved tells that positions of today do not compare with those remembered.
func (f found) moved() bool { return f.mark.origin != origin{} && f.mark.origin != f.origin }

// because keeps the first cause of a sweep that is not done yet.
func (f found) because(reason string) string {
	switch {
	case f.mark.sweep != "":
		return f.mark.sweep
	case f.moved():
		return fmt.Sprintf("%s, on timeline %d of system %s and before on %d of %s", reason,
			f.origin.timeline, f.origin.system, f.mark.origin.timeline, f.mark.origin.system)
	}
	return reason
}

// staleError is WAL that this slot can never bring: from when the table had not the
// columns that the relay needs, or the publication had another name. A slot decodes with
// the catalog of its own past, and what was wrong then is not mended by what is right now.
type staleError struct{ error }

func (e *staleError) Unwrap() error { return e.error }

// asStale recognizes it in what the decoder says, or the server: that there is no such
// publication, which is asked for before a session and was there.
func asStale(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, new(*RefusedError)) || errors.As(err, &pg) && pg.Code == "42704" {
		return &staleError{err}
	}
	return err
}
