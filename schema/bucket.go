package schema

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Buckets is how many there are. A shard of an outbox is a range of them.
const Buckets = 256

// Bucket is the bucket of a message group, 0 to Buckets-1. The outbox's column of that
// name has the same.
func Bucket(group string) int { return int(sha256.Sum256([]byte(group))[0]) }

// FillsBuckets tells whether the trigger that fills the bucket of a row that comes without
// one is on the outbox and on each of its partitions, and enabled there.
func FillsBuckets(ctx context.Context, db Querier) (bool, error) {
	rows, err := db.Query(ctx, `SELECT bool_and(EXISTS (SELECT FROM pg_trigger WHERE tgrelid = t AND tgname = 'outbox_bucket' AND tgenabled IN ('O', 'A')))
		FROM (SELECT 'outbox'::regclass UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = 'outbox'::regclass AND NOT inhdetachpending) AS of (t)`)
	if err != nil {
		return false, fmt.Errorf("look for the trigger outbox_bucket: %w", err)
	}
	filled, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
	if err != nil {
		return false, fmt.Errorf("look for the trigger outbox_bucket: %w", err)
	}
	return filled, nil
}
