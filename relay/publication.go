package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// publication is the one that the relay reads, as it is now.
type publication struct {
	table pgx.Identifier
	id    publicationID
}

// publicationID changes with whatever may let rows pass unpublished: the oids of
// the publication and of its table, and who last wrote their catalog rows. A
// publication that was taken away and put back looks the same otherwise.
type publicationID string

func (p publicationID) part(n int) string {
	if parts := strings.Fields(string(p)); n < len(parts) {
		return parts[n]
	}
	return ""
}

// oid is that of the publication.
func (p publicationID) oid() string { return p.part(0) }

// table is the oid of the published table.
func (p publicationID) table() string { return p.part(1) }

// publicationIDQuery takes the publication's name as its one parameter, and has no
// row when no table is published by name.
const publicationIDQuery = `SELECT format('%s %s %s %s', p.oid, string_agg(r.prrelid::text, ',' ORDER BY r.oid), p.xmin, string_agg(r.xmin::text, ',' ORDER BY r.oid))
	FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid GROUP BY p.oid, p.xmin, p.pubname HAVING p.pubname = `

// readPublication wants exactly one table, published by name, inserts only, every
// row of the shard, as its root.
func readPublication(ctx context.Context, conn *pgx.Conn, shard Shard) (publication, error) {
	name := shard.Publication
	mend := fmt.Sprintf("run restock migrate, or as the owner: DROP PUBLICATION IF EXISTS %s; %s; what was committed meanwhile is then found and published",
		pgx.Identifier{name}.Sanitize(), shard.create())
	var all, insert, update, del, truncate, root bool
	err := conn.QueryRow(ctx, `SELECT puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot
		FROM pg_publication WHERE pubname = $1`, name).Scan(&all, &insert, &update, &del, &truncate, &root)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return publication{}, refusal("publication %s does not exist: %s", name, mend)
	case err != nil:
		return publication{}, fmt.Errorf("read publication %s: %w", name, err)
	case all || !insert || update || del || truncate || !root:
		return publication{}, refusal("publication %s must have one table, publish = 'insert' and publish_via_partition_root: %s", name, mend)
	}
	rows, err := conn.Query(ctx, `SELECT schemaname, tablename, attnames::text[], coalesce(rowfilter, ''), coalesce((`+publicationIDQuery+`$1), '')
		FROM pg_publication_tables WHERE pubname = $1`, name)
	if err != nil {
		return publication{}, fmt.Errorf("read publication %s: %w", name, err)
	}
	type published struct {
		Schema, Name string
		Columns      []string
		Filter       string
		ID           publicationID
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[published])
	switch {
	case err != nil:
		return publication{}, fmt.Errorf("read publication %s: %w", name, err)
	case len(tables) != 1:
		return publication{}, refusal("publication %s has %d tables, not one: %s", name, len(tables), mend)
	case tables[0].ID == "":
		return publication{}, refusal("publication %s must name its table: %s", name, mend)
	case tables[0].Filter != shard.filter() && shard.whole():
		return publication{}, refusal("publication %s must publish every row of its table: %s", name, mend)
	case tables[0].Filter != shard.filter():
		return publication{}, refusal("publication %s must publish the rows of %s WHERE %s, not %q: %s", name, tables[0].Name, shard.filter(), tables[0].Filter, mend)
	}
	table := tables[0]
	for _, column := range columns {
		if !slices.Contains(table.Columns, column) {
			return publication{}, refusal("publication %s does not publish column %q of %s.%s, which the relay needs: add the column to the table where it lacks it, and where it is a generated one, DROP EXPRESSION; %s",
				name, column, table.Schema, table.Name, mend)
		}
	}
	return publication{pgx.Identifier{table.Schema, table.Name}, table.ID}, nil
}

// RepairPublication makes the publications of the table outbox anew that are missing or
// not as the relays of the slot need them, and reports whether there was one. It runs as
// the owner. What was committed meanwhile is found by the relay, which notices that the
// publication is another.
func RepairPublication(ctx context.Context, dsn, slot, name string) (repaired bool, err error) {
	conn, err := connectOnce(ctx, dsn)
	if err != nil {
		return false, fmt.Errorf("repair publication %s: %w", name, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	shards, _, err := readShards(ctx, conn, slot, name)
	if err != nil {
		return false, err
	}
	for _, shard := range shards {
		one, err := repairPublication(ctx, conn, shard)
		if err != nil {
			return repaired, err
		}
		repaired = repaired || one
	}
	return repaired, nil
}

// repairPublication makes a shard's publication, in place of one that is not as it
// should be.
func repairPublication(ctx context.Context, conn *pgx.Conn, shard Shard) (bool, error) {
	var refused *RefusedError
	if _, err := readPublication(ctx, conn, shard); !errors.As(err, &refused) {
		return false, err
	}
	_, err := conn.Exec(ctx, `BEGIN; DROP PUBLICATION IF EXISTS `+pgx.Identifier{shard.Publication}.Sanitize()+`; `+shard.create()+`; COMMIT`)
	if err != nil {
		return false, fmt.Errorf("repair publication %s: %w", shard.Publication, err)
	}
	_, err = readPublication(ctx, conn, shard)
	return true, err
}
