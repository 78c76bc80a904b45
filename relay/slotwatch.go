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
)

// watchSlot measures, for as long as Run lasts, how long the slot will, also while
// nothing can be streamed: that is when it matters most.
func (r *Relay) watchSlot(ctx context.Context) {
	b := &walBudget{bytes: r.cfg.WALBudget}
	a := &alarm{warnBefore: r.cfg.WarnBefore, alarmBefore: r.cfg.AlarmBefore}
	for {
		sample, err := r.sampleSlot(ctx)
		switch {
		case err == nil:
			o := b.add(sample)
			r.metrics.Load().showSlot(o)
			r.sound(a, o)
		case !errors.Is(err, pgx.ErrNoRows) && ctx.Err() == nil:
			r.cfg.Logger.Debug().Err(err).Msg("the slot was not measured") // what keeps it from that is told elsewhere
		}
		if service.Sleep(ctx, r.cfg.HeartbeatEvery) != nil {
			return
		}
	}
}

func (r *Relay) sampleSlot(ctx context.Context) (slotSample, error) {
	ctx, cancel := context.WithTimeout(ctx, visit)
	defer cancel()
	var s slotSample
	slot := r.metrics.Load().slot
	err := r.pool.QueryRow(ctx, `SELECT pg_current_wal_lsn()::text, coalesce(restart_lsn, '0/0')::text, coalesce(confirmed_flush_lsn, '0/0')::text, safe_wal_size, coalesce(wal_status, '')
		FROM pg_replication_slots WHERE slot_name = $1`, slot).Scan(&s.wal, &s.restart, &s.confirmed, &s.safe, &s.status)
	if err != nil {
		return s, fmt.Errorf("measure slot %s: %w", slot, err)
	}
	s.at = time.Now()
	return s, nil
}

// sound tells the operator, who alone can do something: publish faster, give the
// slot more room, or decide to lose it and have it swept. Nothing is shed here.
func (r *Relay) sound(a *alarm, o outlook) {
	level, tell := a.judge(o.left)
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

func (r *Relay) tellOutlook(line *zerolog.Event, o outlook) *zerolog.Event {
	left := "unbounded"
	if o.left != forever {
		left = o.left.Round(time.Second).String()
	}
	return line.Str("left", left).Float64("left_bytes", o.bytes).Float64("wal_bytes_per_second", math.Round(o.rate)).
		Int64("retained_bytes", o.retained).Int64("lag_bytes", o.lag).Stringer("publish_lag", r.PublishLag().Round(time.Second))
}
