package relay

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/schema"
)

// MaxShards bounds into how many shards an outbox is split. Each has a slot, and each
// slot decodes all of the server's WAL.
const MaxShards = 32

// Shard is a part of an outbox with a slot and a publication of its own: the events
// whose message groups are in a range of buckets. One relay at a time publishes it.
type Shard struct {
	Slot, Publication string
	First, Last       int // of the buckets
}

// wholeOutbox is the one shard of an outbox that is not split.
func wholeOutbox(slot, publication string) Shard {
	return Shard{slot, publication, 0, schema.Buckets - 1}
}

// split cuts an outbox into n shards. One alone has the names that it is given, and
// the publication that every outbox begins with: it filters nothing.
func split(slot, publication string, n int) []Shard {
	if n == 1 {
		return []Shard{wholeOutbox(slot, publication)}
	}
	shards := make([]Shard, n)
	for i := range shards {
		suffix := fmt.Sprintf("_%d_of_%d", i+1, n)
		shards[i] = Shard{
			slot[:min(len(slot), maxName-len(suffix))] + suffix, publication[:min(len(publication), maxName-len(suffix))] + suffix,
			i * schema.Buckets / n, (i+1)*schema.Buckets/n - 1,
		}
	}
	return shards
}

// maxName is the longest name of a slot or a publication, in bytes.
const maxName = 63

func (s Shard) whole() bool { return s.First == 0 && s.Last == schema.Buckets-1 }

// holds tells whether the events of a group are in the shard.
func (s Shard) holds(group string) bool {
	b := schema.Bucket(group)
	return s.First <= b && b <= s.Last
}

// filter is the publication's, as Postgres shows it; the whole outbox has none.
func (s Shard) filter() string {
	if s.whole() {
		return ""
	}
	return fmt.Sprintf("((bucket >= %d) AND (bucket <= %d))", s.First, s.Last)
}

// create is the statement that makes the publication.
func (s Shard) create() string {
	where := ""
	if !s.whole() {
		where = " WHERE " + s.filter()
	}
	return fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE outbox%s WITH (publish = 'insert', publish_via_partition_root = true)",
		pgx.Identifier{s.Publication}.Sanitize(), where)
}

// share is the shard's part of n for all, at least 1.
func (s Shard) share(n int) int { return max(1, n*(s.Last-s.First+1)/schema.Buckets) }

// querier asks a database: a pool, a connection or a transaction of pgx.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// readShards reads the shards that relays of the given slot are to publish, and whether
// they are to leave them alone for now. An outbox that was never split is one.
func readShards(ctx context.Context, db querier, slot, publication string) (serving []Shard, paused bool, err error) {
	rows, err := db.Query(ctx, `SELECT slot, publication, first_bucket::int, last_bucket::int, coalesce(paused_until > clock_timestamp(), false)
		FROM shards WHERE relay = $1 AND state = 'serving' ORDER BY first_bucket`, slot)
	if err != nil {
		return nil, false, fmt.Errorf("read the shards: %w", err)
	}
	var s Shard
	var leave bool
	_, err = pgx.ForEachRow(rows, []any{&s.Slot, &s.Publication, &s.First, &s.Last, &leave}, func() error {
		serving, paused = append(serving, s), paused || leave
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("read the shards: %w", err)
	}
	if serving == nil {
		serving = []Shard{wholeOutbox(slot, publication)}
	}
	return serving, paused, nil
}
