package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/schema"
)

// nextReplay returns the replay that is to be carried out, which is running from then
// on, nil where there is none. One that runs comes before those that wait.
func (l *ledger) nextReplay(ctx context.Context) (*replay, error) {
	ctx, cancel := context.WithTimeout(ctx, visit)
	defer cancel()
	var as schema.Replay
	var by, state string
	var events, done int64
	var rate int
	err := l.pool.QueryRow(ctx, `SELECT id, coalesce(consumer, ''), force, asked_by, state, events, greatest(done,
			(SELECT s.done FROM replay_shards s WHERE s.replay_id = r.id AND s.slot = $1)), rate FROM replays r
		WHERE state IN ('waiting', 'running') ORDER BY state = 'running' DESC, turn LIMIT 1`, l.slot).
		Scan(&as.ID, &as.Consumer, &as.Force, &by, &state, &events, &done, &rate)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which replay is next: %w", err)
	}
	if state == "waiting" {
		tag, err := l.pool.Exec(ctx, `UPDATE replays SET state = 'running', started_at = coalesce(started_at, now()) WHERE id = $1 AND state = 'waiting'`, as.ID)
		if err != nil {
			return nil, fmt.Errorf("begin replay %s: %w", as.ID, err)
		}
		if tag.RowsAffected() == 0 { // cancelled meanwhile
			return nil, nil
		}
	}
	if done >= events { // the other shards are not through with it yet
		return nil, nil
	}
	if rate > 0 {
		rate = l.shard.share(rate)
	}
	return newReplay(as, by, events, done, rate), nil
}

// items reads up to n items of a replay behind a place. What the outbox does not hold
// any more comes as an entry that says so.
func (l *ledger) items(ctx context.Context, replay uuid.UUID, behind int64, n int) ([]*entry, error) {
	ctx, cancel := context.WithTimeout(ctx, visit)
	defer cancel()
	rows, err := l.pool.Query(ctx, `SELECT place, day, event_id, error IS NOT NULL FROM replay_items
		WHERE replay_id = $1 AND place > $2 ORDER BY place LIMIT $3`, replay, behind, n)
	if err != nil {
		return nil, fmt.Errorf("load items of a replay: %w", err)
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*entry, error) {
		e := &entry{item: &item{}}
		return e, row.Scan(&e.item.place, &e.day, &e.id, &e.item.failed)
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("load items of a replay: %w", err)
	case len(entries) == 0:
		return nil, errors.New("load items of a replay: there are fewer than it says: cancel it")
	}
	loaded, err := l.fill(ctx, entries)
	if err != nil {
		return nil, fmt.Errorf("load events to replay: %w", err)
	}
	return entries[:loaded], nil
}

// fill reads the events of items, until they are of the size of a load, and returns of
// how many. It asks by the day, so that each question concerns one partition, and with
// LIMIT, so that events are looked up one by one whatever is known of the tables' sizes.
func (l *ledger) fill(ctx context.Context, entries []*entry) (loaded int, err error) {
	batch := &pgx.Batch{}
	for from := 0; from < len(entries); {
		to, ids := from, []uuid.UUID(nil)
		for ; to < len(entries) && entries[to].day.Equal(entries[from].day); to++ {
			ids = append(ids, entries[to].id)
		}
		batch.Queue(`SELECT coalesce(o.seq, 0), coalesce(o.message_group, ''), o.type, o.subject, o.attributes::text, o.body, o.traceparent, l.outcome IS DISTINCT FROM 'published'
			FROM unnest($2::uuid[]) WITH ORDINALITY k (id, n)
			LEFT JOIN LATERAL (SELECT * FROM `+l.table.Sanitize()+` o WHERE o.day = $1 AND o.id = k.id LIMIT 1) o ON true
			LEFT JOIN LATERAL (SELECT * FROM ledger l WHERE l.day = $1 AND l.event_id = k.id LIMIT 1) l ON true
			ORDER BY k.n`, entries[from].day, ids)
		from = to
	}
	results := l.pool.SendBatch(ctx, batch)
	defer func() {
		if closed := results.Close(); err == nil {
			err = closed
		}
	}()
	memory := 0
	for range batch.Len() {
		rows, err := results.Query()
		if err != nil {
			return 0, err
		}
		var typ, subject, attributes, body, traceparent *string
		var e entry
		var unrecorded bool
		_, err = pgx.ForEachRow(rows, []any{&e.seq, &e.group, &typ, &subject, &attributes, &body, &traceparent, &unrecorded}, func() error {
			if memory >= replayBytes {
				return errEnough
			}
			one := entries[loaded]
			loaded++
			one.seq, one.group, one.item.unrecorded = e.seq, e.group, unrecorded
			if !l.shard.whole() && !l.shard.holds(e.group) {
				one.item.elsewhere, one.memory = true, entryOverhead
				return nil
			}
			if typ == nil {
				one.parked, one.memory = errors.New("the outbox does not hold it any more"), entryOverhead
				return nil
			}
			one.row = loadedRow(typ, subject, attributes, body, traceparent)
			err := one.measure()
			one.size += replayAttributeBytes
			memory += one.memory
			return err
		})
		if errors.Is(err, errEnough) {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	return loaded, nil
}

// queueReplayed writes how far a replay is and what came of its items, all of one
// replay. A write that is repeated changes nothing.
func (l *ledger) queueReplayed(batch *pgx.Batch, entries []*entry) {
	var r *replay
	var upTo int64
	var places []int64
	var errs []*string
	var first parkedRows // published for the first time, as far as the ledger knows
	var messages, sequences []string
	for _, e := range entries {
		if e.item == nil {
			continue
		}
		r, upTo = e.item.replay, max(upTo, e.item.upTo)
		if e.item.elsewhere {
			continue
		}
		if e.parked != nil {
			why := storable(e.parked.Error())
			places, errs = append(places, e.item.place), append(errs, &why)
			continue
		}
		if e.item.failed {
			places, errs = append(places, e.item.place), append(errs, nil)
		}
		if e.item.unrecorded && r.as.Consumer == "" { // else all others skip it
			first.days, first.ids = append(first.days, e.day), append(first.ids, e.id)
			messages, sequences = append(messages, e.messageID), append(sequences, e.sequenceNumber)
		}
	}
	if r == nil {
		return
	}
	if len(first.ids) > 0 {
		queueFirst(batch, r.by, first.days, first.ids, messages, sequences)
	}
	if len(places) > 0 {
		batch.Queue(`UPDATE replay_items i SET error = r.error FROM unnest($2::bigint[], $3::text[]) AS r (place, error)
			WHERE i.replay_id = $1 AND i.place = r.place`, r.as.ID, places, errs)
	}
	if l.shard.whole() {
		batch.Queue(setDone, r.as.ID, upTo)
		return
	}
	// With the row locked, the next statement sees what the other shards have written.
	batch.Queue(`SELECT FROM replays WHERE id = $1 FOR UPDATE`, r.as.ID)
	batch.Queue(`INSERT INTO replay_shards AS s (replay_id, slot, done) VALUES ($1, $2, $3)
		ON CONFLICT (replay_id, slot) DO UPDATE SET done = greatest(s.done, excluded.done)`, r.as.ID, l.slot, upTo)
	batch.Queue(`WITH least AS (SELECT min(coalesce(p.done, 0)) AS done FROM shards s
			LEFT JOIN replay_shards p ON p.replay_id = $1 AND p.slot = s.slot WHERE s.relay = $2 AND s.state = 'serving')
		`+strings.ReplaceAll(setDone, "$2", "(SELECT done FROM least)"), r.as.ID, l.relay)
}

// setDone notes that all items of a replay up to a place are dealt with.
const setDone = `UPDATE replays SET done = greatest(done, $2::bigint), state = CASE WHEN $2 >= events THEN 'done' ELSE state END,
	ended_at = CASE WHEN $2 >= events THEN coalesce(ended_at, now()) ELSE ended_at END WHERE id = $1`

// queueFirst records events that were published by a replay and not before: the ledger
// did not know them, or had them parked.
func queueFirst(batch *pgx.Batch, by string, days []time.Time, ids []uuid.UUID, messages, sequences []string) {
	batch.Queue(`INSERT INTO ledger AS l (day, event_id, outcome, message_id, sequence_number)
		SELECT day, event_id, 'published', message_id, sequence_number
		FROM unnest($1::date[], $2::uuid[], $3::text[], $4::text[]) AS r (day, event_id, message_id, sequence_number)
		ON CONFLICT (day, event_id) DO UPDATE SET outcome = 'published', message_id = excluded.message_id,
			sequence_number = excluded.sequence_number, published_at = now() WHERE l.outcome = 'parked'`, days, ids, messages, sequences)
	batch.Queue(`UPDATE parked p SET state = 'sent', resolved_at = now(), asked_by = $3, asked_at = now()
		FROM unnest($1::date[], $2::uuid[]) AS r (day, event_id)
		WHERE p.day = r.day AND p.event_id = r.event_id AND p.state IN ('parked', 'sending')`, days, ids, by)
}
