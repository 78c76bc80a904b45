package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Why an event is parked, as the table parked has it.
const (
	reasonRejected = "rejected" // the publisher will never take it
	reasonInvalid  = "invalid"  // it cannot be read
	reasonHeld     = "held"     // its group is parked
)

// parkedRows are rows of parked, as the arrays that go over the wire.
type parkedRows struct {
	days            []time.Time
	ids             []uuid.UUID
	groups          []string
	seqs            []int64
	reasons, detail []string
}

func (r *parkedRows) add(e *entry) {
	r.days, r.ids = append(r.days, e.day), append(r.ids, e.id)
	r.groups, r.seqs = append(r.groups, indexable(e.group)), append(r.seqs, e.seq)
	r.reasons, r.detail = append(r.reasons, e.reason), append(r.detail, storable(e.parked.Error()))
}

// maxGroup is more than a message group may have, and little enough for an index. One that
// is cut there can be published as little as before.
const maxGroup = 1000

// indexable is a group as the table parked takes it: where nothing checked its length, one
// event must not keep the ledger from being written.
func indexable(group string) string { return storable(group[:min(len(group), maxGroup)]) }

// queueParked adds the events that are parked for the first time, in their order. What
// the ledger holds already is left alone: another relay has dealt with it. So is what was
// parked before, of which a ledger that was lost does not know: it waits still, or was sent
// or skipped. A group of which something is held has its row, without which nobody could
// send it.
func queueParked(batch *pgx.Batch, entries []*entry) {
	var r parkedRows
	for _, e := range entries {
		if e.parked != nil && e.release == nil && e.item == nil {
			r.add(e)
		}
	}
	if len(r.ids) > 0 {
		batch.Queue(`WITH r AS (SELECT * FROM unnest($1::date[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::text[])
				WITH ORDINALITY AS r (day, event_id, message_group, seq, reason, detail, n)),
			l AS (INSERT INTO ledger (day, event_id, outcome) SELECT day, event_id, 'parked' FROM r
				ON CONFLICT DO NOTHING RETURNING day, event_id),
			p AS (INSERT INTO parked (day, event_id, message_group, seq, reason, detail)
				SELECT day, event_id, message_group, seq, reason, detail FROM r JOIN l USING (day, event_id) ORDER BY n
				ON CONFLICT (day, event_id) DO NOTHING RETURNING message_group, event_id, detail, reason, place)
			INSERT INTO parked_groups (message_group, event_id, detail, failing_since)
			SELECT DISTINCT ON (message_group) message_group, event_id, detail, now() FROM p WHERE reason = 'held'
			ORDER BY message_group, place ON CONFLICT DO NOTHING`,
			r.days, r.ids, r.groups, r.seqs, r.reasons, r.detail)
	}
}

// queueGroupLocks locks the groups that become parked before any event of theirs, as
// whoever sends or skips them does.
func queueGroupLocks(batch *pgx.Batch, entries []*entry) {
	var parking []string
	for _, e := range entries {
		if e.parksGroup() {
			parking = append(parking, e.group)
		}
	}
	if len(parking) > 0 {
		batch.Queue(`SELECT FROM parked_groups WHERE message_group = ANY($1) ORDER BY message_group FOR UPDATE`, parking)
	}
}

// queueParkedGroups parks the groups that became parked, and takes back what was asked
// for of them: that waits in its place. One of which nothing is held, because all of it
// was published meanwhile, is left alone. That is so when a relay has lost its lock
// before it came to write.
func queueParkedGroups(batch *pgx.Batch, entries []*entry) {
	for _, e := range entries {
		if !e.parksGroup() {
			continue
		}
		batch.Queue(`WITH g AS (INSERT INTO parked_groups (message_group, event_id, detail, failing_since)
				SELECT $1::text, $2::uuid, $3::text, $4::timestamptz
				WHERE EXISTS (SELECT FROM parked WHERE message_group = $1 AND state = 'parked' AND reason = 'held')
				ON CONFLICT (message_group) DO UPDATE SET event_id = $2, detail = $3, failing_since = $4, parked_at = now(),
					state = 'parked', asked_by = NULL, asked_at = NULL RETURNING message_group)
			UPDATE parked p SET state = 'parked', reason = 'held' FROM g WHERE p.message_group = g.message_group AND p.state = 'sending'`,
			e.group, e.id, storable(e.parked.Error()), e.trouble.first)
	}
}

// queueReleased writes what became of events that were parked before.
func queueReleased(batch *pgx.Batch, entries []*entry) {
	var again parkedRows
	var sent struct {
		days                []time.Time
		ids                 []uuid.UUID
		messages, sequences []string
	}
	for _, e := range entries {
		switch {
		case e.release == nil:
		case e.parked != nil:
			again.add(e)
		default:
			sent.days, sent.ids = append(sent.days, e.day), append(sent.ids, e.id)
			sent.messages, sent.sequences = append(sent.messages, e.messageID), append(sent.sequences, e.sequenceNumber)
		}
	}
	if len(again.ids) > 0 {
		// What was sent or skipped meanwhile, by a replay, another relay or a person, stays so.
		batch.Queue(`UPDATE parked p SET state = 'parked', reason = r.reason, detail = r.detail
			FROM unnest($1::date[], $2::uuid[], $3::text[], $4::text[]) AS r (day, event_id, reason, detail)
			WHERE p.day = r.day AND p.event_id = r.event_id AND p.state IN ('parked', 'sending')`, again.days, again.ids, again.reasons, again.detail)
	}
	if len(sent.ids) > 0 {
		batch.Queue(`UPDATE ledger l SET outcome = 'published', message_id = r.message_id, sequence_number = r.sequence_number, published_at = now()
			FROM unnest($1::date[], $2::uuid[], $3::text[], $4::text[]) AS r (day, event_id, message_id, sequence_number)
			WHERE l.day = r.day AND l.event_id = r.event_id`, sent.days, sent.ids, sent.messages, sent.sequences)
		batch.Queue(`UPDATE parked p SET state = 'sent', resolved_at = now(),
				asked_by = coalesce(p.asked_by, (SELECT g.asked_by FROM parked_groups g WHERE g.message_group = p.message_group)),
				asked_at = coalesce(p.asked_at, (SELECT g.asked_at FROM parked_groups g WHERE g.message_group = p.message_group))
			FROM unnest($1::date[], $2::uuid[]) AS r (day, event_id)
			WHERE p.day = r.day AND p.event_id = r.event_id`, sent.days, sent.ids)
	}
}

// parkedGroups reads which groups are parked, also those that are being released.
func (l *ledger) parkedGroups(ctx context.Context) (*groups, error) {
	found := newGroups()
	rows, err := l.pool.Query(ctx, `SELECT message_group, event_id, detail FROM parked_groups
		WHERE bucket_of(message_group) BETWEEN $1 AND $2`, l.shard.First, l.shard.Last)
	if err != nil {
		return nil, fmt.Errorf("read the parked groups: %w", err)
	}
	var group, why string
	var head uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&group, &head, &why}, func() error {
		found.park(group, head, why)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the parked groups: %w", err)
	}
	return found, nil
}

// asked is a group of which somebody asked to send what is parked.
type asked struct {
	Group string
	Whole bool // all of it, not single events
}

// maxAsked bounds what is read of what was asked for. It is more than can be under
// way at once, so that there is always something new in it.
const maxAsked = 2 * maxUnderWay

const askedQuery = `SELECT message_group, bool_or(whole) FROM (
		SELECT message_group, true AS whole FROM parked_groups WHERE state = 'sending'
		UNION ALL SELECT message_group, false FROM parked WHERE state = 'sending') AS a
	WHERE bucket_of(message_group) BETWEEN $2 AND $3 GROUP BY message_group
	ORDER BY message_group <= $4, message_group LIMIT $1`

// asked reads it, beginning behind a group: of more than can be under way each has its
// turn, also where some cannot go and are asked for again and again.
func (l *ledger) asked(ctx context.Context, after string) ([]asked, error) {
	ctx, cancel := context.WithTimeout(ctx, visit)
	defer cancel()
	rows, err := l.pool.Query(ctx, askedQuery, maxAsked, l.shard.First, l.shard.Last, after)
	if err != nil {
		return nil, fmt.Errorf("read what is to be sent: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[asked])
	if err != nil {
		return nil, fmt.Errorf("read what is to be sent: %w", err)
	}
	return all, nil
}

// A load is bounded in events and, but for its last event, in bytes.
const (
	loadEvents = 100
	loadBytes  = 512 << 10
)

var errEnough = errors.New("enough")

// load reads the first of what is to be sent of a group, at most so many, in the order in
// which it was parked, and whether there is more.
func (l *ledger) load(ctx context.Context, r *release, whole bool, most int) (entries []*entry, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, visit)
	defer cancel()
	rows, err := l.pool.Query(ctx, `SELECT p.day, p.event_id, p.seq, o.type, o.subject, o.attributes::text, o.body, o.traceparent
		FROM parked p LEFT JOIN `+l.table.Sanitize()+` o ON o.day = p.day AND o.id = p.event_id
		WHERE p.message_group = $1 AND p.state IN ('parked', 'sending') AND (p.state = 'sending' OR $2 AND p.reason = 'held')
		ORDER BY p.place LIMIT $3`, r.group, whole, most+1)
	if err != nil {
		return nil, false, fmt.Errorf("load parked events: %w", err)
	}
	memory := 0
	var e entry
	var typ, subject, attributes, body, traceparent *string
	_, err = pgx.ForEachRow(rows, []any{&e.day, &e.id, &e.seq, &typ, &subject, &attributes, &body, &traceparent}, func() error {
		switch {
		case len(entries) == most, memory >= loadBytes, typ == nil && len(entries) > 0:
			return errEnough
		case typ == nil:
			// The stream brings a commit a moment before others see it. A row that was
			// deleted by hand stays away.
			return fmt.Errorf("the outbox does not show event %s; if that lasts, run restock parked skip %s", e.id, e.id)
		}
		one := &entry{
			day: e.day, id: e.id, seq: e.seq, group: r.group, release: r,
			row: loadedRow(typ, subject, attributes, body, traceparent),
		}
		entries = append(entries, one)
		err := one.measure()
		memory += one.memory
		return err
	})
	if errors.Is(err, errEnough) {
		return entries, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("load parked events: %w", err)
	}
	return entries, false, nil
}

// endRelease unparks a group of which nothing is held any more.
func (l *ledger) endRelease(ctx context.Context, group string) error {
	ctx, cancel := context.WithTimeout(ctx, visit)
	defer cancel()
	_, err := l.pool.Exec(ctx, `DELETE FROM parked_groups WHERE message_group = $1 AND state = 'sending'
		AND NOT EXISTS (SELECT FROM parked WHERE message_group = $1 AND state = 'parked' AND reason = 'held')`, group)
	if err != nil {
		return fmt.Errorf("end the release of a group: %w", err)
	}
	return nil
}
