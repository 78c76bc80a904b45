package ops

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/schema"
)

// repeats says what a consumer does with a forced replay of an event that it handled.
var repeats = map[string]string{
	schema.ConsumerFactory:   "asks the factory again, under the same Idempotency-Key, where the replenishment is still only requested",
	schema.ConsumerAds:       "mails only what no mail was sent for",
	schema.ConsumerVIP:       "promotes who is not VIP yet; nobody twice",
	schema.ConsumerMarketing: "calls the webhook again, under the same webhook-id",
}

// loadHandled streams from a consumer's inbox, which may be in another database, what
// it has handled of some days.
func (p *planning) loadHandled(ctx context.Context, c ReplayConsumer, since, until *time.Time) error {
	if _, err := p.tx.Exec(ctx, `TRUNCATE replay_handled`); err != nil {
		return err
	}
	err := pgx.BeginTxFunc(ctx, c.Inbox, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(inbox pgx.Tx) error {
		if _, err := inbox.Exec(ctx, noTimeouts); err != nil {
			return err
		}
		rows, err := inbox.Query(ctx, `SELECT DISTINCT day, event_id FROM inbox WHERE consumer = $1 AND state = 'done'
			AND day >= coalesce($2::timestamptz AT TIME ZONE 'UTC', '-infinity')::date AND day <= coalesce($3::timestamptz AT TIME ZONE 'UTC', 'infinity')::date`,
			c.Interest.Consumer, since, until)
		if err != nil {
			return err
		}
		defer rows.Close()
		_, err = p.tx.CopyFrom(ctx, pgx.Identifier{"replay_handled"}, []string{"day", "event_id"}, pgx.CopyFromFunc(func() ([]any, error) {
			if !rows.Next() {
				return nil, rows.Err()
			}
			return rows.Values()
		}))
		return err
	})
	if err != nil {
		return fmt.Errorf("read the inbox of %s: %w", c.Interest.Consumer, err)
	}
	_, err = p.tx.Exec(ctx, `ANALYZE replay_handled`)
	return err
}

// effects tells of each consumer how many events it wants, and has handled.
func (p *planning) effects(ctx context.Context) error {
	var since, until time.Time
	if err := p.tx.QueryRow(ctx, `SELECT min(day)::timestamp AT TIME ZONE 'UTC', max(day)::timestamp AT TIME ZONE 'UTC' FROM replay_chosen WHERE place IS NOT NULL`).Scan(&since, &until); err != nil {
		return err
	}
	for _, c := range p.cfg.Consumers {
		e := ReplayEffect{Consumer: c.Interest.Consumer}
		if err := p.tx.QueryRow(ctx, `SELECT count(*) FROM replay_chosen WHERE place IS NOT NULL AND $1 = ANY(wanted)`, e.Consumer).Scan(&e.Wants); err != nil {
			return err
		}
		if e.Wants == 0 {
			continue
		}
		if c.Inbox != nil {
			if err := p.handled(ctx, c, since, until, &e); err != nil {
				return err
			}
		}
		if p.options.Force {
			e.Repeats = repeats[e.Consumer]
		}
		p.plan.Effects = append(p.plan.Effects, e)
	}
	return nil
}

// handled counts what a consumer has handled, and marks that in the events: what it
// wants and has handled stands in wanted with a sign.
func (p *planning) handled(ctx context.Context, c ReplayConsumer, since, until time.Time, e *ReplayEffect) error {
	if err := p.loadHandled(ctx, c, &since, &until); err != nil {
		return err
	}
	tag, err := p.tx.Exec(ctx, `UPDATE replay_chosen c SET wanted = array_replace(c.wanted, $1, '+' || $1) FROM replay_handled h
		WHERE c.place IS NOT NULL AND $1 = ANY(c.wanted) AND h.day = c.day AND h.event_id = c.event_id`, e.Consumer)
	n := tag.RowsAffected()
	e.Handled = &n
	return err
}

// sample reads the first and the last event, and the first few.
func (p *planning) sample(ctx context.Context) error {
	rows, err := p.tx.Query(ctx, `SELECT event_id, message_group, seq, type, at, wanted FROM replay_chosen WHERE place <= $1 OR place = $2 ORDER BY place`,
		max(p.options.Sample, 1), p.plan.Events)
	if err != nil {
		return err
	}
	var e PlannedEvent
	var wanted []string
	var all []PlannedEvent
	_, err = pgx.ForEachRow(rows, []any{&e.EventID, &e.Group, &e.Sequence, &e.Type, &e.At, &wanted}, func() error {
		e.Does = make(map[string]string, len(wanted))
		for _, name := range wanted {
			name, handled := strings.CutPrefix(name, "+")
			e.Does[name] = p.does(name, handled)
		}
		all = append(all, e)
		return nil
	})
	if err != nil {
		return err
	}
	p.plan.First, p.plan.Last = &all[0], &all[len(all)-1]
	p.plan.Sample = all[:min(p.options.Sample, len(all))]
	return nil
}

// does is what a consumer does with one event.
func (p *planning) does(consumer string, handled bool) string {
	c, _ := p.consumer(consumer) // it is one of ours
	switch {
	case c.Inbox == nil:
		return "unknown"
	case !handled:
		return "handles"
	case p.options.Force:
		return "repeats"
	}
	return "skips"
}
