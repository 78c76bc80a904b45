package relay

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"

	"github.com/restock-dev/restock/internal/service"
)

// skipRecorded passes changes on and marks the events that the ledger holds already,
// or that are left of a sweep and are in the lanes, until in is closed or ctx ends. Only
// events at or below upTo are looked up: above it nothing was ever recorded or swept.
// What is recorded of left meanwhile stays in it, so that no moment is between the two.
func (l *ledger) skipRecorded(ctx context.Context, upTo pglogrepl.LSN, left map[uuid.UUID]bool, in <-chan []change, out chan<- []change) {
	defer close(out)
	for chunk := range in {
		if known := atOrBelow(chunk, upTo); len(known) > 0 {
			if l.mark(ctx, known, left) != nil {
				return // ctx ended: these are read again by the next session
			}
		}
		select {
		case out <- chunk:
		case <-ctx.Done():
			return
		}
	}
}

func atOrBelow(chunk []change, upTo pglogrepl.LSN) []*entry {
	var known []*entry
	for _, c := range chunk {
		if c.kind == changeEvent && c.entry.position.Commit <= upTo {
			known = append(known, c.entry)
		}
	}
	return known
}

func (l *ledger) mark(ctx context.Context, entries []*entry, left map[uuid.UUID]bool) error {
	return service.Retry(ctx, l.backoff, func(ctx context.Context) error {
		recorded, err := l.recorded(ctx, entries)
		if err != nil {
			l.failed(err)
			return err
		}
		for _, e := range entries {
			e.recorded = recorded[e.id] || left[e.id]
		}
		return nil
	})
}
