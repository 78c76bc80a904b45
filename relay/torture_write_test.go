package relay_test

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/internal/service"
)

// write carries a transaction out and notes what is surely committed and what
// surely is not. Where Postgres dies over a commit it is neither, and the outbox
// tells in the end.
func (o *ordeal) write(tx transaction) {
	kept, undone := tx.ids()
	ctx, cancel := context.WithTimeout(o.ctx, patience)
	defer cancel()
	db, err := o.begin(ctx)
	if err != nil {
		o.note(err)
		return
	}
	defer db.Rollback(ctx)
	o.history.note(o.history.undone, undone)
	if err := db.SendBatch(ctx, tx.batch()).Close(); err != nil || !tx.commits {
		o.history.note(o.history.undone, kept)
		o.noteUnlessKilled(err)
		return
	}
	if err := db.Commit(ctx); err != nil {
		o.noteUnlessKilled(err)
		return
	}
	o.history.note(o.history.acked, kept)
}

// begin opens a transaction, as soon as Postgres is there.
func (o *ordeal) begin(ctx context.Context) (db pgx.Tx, err error) {
	err = service.Retry(ctx, service.Backoff{Initial: time.Millisecond, Max: 50 * time.Millisecond}, func(ctx context.Context) (err error) {
		db, err = o.pool.Begin(ctx)
		return err
	})
	return db, err
}

func (o *ordeal) noteUnlessKilled(err error) {
	if !o.schedule.killsPostgres() {
		o.note(err)
	}
}

func (t transaction) ids() (kept, undone []uuid.UUID) {
	for _, s := range t.steps {
		for _, e := range s.events {
			if s.undone {
				undone = append(undone, e.ID)
			} else {
				kept = append(kept, e.ID)
			}
		}
	}
	return kept, undone
}

// batch is the transaction in one round trip. Locks are taken in order, so that
// writers do not wait for each other in a circle.
func (t transaction) batch() *pgx.Batch {
	batch := &pgx.Batch{}
	for _, group := range t.lockedGroups() {
		batch.Queue(`SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, group)
	}
	for _, s := range t.steps {
		if s.undone {
			batch.Queue(`SAVEPOINT before`)
		}
		for _, e := range s.events {
			batch.Queue(`SELECT append_event($1, $2, $3, $4, $5, $6, $7)`, e.AppendArgs()...)
		}
		if s.undone {
			batch.Queue(`ROLLBACK TO SAVEPOINT before`)
		}
	}
	return batch
}
