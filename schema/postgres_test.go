package schema_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/schema"
)

func TestCheckPostgres(t *testing.T) {
	t.Parallel()
	require.NoError(t, schema.CheckPostgres("15.0", 150000))
	require.NoError(t, schema.CheckPostgres("18.4", 180004))
	err := schema.CheckPostgres("14.23", 140023)
	require.ErrorIs(t, err, schema.ErrOldPostgres)
	require.EqualError(t, err, "Postgres is too old: it is 14.23, and 15 or newer is needed")
}

// A server that is too old is left as it is. The tests' server is made to look like one by
// a function that is found before Postgres's own.
func TestMigrateLeavesAnOldPostgres(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t, pgtest.Template{Name: "empty"})
	owner := connect(t, db.DSN)
	_, err := owner.Exec(t.Context(), `CREATE SCHEMA old; CREATE FUNCTION old.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT '140023' $$`)
	require.NoError(t, err)
	_, err = owner.Exec(t.Context(), `ALTER DATABASE `+db.Name+` SET search_path = old, pg_catalog, public`)
	require.NoError(t, err)
	_, err = schema.MigrateStore(t.Context(), db.DSN)
	require.ErrorIs(t, err, schema.ErrOldPostgres)
	var untouched bool
	require.NoError(t, owner.QueryRow(t.Context(), `SELECT to_regclass('public.migrations_events') IS NULL`).Scan(&untouched))
	require.True(t, untouched)
}
