package relay

import (
	"context"
	"errors"
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
	pub    string // the publication's name
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
	return &heartbeat{pool: pool, prefix: "restock:" + cfg.Slot, slot: cfg.Slot, pub: cfg.Publication, every: cfg.HeartbeatEvery, log: cfg.Logger}
}

// run beats until ctx ends, or refuses when the server was told meanwhile to
// wait for this relay at commit. Another publication than the one that the stream
// began with may have let rows pass, so that the stream must begin anew.
func (h *heartbeat) run(ctx context.Context, l *ledger, publication publicationID) error {
	ticker := time.NewTicker(h.every)
	defer ticker.Stop()
	for {
		if err := h.beat(ctx, l, publication); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (h *heartbeat) beat(ctx context.Context, l *ledger, publication publicationID) error {
	limit, cancel := context.WithTimeout(ctx, h.every)
	defer cancel()
	if err := h.look(limit, publication); err != nil {
		return err
	}
	at := time.Now()
	h.mu.Lock()
	h.sent = append(h.sent, probe{at.UnixNano(), at})
	h.mu.Unlock()
	var now time.Time
	promised := l.promise.wanted()
	err := h.pool.QueryRow(limit, `WITH promised AS (UPDATE watermarks SET confirm_lsn = greatest(confirm_lsn, $3::text::pg_lsn) WHERE slot = $4)
		SELECT clock_timestamp() FROM pg_logical_emit_message(true, $1::text, $2::text)`,
		h.prefix, strconv.FormatInt(at.UnixNano(), 10), promised.String(), h.slot).Scan(&now)
	if err != nil {
		h.failed(ctx, err)
		return nil // the guard says whether the server is gone
	}
	l.promise.given(promised)
	h.mu.Lock()
	h.offset = time.Until(now)
	h.mu.Unlock()
	return nil
}

// look finds what has changed beside the stream. It writes nothing, because a
// commit may wait for the very thing that is wrong.
func (h *heartbeat) look(ctx context.Context, publication publicationID) error {
	var standbys string
	var id publicationID
	err := h.pool.QueryRow(ctx, `SELECT current_setting('synchronous_standby_names'), coalesce((`+publicationIDQuery+`$1), '')`, h.pub).Scan(&standbys, &id)
	switch {
	case err != nil:
		h.failed(ctx, err)
		return nil
	case id != publication:
		return fmt.Errorf("publication %s or its table was changed meanwhile", h.pub)
	}
	if err := checkStandbyNames(standbys, h.slot); err != nil {
		return fmt.Errorf("stop publishing: %w", err)
	}
	return nil
}

func (h *heartbeat) failed(ctx context.Context, err error) {
	if !errors.Is(ctx.Err(), context.Canceled) {
		h.log.Warn().Err(err).Msg("heartbeat failed")
	}
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
