package ops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// sideRun is one run over one outbox.
type sideRun struct {
	side      *ledgerSide
	whole     bool // no consumer of it is left out
	cfg       ReconcileConfig
	cutoff    time.Time // what was published, or committed, before it is past the grace
	stale     time.Time
	total     dayBooks
	unsent    Finding
	unhandled []Finding // by consumer
}

func newSideRun(side *ledgerSide, cfg ReconcileConfig) *sideRun {
	now := time.Now()
	run := &sideRun{
		side: side, cfg: cfg, cutoff: now.Add(-cfg.Grace), stale: now.Add(-cfg.Stale),
		total:  dayBooks{outbox: OutboxBooks{Database: side.database}},
		unsent: Finding{Kind: Unpublished, Database: side.database},
	}
	for _, c := range side.consumers {
		c.behind = map[string]int64{}
		run.total.consumers = append(run.total.consumers, ConsumerBooks{Consumer: c.interest.Consumer})
		run.unhandled = append(run.unhandled, Finding{Kind: Unhandled, Database: side.database, Consumer: c.interest.Consumer})
	}
	return run
}

func (r *sideRun) add(b dayBooks) {
	t := &r.total
	t.outbox.Days++
	t.outbox.Events += b.outbox.Events
	t.outbox.Unpublished += b.outbox.Unpublished
	t.outbox.Parked += b.outbox.Parked
	for i, c := range b.consumers {
		sum := &t.consumers[i]
		sum.Wanted += c.Wanted
		sum.Done += c.Done
		sum.Waiting += c.Waiting
		sum.Unhandled += c.Unhandled
		sum.Dead += c.Dead
		sum.Repeated += c.Repeated
		sum.Uncertain += c.Uncertain
	}
}

// finish adds what was found to the whole.
func (r *sideRun) finish(ctx context.Context, all *Reconciliation) error {
	if r.unsent.Count > 0 {
		var err error
		if r.unsent.Note, err = r.side.relayNote(ctx); err != nil {
			return err
		}
	}
	for _, f := range append([]Finding{r.unsent}, r.unhandled...) {
		if f.Count > 0 {
			f.Heal = f.heal()
			all.Findings = append(all.Findings, f)
			all.Missing += f.Count
		}
	}
	all.Outboxes = append(all.Outboxes, r.total.outbox)
	all.Consumers = append(all.Consumers, r.total.consumers...)
	return nil
}

// look compares one day: sums of ids first, and one by one what these tell apart.
func (r *sideRun) look(ctx context.Context, day time.Time) (dayBooks, error) {
	b := dayBooks{}
	committed, wanted, err := r.sumOutbox(ctx, day)
	if err != nil {
		return b, err
	}
	b.outbox.Events = committed.count
	if err := r.lookPublished(ctx, day, committed, &b.outbox); err != nil {
		return b, err
	}
	for i, c := range r.side.consumers {
		b.consumers = append(b.consumers, ConsumerBooks{Consumer: c.interest.Consumer})
		if err := r.lookHandled(ctx, day, i, wanted[i], &b.consumers[i]); err != nil {
			return b, err
		}
	}
	return b, r.lookRepeated(ctx, day, b.consumers)
}

// literal is a day as SQL. It stands in the text and not in an argument, so that
// each statement is planned for the one partition that it is about.
func literal(day time.Time) string { return "'" + day.Format(time.DateOnly) + "'" }

// lookPublished finds what of the day is neither published nor parked.
func (r *sideRun) lookPublished(ctx context.Context, day time.Time, committed idSum, b *OutboxBooks) error {
	d := literal(day)
	err := r.side.outbox.QueryRow(ctx, `SELECT count(*) FROM parked WHERE day = `+d+` AND state IN ('parked', 'sending')`).Scan(&b.Parked)
	if err != nil {
		return fmt.Errorf("count what is parked: %w", err)
	}
	if recorded, err := sumDay(ctx, r.side.outbox, "ledger", day); err != nil || recorded == committed {
		return err
	}
	young, args := "", []any(nil)
	if day.AddDate(0, 0, 1).After(r.cutoff) { // an older day is compared by its indexes alone
		young, args = ` AND o.created_at < $1`, []any{r.cutoff}
	}
	rows, err := r.side.outbox.Query(ctx, `SELECT o.id, o.type, o.message_group, o.seq, o.created_at FROM outbox o
		WHERE o.day = `+d+young+` AND NOT EXISTS (SELECT FROM ledger l WHERE l.day = `+d+` AND l.event_id = o.id)`, args...)
	if err != nil {
		return fmt.Errorf("compare outbox and ledger: %w", err)
	}
	var e MissingEvent
	_, err = pgx.ForEachRow(rows, []any{&e.EventID, &e.Type, &e.Group, &e.Sequence, &e.CommittedAt}, func() error {
		b.Unpublished++
		r.unsent.add(e, r.cfg.Named)
		return nil
	})
	if err != nil {
		return fmt.Errorf("compare outbox and ledger: %w", err)
	}
	return nil
}

// lookRepeated counts the events of the day for which a call succeeded more than once.
func (r *sideRun) lookRepeated(ctx context.Context, day time.Time, books []ConsumerBooks) error {
	d := literal(day)
	for i, c := range r.side.consumers {
		err := c.inbox.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM effects WHERE day = `+d+` AND consumer = $1 AND outcome = 'ok'
			GROUP BY event_id, replay_id HAVING count(*) > 1) AS e`, c.interest.Consumer).Scan(&books[i].Repeated)
		if err != nil {
			return fmt.Errorf("count the calls of %s: %w", c.interest.Consumer, err)
		}
	}
	return nil
}

// relayNote says what of an outbox's relay explains that events are not published; of the
// relay of the shard that is worst off, where it is split.
func (s *ledgerSide) relayNote(ctx context.Context) (string, error) {
	var slot string
	var active bool
	var behind int64
	err := s.outbox.QueryRow(ctx, `SELECT w.slot, coalesce(s.active, false), coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn), 0)::bigint
		FROM watermarks w LEFT JOIN pg_replication_slots s ON s.slot_name = w.slot, (SELECT EXISTS (SELECT FROM shards)) AS h (split)
		WHERE NOT h.split OR w.slot IN (SELECT slot FROM shards WHERE state = 'serving')
		ORDER BY h.split AND coalesce(s.active, false), CASE WHEN h.split THEN s.confirmed_flush_lsn END, w.recorded_at DESC LIMIT 1`).Scan(&slot, &active, &behind)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "no relay has ever run here: start restock relay, which publishes them", nil
	case err != nil:
		return "", fmt.Errorf("look at the slot: %w", err)
	case !active:
		return fmt.Sprintf("no relay reads slot %s: start restock relay first, it may publish them", slot), nil
	case behind > 16<<20:
		return fmt.Sprintf("the relay has %d MiB of WAL before it, they may be in there: see restock status first", behind>>20), nil
	}
	return "", nil
}
