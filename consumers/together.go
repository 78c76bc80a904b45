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
	if err == nil {
		return answers
	}
	alone := len(items) > 1 && refused(err)
	for i := range items {
		answers[i] = answered[A]{err: err}
		if !alone {
			continue
		}
		answers[i] = together(pool, items[i:i+1], queue, read)[0]
		if err = answers[i].err; err != nil && !refused(err) {
			alone = false // it went away: the rest need not find out one by one
		}
	}
	return answers
}

// refused tells a database that answers with an error from one that does not answer.
func refused(err error) bool {
	return errors.As(err, new(*pgconn.PgError)) && !errors.As(err, new(*pgconn.ConnectError))
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
