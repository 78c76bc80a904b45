package retention

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/restock-dev/restock/internal/service"
)

// What keeps a partition that is past its time.
const (
	Unpublished = "unpublished" // events that are in no ledger
	Parked      = "parked"      // events that are parked, neither sent nor skipped
	Replaying   = "replaying"   // events of a replay that is not over
	Queued      = "queued"      // events that were published or replayed late, and may be in a queue still
	Dead        = "dead"        // events that a consumer gave up
	Unhandled   = "unhandled"   // events that a consumer has begun and not ended
	Unconfirmed = "unconfirmed" // slots that have not confirmed what is recorded
	Outbox      = "outbox"      // the outbox partition of the same day
	Foreign     = "foreign"     // somebody else has detached it
)

// Reason is why a partition stays: how much of what, and in which database.
type Reason struct {
	Name     string `json:"reason"`
	Database string `json:"database"`
	Count    int64  `json:"count"`
}

// questions are asked of each database, for a day. In braces are tables, which may be
// a partition on its way out. An answer above 0 is a reason to stay.
var questions = []struct {
	reason   string
	settles  bool // a day may be settled by hand in this
	question string
}{
	{Unpublished, false, `SELECT count(*) FROM {outbox} o WHERE o.day = $1
		AND NOT EXISTS (SELECT FROM {ledger} l WHERE l.day = $1 AND l.event_id = o.id AND l.outcome = 'published')
		AND NOT EXISTS (SELECT FROM {parked} p WHERE p.day = $1 AND p.event_id = o.id)`},
	{Parked, false, `SELECT count(*) FROM {parked} WHERE day = $1 AND state NOT IN ('sent', 'skipped')`},
	{Replaying, false, `SELECT count(*) FROM public.replays r JOIN public.replay_items i ON i.replay_id = r.id
		WHERE r.state IN ('waiting', 'running') AND i.place > r.done AND i.day = $1`},
	{Queued, false, fmt.Sprintf(`SELECT (SELECT count(*) FROM {ledger} WHERE day = $1 AND outcome = 'published' AND published_at > now() - interval '%[1]d days')
		+ (SELECT count(*) FROM public.replays r JOIN public.replay_items i ON i.replay_id = r.id
			WHERE coalesce(r.ended_at, now()) > now() - interval '%[1]d days' AND i.place <= r.done AND i.day = $1)`, QueueDays)},
	{Dead, true, `SELECT count(*) FROM {inbox} i WHERE day = $1 AND state = 'dead' AND ` + unsettled},
	{Unhandled, true, `SELECT count(*) FROM {inbox} i WHERE day = $1 AND state NOT IN ('dead', 'done') AND ` + unsettled},
}

// unsettled leaves out rows that nothing will ever end, because no queue has their message
// any more, and need not: their event was handled in a replay.
var unsettled = fmt.Sprintf(`(updated_at > now() - interval '%d days' OR NOT EXISTS (SELECT FROM {inbox} d
		WHERE d.day = $1 AND d.consumer = i.consumer AND d.event_id = i.event_id AND d.state = 'done'))`, QueueDays)

// reasons asks every database what keeps the day.
func (r *run) reasons(ctx context.Context, day time.Time) ([]Reason, error) {
	settled := slices.ContainsFunc(r.cfg.Settled, day.Equal)
	var all []Reason
	for _, d := range r.databases {
		var sources []string
		for _, table := range tables {
			sources = append(sources, "{"+table+"}", "public."+d.source(table, day))
		}
		names := strings.NewReplacer(sources...)
		for _, q := range questions {
			if settled && q.settles {
				continue
			}
			var n int64
			if err := d.conn.QueryRow(ctx, names.Replace(q.question), day).Scan(&n); err != nil {
				return nil, fmt.Errorf("look what is %s of %s in %s: %w", q.reason, day.Format(time.DateOnly), d.name, err)
			}
			if n > 0 {
				all = append(all, Reason{q.reason, d.name, n})
			}
		}
	}
	return all, nil
}

// confirmEvery is how often slots are looked at that lag behind.
const confirmEvery = 100 * time.Millisecond

// unconfirmed is how many slots stand before the last position that their relay has
// recorded by now, and still do after the patience. They would read again what is
// recorded, and who looks it up would miss it in a ledger that is gone. A slot that
// is lost, or not there, reads nothing.
func (d *database) unconfirmed(ctx context.Context, patience time.Duration) (slots int64, err error) {
	var names, positions []string
	err = d.conn.QueryRow(ctx, `SELECT array_agg(slot), array_agg(recorded_lsn::text) FROM watermarks`).Scan(&names, &positions)
	for end := time.Now().Add(patience); err == nil; {
		err = d.conn.QueryRow(ctx, `SELECT count(*) FROM unnest($1::text[], $2::text[]) w (slot, recorded)
			JOIN pg_replication_slots s ON s.slot_name = w.slot AND s.wal_status IS DISTINCT FROM 'lost'
			WHERE s.confirmed_flush_lsn < w.recorded::pg_lsn`, names, positions).Scan(&slots)
		if err != nil || slots == 0 || time.Now().After(end) {
			break
		}
		err = service.Sleep(ctx, confirmEvery)
	}
	if err != nil {
		return 0, fmt.Errorf("look at the slots of %s: %w", d.name, err)
	}
	return slots, nil
}
