package ops

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// idSum stands for a set of ids. The database makes it in one pass, without a sort or a
// join, whatever it knows of the table. Of two sets with equal sums each id is in both,
// but for a chance of one in 2^64.
type idSum struct {
	count  int64
	hashes int64 // of the ids, by exclusive or
}

func (s *idSum) add(other idSum) {
	s.count += other.count
	s.hashes ^= other.hashes
}

// sumOutbox sums the ids of the day, all of them and those that each consumer wants.
// Grouped so, each condition is evaluated once for each row.
func (r *sideRun) sumOutbox(ctx context.Context, day time.Time) (all idSum, wanted []idSum, err error) {
	wanted, wants := make([]idSum, len(r.side.consumers)), make([]bool, len(r.side.consumers))
	var group idSum
	columns, by := "", []string{}
	into := []any{&group.count, &group.hashes}
	for i, c := range r.side.consumers {
		columns += ", (" + c.interest.SQL() + ")"
		by = append(by, strconv.Itoa(i+3))
		into = append(into, &wants[i])
	}
	rows, err := r.side.outbox.Query(ctx, `SELECT count(*), bit_xor(uuid_hash_extended(id, 0))`+columns+`
		FROM outbox WHERE day = `+literal(day)+` GROUP BY `+strings.Join(by, ", "))
	if err != nil {
		return all, nil, fmt.Errorf("read the outbox: %w", err)
	}
	_, err = pgx.ForEachRow(rows, into, func() error {
		all.add(group)
		for i := range wanted {
			if wants[i] {
				wanted[i].add(group)
			}
		}
		return nil
	})
	if err != nil {
		return all, nil, fmt.Errorf("read the outbox: %w", err)
	}
	return all, wanted, nil
}

// querier is a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// sumDay sums the ids of a day that are in a table, outbox or ledger.
func sumDay(ctx context.Context, q querier, table string, day time.Time) (s idSum, err error) {
	id := map[string]string{"outbox": "id", "ledger": "event_id"}[table]
	err = q.QueryRow(ctx, `SELECT count(*), coalesce(bit_xor(uuid_hash_extended(`+id+`, 0)), 0) FROM `+table+` WHERE day = `+literal(day)).Scan(&s.count, &s.hashes)
	if err != nil {
		return s, fmt.Errorf("read the %s: %w", table, err)
	}
	return s, nil
}

// sumDone sums the ids of the day that the consumer is done with, and counts what its
// inbox tells by itself.
func (c *inboxSide) sumDone(ctx context.Context, day, stale time.Time, books *ConsumerBooks) (s idSum, err error) {
	err = c.inbox.QueryRow(ctx, `SELECT count(*) FILTER (WHERE done), coalesce(bit_xor(uuid_hash_extended(event_id, 0)) FILTER (WHERE done), 0),
			count(*) FILTER (WHERE dead AND NOT done), count(*) FILTER (WHERE uncertain > 0)
		FROM (SELECT event_id, `+perEvent+` FROM inbox WHERE day = `+literal(day)+` AND consumer = $1 GROUP BY event_id) AS e`, c.interest.Consumer, stale).
		Scan(&s.count, &s.hashes, &books.Dead, &books.Uncertain)
	if err != nil {
		return s, fmt.Errorf("look into the inbox of %s: %w", c.interest.Consumer, err)
	}
	return s, nil
}
