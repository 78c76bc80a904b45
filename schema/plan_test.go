package schema_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/schema"
)

// TestSQLIsTheMigration: the SQL of a part of the migrations, run by hand, is what
// the migration would have done, and the rest goes on from there.
func TestSQLIsTheMigration(t *testing.T) {
	t.Parallel()
	const tables = `SELECT coalesce(string_agg(c.relname || ' ' || coalesce(c.relacl::text, '') || ' ' || coalesce(a.names, ''), E'\n' ORDER BY c.relname), '')
		FROM pg_class c LEFT JOIN LATERAL (SELECT string_agg(attname || format_type(atttypid, atttypmod) || attnotnull, ',' ORDER BY attnum) AS names FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0) a ON true
		WHERE c.relnamespace = 'public'::regnamespace`
	all, err := schema.All("store")
	require.NoError(t, err)
	migrated := pgtest.NewDatabase(t, pgtest.Template{})
	_, err = schema.MigrateStore(t.Context(), migrated.DSN)
	require.NoError(t, err)
	var want string
	require.NoError(t, connect(t, migrated.DSN).QueryRow(t.Context(), tables).Scan(&want))
	for _, byHand := range []int{1, 5, len(all)} {
		db := pgtest.NewDatabase(t, pgtest.Template{})
		conn := connect(t, db.DSN)
		pending, err := schema.Pending(t.Context(), conn, "store")
		require.NoError(t, err)
		require.Equal(t, all, pending)
		text, err := schema.SQL(all[:byHand])
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), text)
		require.NoError(t, err)
		pending, err = schema.Pending(t.Context(), conn, "store")
		require.NoError(t, err)
		require.Len(t, pending, len(all)-byHand)
		applied, err := schema.MigrateStore(t.Context(), db.DSN)
		require.NoError(t, err)
		require.Equal(t, append([]string{}, pending...), append([]string{}, applied...))
		var got string
		require.NoError(t, conn.QueryRow(t.Context(), tables).Scan(&got))
		require.Equal(t, want, got)
	}
}
