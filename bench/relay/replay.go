package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// replay measures, in turns, how fast the relay drains a backlog with its ledger and how
// fast it replays the same events without a rate, and what memory that takes. Both lead
// nowhere.
func replay(ctx context.Context, pg *localpg.Server, o options) (bool, error) {
	debug.SetGCPercent(400) // as restock relay has it by default
	if err := store(ctx, pg, "replay"); err != nil {
		return false, err
	}
	b, err := newBacklog(ctx, pg, "replay", "backlog_replay", o.Rows, 1)
	if err != nil {
		return false, err
	}
	if err := execute(ctx, pg.DSN("replay"), "ANALYZE outbox"); err != nil {
		return false, err
	}
	var drains, replays, selects, heaps []float64
	for range o.Rounds {
		const slot = "replay_turn"
		if err := b.copy(ctx, slot); err != nil {
			return false, err
		}
		began := time.Now()
		if err := drainRestock(asIs, withLedger)(ctx, b, slot); err != nil {
			return false, err
		}
		drains = append(drains, float64(b.rows)/time.Since(began).Seconds())
		selected, replayed, heap, err := replayOnce(ctx, b, slot)
		if err != nil {
			return false, err
		}
		selects, replays, heaps = append(selects, float64(b.rows)/selected.Seconds()), append(replays, float64(b.rows)/replayed.Seconds()), append(heaps, heap)
	}
	var ratios []float64
	for i := range drains {
		ratios = append(ratios, replays[i]/drains[i])
	}
	figure.Print(os.Stdout, "relay_drain_with_ledger", "events/s", figure.Goal{}, drains...)
	figure.Print(os.Stdout, "replay_select", "events/s", figure.Goal{}, selects...)
	figure.Print(os.Stdout, "replay", "events/s", figure.Goal{}, replays...)
	figure.Print(os.Stdout, "replay_vs_drain", "ratio", figure.Goal{}, ratios...)
	ok := figure.Print(os.Stdout, fmt.Sprintf("replay_heap_of_%d", b.rows), "MiB", figure.AtMost(64), heaps...)
	whole, err := replayInterrupted(ctx, b, "replay_turn")
	return ok && whole, err
}

// replayOnce asks for a replay of everything, and has a relay carry it out. heap is the
// most that was in use meanwhile, in MiB.
func replayOnce(ctx context.Context, b *backlog, slot string) (selected, replayed time.Duration, heap float64, err error) {
	pool, err := pgxpool.New(ctx, b.pg.DSN(b.database))
	if err != nil {
		return 0, 0, 0, err
	}
	defer pool.Close()
	r := ops.NewReplays(ops.ReplaysConfig{DB: pool, By: "bench", Logger: zerolog.Nop()})
	began := time.Now()
	plan, err := r.Start(ctx, everything, ops.ReplayOptions{})
	if err != nil {
		return 0, 0, 0, err
	}
	selected = time.Since(began)
	runtime.GC() // what the drain left is not the replay's
	err = carryOut(ctx, b, slot, newNowhere(0), func(ctx context.Context) (err error) {
		heap, err = follow(ctx, r, *plan.ID)
		return err
	})
	if err != nil {
		return 0, 0, 0, err
	}
	err = pool.QueryRow(ctx, `SELECT ended_at - started_at FROM replays WHERE id = $1`, *plan.ID).Scan(&replayed)
	return selected, replayed, heap, err
}

var everything = ops.ReplaySelection{Types: []string{schema.TypeOrderPlaced}}

// carryOut runs a relay while work does.
func carryOut(ctx context.Context, b *backlog, slot string, publisher relay.Publisher, work func(context.Context) error) error {
	carrier, err := relay.New(relay.Config{
		DSN: b.pg.RoleDSN(schema.RoleRelay, password, b.database), Slot: slot, Publication: schema.Publication,
		Publisher: publisher, Logger: zerolog.New(os.Stderr).Level(zerolog.WarnLevel),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- carrier.Run(ctx) }()
	err = work(ctx)
	cancel()
	return errors.Join(err, <-ended)
}

func follow(ctx context.Context, r *ops.Replays, id uuid.UUID) (heap float64, err error) {
	for {
		s, err := r.State(ctx, id)
		if err != nil || s.State == "done" {
			return heap, err
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heap = max(heap, float64(m.HeapInuse)/(1<<20))
		time.Sleep(50 * time.Millisecond)
	}
}

// interruptions is how often a replay is interrupted.
const interruptions = 5

// replayInterrupted has a replay carried out by one relay after the other, each of which
// is stopped amid it, and it is cancelled and resumed besides. It holds what was published
// against what was asked for.
func replayInterrupted(ctx context.Context, b *backlog, slot string) (bool, error) {
	pool, err := pgxpool.New(ctx, b.pg.DSN(b.database))
	if err != nil {
		return false, err
	}
	defer pool.Close()
	r := ops.NewReplays(ops.ReplaysConfig{DB: pool, By: "bench", Logger: zerolog.Nop()})
	plan, err := r.Start(ctx, everything, ops.ReplayOptions{})
	if err != nil {
		return false, err
	}
	last, err := ask[int64](ctx, b.pg.DSN(b.database), "SELECT max(seq) FROM outbox")
	if err != nil {
		return false, err
	}
	seen := &watched{times: make([]uint8, last+1), newest: map[string]int64{}}
	for turn := range interruptions + 1 {
		until := int64(b.rows) * int64(turn+1) / (interruptions + 1)
		err := carryOut(ctx, b, slot, seen, func(ctx context.Context) error {
			if turn == interruptions {
				_, err := follow(ctx, r, *plan.ID)
				return err
			}
			for seen.count.Load() < until {
				time.Sleep(time.Millisecond)
			}
			if turn%2 == 1 {
				return nil
			}
			if _, err := r.Cancel(ctx, *plan.ID); err != nil {
				return err
			}
			_, err := r.Resume(ctx, *plan.ID)
			return err
		})
		if err != nil {
			return false, err
		}
	}
	missing, doubled := seen.sum(b.rows)
	ok := figure.Print(os.Stdout, "replay_interrupted", "times", figure.Goal{}, interruptions)
	ok = figure.Print(os.Stdout, "replay_missing", "events", figure.AtMost(0), missing) && ok
	ok = figure.Print(os.Stdout, "replay_doubled", "events", figure.AtMost(0), doubled) && ok
	return figure.Print(os.Stdout, "replay_out_of_order", "events", figure.AtMost(0), float64(seen.inverted.Load())) && ok, nil
}

// watched accepts everything at once, and notes what came and in which order.
type watched struct {
	count, inverted atomic.Int64
	mu              sync.Mutex
	times           []uint8 // by sequence
	newest          map[string]int64
}

// Publish implements relay.Publisher.
func (w *watched) Publish(_ context.Context, events []schema.Event) ([]relay.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range events {
		if w.times[e.Seq] == 0 && e.Seq < w.newest[e.Group] {
			w.inverted.Add(1)
		}
		w.times[e.Seq]++
		w.newest[e.Group] = max(e.Seq, w.newest[e.Group])
	}
	w.count.Add(int64(len(events)))
	return make([]relay.Result, len(events)), nil
}

// sum is how many of so many events never came, and how many came again.
func (w *watched) sum(events int) (missing, doubled float64) {
	came := 0
	for _, times := range w.times {
		if times > 0 {
			came++
		}
		if times > 1 {
			doubled++
		}
	}
	return float64(events - came), doubled
}
