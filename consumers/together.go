package consumers

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// maxTogether bounds how many share a transaction.
const maxTogether = 64

// answered is the answer of one of those that share a transaction.
type answered[A any] struct {
	answer A
	err    error
}

// together runs the statements of all items in one round trip and one
// transaction. Where the database refuses that, each item gets a transaction of
// its own, so that none fails for another's fault.
func together[Q, A any](pool *pgxpool.Pool, items []Q, queue func(*pgx.Batch, Q), read func(pgx.BatchResults, Q) (A, error)) []answered[A] {
	answers, err := inOne(pool, items, queue, read)
	refused := errors.As(err, new(*pgconn.PgError)) && !errors.As(err, new(*pgconn.ConnectError))
	if refused && len(items) > 1 {
		answers = answers[:0]
		for i := range items {
			answers = append(answers, together(pool, items[i:i+1], queue, read)...)
		}
		return answers
	}
	if err != nil {
		for i := range answers {
			answers[i] = answered[A]{err: err}
		}
	}
	return answers
}

func inOne[Q, A any](pool *pgxpool.Pool, items []Q, queue func(*pgx.Batch, Q), read func(pgx.BatchResults, Q) (A, error)) ([]answered[A], error) {
	ctx, cancel := context.WithTimeout(context.Background(), bookkeeping)
	defer cancel()
	batch := &pgx.Batch{}
	for _, item := range items {
		queue(batch, item)
	}
	answers := make([]answered[A], len(items))
	results := pool.SendBatch(ctx, batch)
	for i, item := range items {
		var err error
		if answers[i].answer, err = read(results, item); err != nil {
			_ = results.Close() // says the same
			return answers, err
		}
	}
	return answers, results.Close() // the commit's answer
}
