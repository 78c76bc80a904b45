package ops

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/schema"
)

// QueueStatus is one consumer's queue, and what its inbox tells of it.
type QueueStatus struct {
	Consumer string `json:"consumer"`
	// Error is why it could not be asked, or not wholly: what follows it is 0 then.
	Error    string `json:"error,omitempty"`
	Queue    string `json:"queue"`
	Visible  int    `json:"visible"`  // about, as all that SQS counts
	InFlight int    `json:"inFlight"` // received and neither deleted nor back
	Dead     int    `json:"dead"`     // in both dead-letter queues
	// OldestSeconds is since when the oldest event that seems to be in the queue has
	// been published. SQS tells no age of a FIFO queue's messages, so this is by ledger
	// and inbox, and knows nothing of replays. Null where no event is waited for;
	// OldestAtLeast where it is the oldest of those that were looked through.
	OldestSeconds *float64 `json:"oldestSeconds"`
	OldestAtLeast bool     `json:"oldestAtLeast,omitempty"`
	// AttemptsPerSecond counts the events that were tried within the last minute, one
	// that was tried more often once. Failing are those that are to be tried again. Both
	// are of the events of the last two days.
	AttemptsPerSecond float64    `json:"attemptsPerSecond"`
	Failing           int64      `json:"failing"`
	LastError         string     `json:"lastError,omitempty"` // of an event that is not done
	LastErrorAt       *time.Time `json:"lastErrorAt,omitempty"`
}

func (s *Status) queue(ctx context.Context, in schema.Interest) QueueStatus {
	q := QueueStatus{Consumer: in.Consumer, Queue: schema.QueueName(in.Consumer)}
	c, err := s.find(ctx, in)
	if err == nil {
		err = s.askQueues(ctx, c, &q)
	}
	if err == nil {
		err = s.down[c.Inbox]
	}
	if err == nil {
		err = askInbox(ctx, c, &q)
	}
	if err == nil && q.Visible+q.InFlight > 0 {
		if err = s.down[c.Outbox]; err == nil {
			err = askOldest(ctx, c, &q)
		}
	}
	if err != nil {
		q.Error = Unable(err)
	}
	return q
}

func (s *Status) find(ctx context.Context, in schema.Interest) (*Consumer, error) {
	if c := s.found[in.Consumer]; c != nil {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := s.cfg.Find(ctx, in)
	if err != nil {
		return nil, err
	}
	s.found[in.Consumer] = &c
	return &c, nil
}

func (s *Status) askQueues(ctx context.Context, c *Consumer, q *QueueStatus) error {
	var err error
	if q.Visible, q.InFlight, err = (&queue{s.cfg.SQS, c.QueueURL}).count(ctx); err != nil {
		return err
	}
	for _, url := range []string{c.DLQURL, c.SubscriptionDLQURL} {
		waiting, held, err := (&queue{s.cfg.SQS, url}).count(ctx)
		if err != nil {
			return err
		}
		q.Dead += waiting + held
	}
	return nil
}

// askInbox asks for the last two days: for older ones it would read all that was ever
// handled, and an event is tried for a day at most.
func askInbox(ctx context.Context, c *Consumer, q *QueueStatus) error {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var tried int64
	err := c.Inbox.QueryRow(ctx, `WITH recent AS MATERIALIZED (
			SELECT state, last_error, updated_at FROM inbox WHERE consumer = $1 AND day >= (now() AT TIME ZONE 'UTC')::date - 1
			AND (state <> 'done' OR updated_at > now() - interval '1 minute'))
		SELECT count(*) FILTER (WHERE r.updated_at > now() - interval '1 minute'), count(*) FILTER (WHERE r.state = 'failed'),
			coalesce(e.last_error, ''), e.updated_at
		FROM (SELECT) AS one LEFT JOIN recent r ON true
		LEFT JOIN (SELECT last_error, updated_at FROM recent WHERE state <> 'done' AND last_error IS NOT NULL ORDER BY updated_at DESC LIMIT 1) e ON true
		GROUP BY e.last_error, e.updated_at`, c.Interest.Consumer).Scan(&tried, &q.Failing, &q.LastError, &q.LastErrorAt)
	if err != nil {
		return fmt.Errorf("ask the inbox of %s: %w", c.Interest.Consumer, err)
	}
	q.AttemptsPerSecond, q.LastError = float64(tried)/60, redact(q.LastError)
	return nil
}

// oldestPages bounds how far back events are looked through, a page at a time.
const oldestPages = 100

// askOldest walks back through what was published for the consumer until it has met as
// many events that are not handled as there are messages in the queue.
func askOldest(ctx context.Context, c *Consumer, q *QueueStatus) error {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var day time.Time
	if err := c.Outbox.QueryRow(ctx, `SELECT (now() AT TIME ZONE 'UTC')::date`).Scan(&day); err != nil {
		return fmt.Errorf("read the day: %w", err)
	}
	limit := day.AddDate(0, 0, -14) // SQS keeps nothing longer
	before, left := uuid.Max, q.Visible+q.InFlight
	for pages := 0; left > 0 && !day.Before(limit); pages++ {
		if pages == oldestPages {
			q.OldestAtLeast = q.OldestSeconds != nil
			return nil
		}
		published, err := publishedBefore(ctx, c, day, before)
		if err != nil {
			return err
		}
		handled, err := handledOf(ctx, c, day, published)
		if err != nil {
			return err
		}
		for _, e := range published {
			if handled[e.ID] || left == 0 {
				continue
			}
			left--
			if q.OldestSeconds == nil || e.Age > *q.OldestSeconds {
				q.OldestSeconds = &e.Age
			}
		}
		if len(published) < page {
			day, before = day.AddDate(0, 0, -1), uuid.Max
			continue
		}
		before = published[len(published)-1].ID
	}
	return nil
}

type publishedEvent struct {
	ID  uuid.UUID
	Age float64
}

// publishedBefore is a page of a day's events that the consumer wants, the newest first:
// their ids begin with the time.
func publishedBefore(ctx context.Context, c *Consumer, day time.Time, before uuid.UUID) ([]publishedEvent, error) {
	rows, err := c.Outbox.Query(ctx, `SELECT o.id, extract(epoch FROM clock_timestamp() - l.published_at)::float8
		FROM outbox o JOIN ledger l ON l.day = $1 AND l.event_id = o.id
		WHERE o.day = $1 AND o.id < $2 AND l.outcome = 'published' AND `+c.Interest.SQL()+` ORDER BY o.id DESC LIMIT $3`, day, before, page)
	if err != nil {
		return nil, fmt.Errorf("list what was published for %s: %w", c.Interest.Consumer, err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[publishedEvent])
	if err != nil {
		return nil, fmt.Errorf("list what was published for %s: %w", c.Interest.Consumer, err)
	}
	return all, nil
}

// handledOf are the events that the consumer is done with, or gave up.
func handledOf(ctx context.Context, c *Consumer, day time.Time, events []publishedEvent) (map[uuid.UUID]bool, error) {
	ids := make([]uuid.UUID, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	rows, err := c.Inbox.Query(ctx, `SELECT event_id FROM inbox WHERE day = $1 AND consumer = $2 AND event_id = ANY($3) AND state IN ('done', 'dead')`,
		day, c.Interest.Consumer, ids)
	if err != nil {
		return nil, fmt.Errorf("look into the inbox of %s: %w", c.Interest.Consumer, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("look into the inbox of %s: %w", c.Interest.Consumer, err)
	}
	handled := make(map[uuid.UUID]bool, len(found))
	for _, id := range found {
		handled[id] = true
	}
	return handled, nil
}
