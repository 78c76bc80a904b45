package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
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
	return figure.Print(os.Stdout, fmt.Sprintf("replay_heap_of_%d", b.rows), "MiB", figure.AtMost(64), heaps...), nil
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
	plan, err := r.Start(ctx, ops.ReplaySelection{Types: []string{schema.TypeOrderPlaced}}, ops.ReplayOptions{})
	if err != nil {
		return 0, 0, 0, err
	}
	selected = time.Since(began)
	carrier, err := relay.New(relay.Config{
		DSN: b.pg.RoleDSN(schema.RoleRelay, password, b.database), Slot: slot, Publication: schema.Publication,
		Publisher: newNowhere(0), Logger: zerolog.New(os.Stderr).Level(zerolog.WarnLevel),
	})
	if err != nil {
		return 0, 0, 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- carrier.Run(ctx) }()
	heap, err = follow(ctx, r, *plan.ID)
	cancel()
	if err := errors.Join(err, <-ended); err != nil {
		return 0, 0, 0, err
	}
	err = pool.QueryRow(context.WithoutCancel(ctx), `SELECT ended_at - started_at FROM replays WHERE id = $1`, *plan.ID).Scan(&replayed)
	return selected, replayed, heap, err
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
