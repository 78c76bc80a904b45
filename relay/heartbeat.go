package relay

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
)

// heartbeat writes a logical message of its own into the WAL now and then and
// watches for it in the stream. That moves the slot of an idle database, because
// a transactional message is a transaction to be confirmed, and it measures how
// far reading is behind.
// https://www.postgresql.org/docs/15/functions-admin.html#FUNCTIONS-REPLICATION
type heartbeat struct {
	pool   *pgxpool.Pool
	prefix string
	slot   string
	every  time.Duration
	log    zerolog.Logger

	mu     sync.Mutex
	sent   []probe // not read back yet, oldest first
	lag    time.Duration
	offset time.Duration // of the database's clock to ours
}

// probe is one message. Its id is the time in nanoseconds at which it was sent, so
// that those of an earlier session, which a stream may bring again, are older
// than any of this one's.
type probe struct {
	id int64
	at time.Time
}

func newHeartbeat(cfg Config, pool *pgxpool.Pool) *heartbeat {
	return &heartbeat{pool: pool, prefix: "restock:" + cfg.Slot, slot: cfg.Slot, every: cfg.HeartbeatEvery, log: cfg.Logger}
}

// run beats until ctx ends, or refuses when the server was told meanwhile to
// wait for this relay at commit.
func (h *heartbeat) run(ctx context.Context) error {
	ticker := time.NewTicker(h.every)
	defer ticker.Stop()
	for {
		if err := h.beat(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (h *heartbeat) beat(ctx context.Context) error {
	at := time.Now()
	h.mu.Lock()
	h.sent = append(h.sent, probe{at.UnixNano(), at})
	h.mu.Unlock()
	limit, cancel := context.WithTimeout(ctx, h.every)
	defer cancel()
	var now time.Time
	var standbys string
	err := h.pool.QueryRow(limit, `SELECT clock_timestamp(), current_setting('synchronous_standby_names')
		FROM pg_logical_emit_message(true, $1::text, $2::text)`, h.prefix, strconv.FormatInt(at.UnixNano(), 10)).Scan(&now, &standbys)
	if err != nil {
		if ctx.Err() == nil {
			h.log.Warn().Err(err).Msg("heartbeat failed")
		}
		return nil // the guard says whether the server is gone
	}
	h.mu.Lock()
	h.offset = time.Until(now)
	h.mu.Unlock()
	if err := checkStandbyNames(standbys, h.slot); err != nil {
		return fmt.Errorf("stop publishing: %w", err)
	}
	return nil
}

// read takes a message of ours from the stream.
func (h *heartbeat) read(c change) {
	id, err := strconv.ParseInt(c.body, 10, 64)
	if err != nil {
		return // somebody used our prefix
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.sent) > 0 && h.sent[0].id <= id {
		h.lag = time.Since(h.sent[0].at)
		h.sent = h.sent[1:]
	}
}

// readLag is how far reading is behind the database: the last round trip, or the
// age of the oldest message that has not come back where that is more.
func (h *heartbeat) readLag() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.sent) > 0 {
		return max(h.lag, time.Since(h.sent[0].at))
	}
	return h.lag
}

// age is how long ago the database's clock showed t.
func (h *heartbeat) age(t time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(0, time.Since(t)+h.offset)
}
