package ops

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// maxSuspects bounds how many events are looked at together that have no end in an
// inbox.
const maxSuspects = 100 * page

// lookHandled tells what of the day's events a consumer has handled that it wants.
func (r *sideRun) lookHandled(ctx context.Context, day time.Time, i int, wanted idSum, books *ConsumerBooks) error {
	c := r.side.consumers[i]
	var told ConsumerBooks
	done, err := c.sumDone(ctx, day, r.stale, &told)
	if err != nil {
		return err
	}
	if done == wanted {
		books.Wanted, books.Done, books.Dead, books.Uncertain = wanted.count, done.count, told.Dead, told.Uncertain
		return nil
	}
	return r.merge(ctx, day, i, books)
}

// merge holds the ids of the day's events that a consumer wants against those in its
// inbox. Each side comes sorted and is read as it comes, from whichever database it is
// in, so that memory does not grow with either.
func (r *sideRun) merge(ctx context.Context, day time.Time, i int, books *ConsumerBooks) error {
	c := r.side.consumers[i]
	s, err := c.stream(ctx, day, r.stale, books)
	if err != nil {
		return err
	}
	defer s.rows.Close()
	rows, err := r.side.outbox.Query(ctx, `SELECT id FROM outbox WHERE day = `+literal(day)+` AND `+c.interest.SQL()+` ORDER BY id`)
	if err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		books.Wanted++
		if err := s.meet(id); err != nil {
			return err
		}
		if len(s.suspects) == maxSuspects {
			return r.judge(ctx, day, i, s, books)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("compare outbox and inboxes: %w", err)
	}
	if err := s.drain(); err != nil {
		return err
	}
	return r.judge(ctx, day, i, s, books)
}

// inboxStream is a consumer's inbox of one day, by event.
type inboxStream struct {
	consumer string
	rows     pgx.Rows
	books    *ConsumerBooks
	more     bool // the row below is there

	id                   uuid.UUID
	done, dead, underWay bool
	uncertain            int64

	suspects []uuid.UUID // wanted, and nothing is done or under way
	waiting  []uuid.UUID // under way
}

// perEvent folds the replays of an event into it: one of them done is enough.
const perEvent = `bool_or(state = 'done') AS done, bool_or(state = 'dead') AS dead,
	bool_or(state IN ('claimed', 'failed') AND updated_at > $2) AS under_way, sum(repeated_uncertain)::bigint AS uncertain`

func (c *inboxSide) stream(ctx context.Context, day, stale time.Time, books *ConsumerBooks) (*inboxStream, error) {
	rows, err := c.inbox.Query(ctx, `SELECT event_id, `+perEvent+` FROM inbox
		WHERE day = `+literal(day)+` AND consumer = $1 GROUP BY event_id ORDER BY event_id`, c.interest.Consumer, stale)
	if err != nil {
		return nil, fmt.Errorf("look into the inbox of %s: %w", c.interest.Consumer, err)
	}
	s := &inboxStream{consumer: c.interest.Consumer, rows: rows, books: books}
	return s, s.next()
}

// next reads a row, and counts what it tells by itself.
func (s *inboxStream) next() error {
	if s.more = s.rows.Next(); !s.more {
		if err := s.rows.Err(); err != nil {
			return fmt.Errorf("look into the inbox of %s: %w", s.consumer, err)
		}
		return nil
	}
	if err := s.rows.Scan(&s.id, &s.done, &s.dead, &s.underWay, &s.uncertain); err != nil {
		return fmt.Errorf("look into the inbox of %s: %w", s.consumer, err)
	}
	if s.uncertain > 0 {
		s.books.Uncertain++
	}
	if s.dead && !s.done {
		s.books.Dead++
	}
	return nil
}

// drain reads the rest.
func (s *inboxStream) drain() error {
	for s.more {
		if err := s.next(); err != nil {
			return err
		}
	}
	return nil
}

// meet decides about a wanted event, the next in order.
func (s *inboxStream) meet(id uuid.UUID) error {
	for s.more && bytes.Compare(s.id[:], id[:]) < 0 {
		if err := s.next(); err != nil {
			return err
		}
	}
	switch {
	case !s.more || s.id != id:
		s.suspects = append(s.suspects, id)
	case s.done:
		s.books.Done++
	case s.dead:
	case s.underWay:
		s.books.Waiting++
		if len(s.waiting) < maxSuspects {
			s.waiting = append(s.waiting, id)
		}
	default:
		s.suspects = append(s.suspects, id)
	}
	return nil
}

// judge tells of the suspects which are missing: published past the grace, still
// without an end in the inbox, and not behind another of their group that is tried.
func (r *sideRun) judge(ctx context.Context, day time.Time, i int, s *inboxStream, books *ConsumerBooks) error {
	c := r.side.consumers[i]
	if err := r.noteWaiting(ctx, day, c, s.waiting); err != nil {
		return err
	}
	s.waiting = s.waiting[:0]
	for left := s.suspects; len(left) > 0; {
		some := left[:min(len(left), page)]
		left = left[len(some):]
		published, err := r.published(ctx, day, some)
		if err != nil {
			return err
		}
		ended, err := c.ended(ctx, day, some, r.stale)
		if err != nil {
			return err
		}
		for _, e := range published {
			first, held := c.behind[e.Group]
			switch {
			case ended[e.EventID]:
			case held && first < e.Sequence:
				books.Waiting++
			default:
				books.Unhandled++
				r.unhandled[i].add(e, r.cfg.Named)
			}
		}
	}
	s.suspects = s.suspects[:0]
	return nil
}

// noteWaiting notes the groups of events that are under way: their successors wait in
// the queue.
func (r *sideRun) noteWaiting(ctx context.Context, day time.Time, c *inboxSide, ids []uuid.UUID) error {
	if len(ids) == 0 {
		return nil
	}
	rows, err := r.side.outbox.Query(ctx, `SELECT message_group, min(seq) FROM outbox WHERE day = `+literal(day)+` AND id = ANY($1) GROUP BY message_group`, ids)
	if err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	var group string
	var seq int64
	_, err = pgx.ForEachRow(rows, []any{&group, &seq}, func() error {
		if first, known := c.behind[group]; !known || seq < first {
			c.behind[group] = seq
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	return nil
}

// published are those of the events that were published past the grace. An event that
// the ledger calls parked and that is in no list of parked ones is among them: nobody
// will ever send it.
func (r *sideRun) published(ctx context.Context, day time.Time, ids []uuid.UUID) ([]MissingEvent, error) {
	d := literal(day)
	rows, err := r.side.outbox.Query(ctx, `SELECT o.id, o.type, o.message_group, o.seq, o.created_at
		FROM unnest($1::uuid[]) AS k (id) JOIN outbox o ON o.day = `+d+` AND o.id = k.id
		JOIN ledger l ON l.day = `+d+` AND l.event_id = k.id
		LEFT JOIN parked p ON p.day = `+d+` AND p.event_id = k.id
		WHERE l.published_at < $2 AND (l.outcome = 'published' OR p.event_id IS NULL) ORDER BY o.seq`, ids, r.cutoff)
	if err != nil {
		return nil, fmt.Errorf("look into the ledger: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[MissingEvent])
	if err != nil {
		return nil, fmt.Errorf("look into the ledger: %w", err)
	}
	return all, nil
}

// ended are those of the events that have come to an end, or under way, since the
// inbox was read.
func (c *inboxSide) ended(ctx context.Context, day time.Time, ids []uuid.UUID, stale time.Time) (map[uuid.UUID]bool, error) {
	rows, err := c.inbox.Query(ctx, `SELECT DISTINCT event_id FROM inbox WHERE day = `+literal(day)+` AND consumer = $1 AND event_id = ANY($2)
		AND (state IN ('done', 'dead') OR updated_at > $3)`, c.interest.Consumer, ids, stale)
	if err != nil {
		return nil, fmt.Errorf("look into the inbox of %s: %w", c.interest.Consumer, err)
	}
	found := make(map[uuid.UUID]bool)
	var id uuid.UUID
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { found[id] = true; return nil }); err != nil {
		return nil, fmt.Errorf("look into the inbox of %s: %w", c.interest.Consumer, err)
	}
	return found, nil
}
