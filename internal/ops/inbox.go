package ops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

// The states of an inbox row that matter here.
const (
	stateDone = "done"
	stateDead = "dead"
)

// page bounds how many rows a query takes or gives.
const page = 1000

// books are the tables that tell of one consumer's events.
type books struct {
	interest schema.Interest
	inbox    *pgxpool.Pool // the database that its inbox and effects are in
	outbox   *pgxpool.Pool // the database that its events come from
}

// row is an inbox row. The zero value is none.
type row struct {
	identity
	day       time.Time
	state     string
	attempt   int
	reason    string
	effect    string
	redrive   uuid.NullUUID
	updatedAt time.Time
}

const rowColumns = `i.day, i.event_id, i.replay_id, i.state, i.attempt, coalesce(i.last_error, ''), coalesce(i.effect, ''), i.redrive_id, i.updated_at`

func scanRow(r pgx.CollectableRow) (row, error) {
	var v row
	err := r.Scan(&v.day, &v.event, &v.replay, &v.state, &v.attempt, &v.reason, &v.effect, &v.redrive, &v.updatedAt)
	return v, err
}

// find looks up the rows of letters and notes each in its letter.
func (b *books) find(ctx context.Context, letters []*letter) error {
	for len(letters) > 0 {
		some := letters[:min(len(letters), page)]
		letters = letters[len(some):]
		if err := b.findSome(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

func (b *books) findSome(ctx context.Context, letters []*letter) error {
	var days []time.Time
	var events []uuid.UUID
	for _, l := range letters {
		days, events = append(days, l.day), append(events, l.event)
	}
	found, err := b.rows(ctx, `
		SELECT `+rowColumns+` FROM (SELECT DISTINCT * FROM unnest($2::date[], $3::uuid[])) AS k (day, event_id)
		  JOIN inbox i USING (day, event_id) WHERE i.consumer = $1`, b.interest.Consumer, days, events)
	if err != nil {
		return err
	}
	var missing []uuid.UUID
	earliest := time.Now()
	for _, l := range letters {
		if l.row = found[l.identity]; l.row.state == "" {
			missing = append(missing, l.event)
			if l.sentAt.Before(earliest) {
				earliest = l.sentAt
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	// An event whose own day cannot be read, or has no partition, is under the day
	// on which its message came: at most as long ago as SQS keeps one.
	days = days[:0]
	for day := utcDay(earliest).AddDate(0, 0, -15); !day.After(time.Now()); day = day.AddDate(0, 0, 1) {
		days = append(days, day)
	}
	found, err = b.rows(ctx, `
		SELECT `+rowColumns+` FROM inbox i WHERE i.day = ANY ($2) AND i.consumer = $1 AND i.event_id = ANY ($3)`,
		b.interest.Consumer, days, missing)
	if err != nil {
		return err
	}
	for _, l := range letters {
		if l.row.state == "" {
			l.row = found[l.identity]
		}
	}
	return nil
}

func (b *books) rows(ctx context.Context, sql string, args ...any) (map[identity]row, error) {
	rows, err := b.inbox.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("look into the inbox of %s: %w", b.interest.Consumer, err)
	}
	all, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return nil, fmt.Errorf("look into the inbox of %s: %w", b.interest.Consumer, err)
	}
	found := make(map[identity]row, len(all))
	for _, r := range all {
		found[r.identity] = r
	}
	return found, nil
}

// deep is a dead event that the queue has not shown.
type deep struct {
	row
	eventType, group string
	sequence         int64
}

// hidden finds up to limit dead events that are in none of the letters seen, the
// last to die first, and only of groups that were seen: what nothing stands in
// front of was purged, or expired.
func (b *books) hidden(ctx context.Context, seen map[identity]bool, groups map[string]bool, limit int) ([]deep, error) {
	var all []deep
	before, id := time.Now().AddDate(1, 0, 0), uuid.Max
	for len(all) < limit {
		rows, err := b.inbox.Query(ctx, `
			SELECT `+rowColumns+` FROM inbox i
			 WHERE i.consumer = $1 AND i.state = 'dead' AND (i.updated_at, i.event_id) < ($2, $3)
			 ORDER BY i.updated_at DESC, i.event_id DESC LIMIT $4`, b.interest.Consumer, before, id, page)
		if err != nil {
			return nil, fmt.Errorf("list dead events of %s: %w", b.interest.Consumer, err)
		}
		some, err := pgx.CollectRows(rows, scanRow)
		if err != nil {
			return nil, fmt.Errorf("list dead events of %s: %w", b.interest.Consumer, err)
		}
		found, err := b.describe(ctx, some)
		if err != nil {
			return nil, err
		}
		for _, d := range found {
			if !seen[d.identity] && groups[d.group] && len(all) < limit {
				all = append(all, d)
			}
		}
		if len(some) < page {
			break
		}
		last := some[len(some)-1]
		before, id = last.updatedAt, last.event
	}
	return all, nil
}

// describe adds what the outbox knows of dead events. Those that are not in it,
// messages that were no events, are left out.
func (b *books) describe(ctx context.Context, rows []row) ([]deep, error) {
	var days []time.Time
	var events []uuid.UUID
	byEvent := make(map[uuid.UUID][]row, len(rows))
	for _, r := range rows {
		days, events = append(days, r.day), append(events, r.event)
		byEvent[r.event] = append(byEvent[r.event], r)
	}
	found, err := b.outbox.Query(ctx, `
		SELECT o.id, o.type, o.message_group, o.seq
		  FROM (SELECT DISTINCT * FROM unnest($1::date[], $2::uuid[])) AS k (day, id) JOIN outbox o USING (day, id)`, days, events)
	if err != nil {
		return nil, fmt.Errorf("look into the outbox: %w", err)
	}
	defer found.Close()
	var all []deep
	for found.Next() {
		var id uuid.UUID
		var d deep
		if err := found.Scan(&id, &d.eventType, &d.group, &d.sequence); err != nil {
			return nil, fmt.Errorf("look into the outbox: %w", err)
		}
		for _, r := range byEvent[id] {
			d.row = r
			all = append(all, d)
		}
	}
	if err := found.Err(); err != nil {
		return nil, fmt.Errorf("look into the outbox: %w", err)
	}
	return all, nil
}

// newestDone finds the greatest sequence that the consumer has handled of each
// group that has a letter. A group is left out where that is before its letters.
func (b *books) newestDone(ctx context.Context, letters []*letter) (map[string]int64, error) {
	least, day, left := int64(0), time.Time{}, make(map[string]bool)
	for _, l := range letters {
		if l.sequence == 0 {
			continue
		}
		left[l.group] = true
		if least == 0 || l.sequence < least {
			least = l.sequence
		}
		if day.IsZero() || l.day.Before(day) {
			day = l.day
		}
	}
	newest := make(map[string]int64)
	for before := int64(1)<<62 - 1; len(left) > 0; {
		events, err := b.later(ctx, day, least, before, left)
		if err != nil {
			return nil, err
		}
		done, err := b.done(ctx, events)
		if err != nil {
			return nil, err
		}
		for _, e := range events { // the newest first
			if left[e.group] && done[e.id] {
				newest[e.group] = e.sequence
				delete(left, e.group)
			}
		}
		if len(events) < page {
			break
		}
		before = events[len(events)-1].sequence
	}
	return newest, nil
}

type later struct {
	id       uuid.UUID
	day      time.Time
	group    string
	sequence int64
}

func (b *books) later(ctx context.Context, day time.Time, after, before int64, groups map[string]bool) ([]later, error) {
	names := make([]string, 0, len(groups))
	for g := range groups {
		names = append(names, g)
	}
	rows, err := b.outbox.Query(ctx, `
		SELECT id, day, message_group, seq FROM outbox
		 WHERE day >= $1 AND message_group = ANY ($2) AND seq > $3 AND seq < $4 AND `+b.interest.SQL()+`
		 ORDER BY seq DESC LIMIT $5`, day, names, after, before, page)
	if err != nil {
		return nil, fmt.Errorf("look for newer events: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (v later, err error) {
		return v, r.Scan(&v.id, &v.day, &v.group, &v.sequence)
	})
	if err != nil {
		return nil, fmt.Errorf("look for newer events: %w", err)
	}
	return all, nil
}

func (b *books) done(ctx context.Context, events []later) (map[uuid.UUID]bool, error) {
	days, ids := make([]time.Time, len(events)), make([]uuid.UUID, len(events))
	for i, e := range events {
		days[i], ids[i] = e.day, e.id
	}
	found, err := b.rows(ctx, `
		SELECT `+rowColumns+` FROM unnest($2::date[], $3::uuid[]) AS k (day, event_id)
		  JOIN inbox i USING (day, event_id) WHERE i.consumer = $1 AND i.state = 'done'`, b.interest.Consumer, days, ids)
	if err != nil {
		return nil, err
	}
	done := make(map[uuid.UUID]bool, len(found))
	for _, r := range found {
		done[r.event] = true
	}
	return done, nil
}

// revive makes the dead event of a letter one that may be tried again, with all
// of its attempts, and returns its row as it was before and the id of the
// redrive. That id is new for each death and stays the same until the next. A
// letter without a row changes nothing, and its redrive is known by its message.
func (b *books) revive(ctx context.Context, l *letter) (was row, redrive uuid.UUID, err error) {
	redrive, err = uuid.Parse(l.messageID)
	if err != nil {
		redrive = uuid.NewSHA1(uuid.NameSpaceURL, []byte(l.messageID))
	}
	if l.row.state == "" {
		if err := b.find(ctx, []*letter{l}); err != nil {
			return row{}, uuid.Nil, err
		}
	}
	if l.row.state == "" {
		return row{}, redrive, nil
	}
	err = pgx.BeginFunc(ctx, b.inbox, func(tx pgx.Tx) error {
		args := []any{l.row.day, b.interest.Consumer, l.row.event, l.row.replay}
		rows, err := tx.Query(ctx, `
			SELECT `+rowColumns+` FROM inbox i WHERE day = $1 AND consumer = $2 AND event_id = $3 AND replay_id = $4 FOR UPDATE`, args...)
		if err != nil {
			return err
		}
		if was, err = pgx.CollectExactlyOneRow(rows, scanRow); err != nil {
			return err
		}
		switch {
		case was.state == stateDead:
			redrive = uuid.New()
			_, err = tx.Exec(ctx, `
				UPDATE inbox SET state = 'failed', attempt = 0, redrive_id = $5, updated_at = now()
				 WHERE day = $1 AND consumer = $2 AND event_id = $3 AND replay_id = $4`, append(args, redrive)...)
		case was.redrive.Valid:
			redrive = was.redrive.UUID
		}
		return err
	})
	if err != nil {
		return row{}, uuid.Nil, fmt.Errorf("revive event %s in the inbox of %s: %w", l.event, b.interest.Consumer, err)
	}
	return was, redrive, nil
}

// state is the state of a letter's row now, empty where there is none.
func (b *books) state(ctx context.Context, l *letter) (string, error) {
	fresh := *l
	if err := b.find(ctx, []*letter{&fresh}); err != nil {
		return "", err
	}
	return fresh.row.state, nil
}

// Effect is one call to the outside that an event led to.
type Effect struct {
	Attempt   int       `json:"attempt"`
	Kind      string    `json:"kind"`
	Outcome   string    `json:"outcome"`
	Reference string    `json:"reference,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	StartedAt time.Time `json:"startedAt"`
	EndedAt   time.Time `json:"endedAt"`
}

// effects lists the calls of an event, in their order.
func (b *books) effects(ctx context.Context, id identity) ([]Effect, error) {
	rows, err := b.inbox.Query(ctx, `
		SELECT attempt, kind, outcome, coalesce(reference, ''), coalesce(detail, ''), started_at, ended_at
		  FROM effects WHERE event_id = $1 AND replay_id = $2 AND consumer = $3 ORDER BY started_at, id`, id.event, id.replay, b.interest.Consumer)
	if err != nil {
		return nil, fmt.Errorf("look into the effects of %s: %w", id.event, err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (e Effect, err error) {
		return e, r.Scan(&e.Attempt, &e.Kind, &e.Outcome, &e.Reference, &e.Detail, &e.StartedAt, &e.EndedAt)
	})
	if err != nil {
		return nil, fmt.Errorf("look into the effects of %s: %w", id.event, err)
	}
	return all, nil
}

// dead finds the dead rows of an event, of which the queue showed no letter. The
// id of an event of ours tells about when it was made.
func (b *books) dead(ctx context.Context, event uuid.UUID) ([]deep, error) {
	from, to := time.Now().AddDate(-1, 0, 0), time.Now().AddDate(0, 0, 1)
	if event.Version() == 7 {
		sec, nsec := event.Time().UnixTime()
		made := time.Unix(sec, nsec)
		from, to = made.AddDate(0, 0, -1), made.AddDate(0, 0, 1)
	}
	found, err := b.rows(ctx, `
		SELECT `+rowColumns+` FROM inbox i WHERE i.consumer = $1 AND i.event_id = $2 AND i.day BETWEEN $3 AND $4 AND i.state = 'dead'`,
		b.interest.Consumer, event, utcDay(from), utcDay(to))
	if err != nil || len(found) == 0 {
		return nil, err
	}
	rows := make([]row, 0, len(found))
	for _, r := range found {
		rows = append(rows, r)
	}
	described, err := b.describe(ctx, rows)
	if err == nil && len(described) == 0 {
		for _, r := range rows {
			described = append(described, deep{row: r})
		}
	}
	return described, err
}

// body is the event's body as the relay publishes it, empty where the outbox has
// it no more.
func (b *books) body(ctx context.Context, day time.Time, event uuid.UUID) (string, error) {
	var body string
	var seq int64
	err := b.outbox.QueryRow(ctx, `SELECT body, seq FROM outbox WHERE day = $1 AND id = $2`, day, event).Scan(&body, &seq)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("look into the outbox: %w", err)
	}
	return schema.WithSequence(body, seq)
}
