package relay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// watchSlot measures, for as long as Run lasts, how long the slot will, also while
// nothing can be streamed: that is when it matters most.
func (r *Relay) watchSlot(ctx context.Context) {
	b := &schema.WALBudget{Bytes: r.cfg.WALBudget}
	a := &alarm{warnBefore: r.cfg.WarnBefore, alarmBefore: r.cfg.AlarmBefore}
	for {
		sample, err := r.sampleSlot(ctx)
		switch {
		case err == nil:
			o := b.Foresee(sample)
			r.metrics.Load().showSlot(o)
			r.sound(a, o)
		case errors.Is(err, pgx.ErrNoRows): // of a shard that is no more, or about to be made
			r.metrics.Load().showSlot(schema.SlotOutlook{Bytes: math.Inf(1), Left: schema.Forever})
		case ctx.Err() == nil:
			r.cfg.Logger.Debug().Err(err).Msg("the slot was not measured") // what keeps it from that is told elsewhere
		}
		if service.Sleep(ctx, r.cfg.HeartbeatEvery) != nil {
			return
		}
	}
}

func (r *Relay) sampleSlot(ctx context.Context) (schema.SlotSample, error) {
	ctx, cancel := context.WithTimeout(ctx, visit)
	defer cancel()
	var s schema.SlotSample
	slot := r.metrics.Load().slot
	err := r.pool.QueryRow(ctx, `SELECT pg_current_wal_lsn() - '0/0', coalesce(restart_lsn - '0/0', 0), coalesce(confirmed_flush_lsn - '0/0', 0), safe_wal_size, coalesce(wal_status, '')
		FROM pg_replication_slots WHERE slot_name = $1`, slot).Scan(&s.WAL, &s.Restart, &s.Confirmed, &s.Safe, &s.Status)
	if err != nil {
		return s, fmt.Errorf("measure slot %s: %w", slot, err)
	}
	s.At = time.Now()
	return s, nil
}

// sound tells the operator, who alone can do something: publish faster, give the
// slot more room, or decide to lose it and have it swept. Nothing is shed here.
func (r *Relay) sound(a *alarm, o schema.SlotOutlook) {
	level, tell := a.judge(o.Left)
	if !tell {
		return
	}
	line, text := r.cfg.Logger.Info(), "the slot is out of danger"
	switch level {
	case nearing:
		line, text = r.cfg.Logger.Warn(), "the slot will be lost if it does not move: see why publishing is behind, or raise max_slot_wal_keep_size"
	case imminent:
		line, text = r.cfg.Logger.Error(), "the slot is about to be lost: raise max_slot_wal_keep_size, or what it misses must be swept"
	}
	r.tellOutlook(line, o).Msg(text)
}

func (r *Relay) tellOutlook(line *zerolog.Event, o schema.SlotOutlook) *zerolog.Event {
	left := "unbounded"
	if o.Left != schema.Forever {
		left = o.Left.Round(time.Second).String()
	}
	return line.Str("left", left).Float64("left_bytes", o.Bytes).Float64("wal_bytes_per_second", math.Round(o.Rate)).
		Int64("retained_bytes", o.Retained).Int64("lag_bytes", o.Lag).Stringer("publish_lag", r.PublishLag().Round(time.Second))
}
