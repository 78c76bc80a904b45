package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// What is committed while the shards change: by so many writers, a transaction of one event
// for each of so many groups every so often.
const (
	changeWriters = 4
	changeGroups  = 10
	changeEvery   = 20 * time.Millisecond
)

// records takes what all relays publish, each call after serviceTime.
type records struct {
	mu      sync.Mutex
	calls   int
	order   map[string][]uuid.UUID
	last    time.Time
	longest time.Duration // between two events
}

func (r *records) Publish(_ context.Context, events []schema.Event) ([]relay.Result, error) {
	nap(serviceTime)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if !r.last.IsZero() {
		r.longest = max(r.longest, now.Sub(r.last))
	}
	r.last = now
	r.calls++
	for _, e := range events {
		r.order[e.Group] = append(r.order[e.Group], e.ID)
	}
	return make([]relay.Result, len(events)), nil
}

// gap is the longest time without an event since it was last asked for.
func (r *records) gap() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	longest := r.longest
	r.longest = 0
	return longest
}

// changes takes the outbox from 1 shard to 2, to 4 and back while events are committed.
func (f *fleet) changes(ctx context.Context) (bool, error) {
	seen := &records{order: map[string][]uuid.UUID{}}
	stop, err := f.start(ctx, 5, 16, seen)
	if err != nil {
		return false, err
	}
	defer func() { _ = stop() }()
	if err := f.change(ctx, 1); err != nil {
		return false, err
	}
	writing, stopWriting := context.WithCancel(ctx)
	defer stopWriting()
	written := make([]map[string][]uuid.UUID, changeWriters)
	failed := make(chan error, changeWriters)
	for w := range written {
		written[w] = map[string][]uuid.UUID{}
		go func() { failed <- f.write(ctx, writing, w, written[w]) }()
	}
	time.Sleep(3 * time.Second) // at an even pace
	steady := seen.gap()
	var pauses []float64
	began := time.Now()
	for _, n := range []int{2, 4, 2, 1} {
		if err := f.change(ctx, n); err != nil {
			return false, err
		}
		time.Sleep(3 * time.Second) // all of them streaming
		pauses = append(pauses, float64(seen.gap().Milliseconds()))
	}
	took := time.Since(began)
	stopWriting()
	for range written {
		if err := <-failed; err != nil {
			return false, err
		}
	}
	for left := 1; left > 0; time.Sleep(20 * time.Millisecond) {
		if left, err = ask[int](ctx, f.pg.DSN(f.database), `SELECT count(*) FROM outbox o WHERE NOT EXISTS (SELECT FROM ledger l WHERE l.day = o.day AND l.event_id = o.id)`); err != nil {
			return false, err
		}
	}
	return tell(written, seen, took, steady, pauses), nil
}

// write commits an event for each of a writer's groups again and again, and notes them in
// the order of their commits.
func (f *fleet) write(ctx, writing context.Context, w int, written map[string][]uuid.UUID) error {
	conn, err := pgx.Connect(ctx, f.pg.DSN(f.database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	ticker := time.NewTicker(changeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-writing.Done():
			return nil
		case <-ticker.C:
		}
		batch := &pgx.Batch{} // one transaction
		all := events()
		for i := range changeGroups {
			e := all[i]
			e.Group = fmt.Sprintf("writer-%d-%d", w, i)
			batch.Queue(`SELECT append_event($1, $2, $3, $4, $5, $6, $7)`, e.AppendArgs()...)
			written[e.Group] = append(written[e.Group], e.ID)
		}
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
	}
}

// tell holds what was published against what was committed.
func tell(written []map[string][]uuid.UUID, published *records, took, steady time.Duration, pauses []float64) bool {
	committed, lost, doubled, inverted := 0, 0, 0, 0
	for _, of := range written {
		for group, ids := range of {
			committed += len(ids)
			place := map[uuid.UUID]int{}
			for i, id := range ids {
				place[id] = i
			}
			seen, last := map[uuid.UUID]bool{}, -1
			for _, id := range published.order[group] {
				if seen[id] {
					doubled++
				}
				if seen[id] = true; place[id] < last {
					inverted++
				}
				last = place[id]
			}
			lost += len(ids) - len(seen)
		}
	}
	figure.Print(os.Stdout, "relay_shards_change_1_2_4_2_1_took", "s", figure.Goal{}, took.Seconds())
	figure.Print(os.Stdout, "relay_shards_change_events_committed", "count", figure.Goal{}, float64(committed))
	ok := figure.Print(os.Stdout, "relay_shards_change_lost", "count", figure.AtMost(0), float64(lost))
	ok = figure.Print(os.Stdout, "relay_shards_change_doubled", "count", figure.AtMost(0), float64(doubled)) && ok
	ok = figure.Print(os.Stdout, "relay_shards_change_inverted", "count", figure.AtMost(0), float64(inverted)) && ok
	figure.Print(os.Stdout, "relay_shards_change_publish_calls", "calls/million-events", figure.Goal{}, float64(published.calls)*1e6/float64(committed))
	figure.Print(os.Stdout, "relay_shards_longest_pause_before", "ms", figure.Goal{}, float64(steady.Milliseconds()))
	figure.Print(os.Stdout, "relay_shards_longest_pause_of_a_change", "ms", figure.Goal{}, pauses...)
	return ok
}
