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
// row, as its root.
func readPublication(ctx context.Context, conn *pgx.Conn, name string) (publication, error) {
	mend := fmt.Sprintf("run restock migrate, or as the owner: DROP PUBLICATION IF EXISTS %[1]s; CREATE PUBLICATION %[1]s FOR TABLE outbox "+
		"WITH (publish = 'insert', publish_via_partition_root = true); what was committed meanwhile is then found and published",
		pgx.Identifier{name}.Sanitize())
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
	rows, err := conn.Query(ctx, `SELECT schemaname, tablename, attnames::text[], rowfilter IS NOT NULL, coalesce((`+publicationIDQuery+`$1), '')
		FROM pg_publication_tables WHERE pubname = $1`, name)
	if err != nil {
		return publication{}, fmt.Errorf("read publication %s: %w", name, err)
	}
	type published struct {
		Schema, Name string
		Columns      []string
		Filtered     bool
		ID           publicationID
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[published])
	switch {
	case err != nil:
		return publication{}, fmt.Errorf("read publication %s: %w", name, err)
	case len(tables) != 1:
		return publication{}, refusal("publication %s has %d tables, not one: %s", name, len(tables), mend)
	case tables[0].Filtered || tables[0].ID == "":
		return publication{}, refusal("publication %s must name its table and publish every row of it: %s", name, mend)
	}
	table := tables[0]
	for _, column := range columns {
		if !slices.Contains(table.Columns, column) {
			return publication{}, refusal("publication %s does not publish column %q of %s.%s, which the relay needs: add the column to the table where it lacks it; %s",
				name, column, table.Schema, table.Name, mend)
		}
	}
	return publication{pgx.Identifier{table.Schema, table.Name}, table.ID}, nil
}

// RepairPublication makes the publication of the table outbox anew where it is
// missing or not as the relay needs it, and reports whether it did. It runs as
// the owner. What was committed meanwhile is found by the relay, which notices
// that the publication is another.
func RepairPublication(ctx context.Context, dsn, name string) (bool, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return false, fmt.Errorf("repair publication %s: %w", name, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var refused *RefusedError
	if _, err := readPublication(ctx, conn, name); !errors.As(err, &refused) {
		return false, err
	}
	quoted := pgx.Identifier{name}.Sanitize()
	_, err = conn.Exec(ctx, `BEGIN; DROP PUBLICATION IF EXISTS `+quoted+`; CREATE PUBLICATION `+quoted+
		` FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true); COMMIT`)
	if err != nil {
		return false, fmt.Errorf("repair publication %s: %w", name, err)
	}
	_, err = readPublication(ctx, conn, name)
	return true, err
}
