package schema_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/schema"
)

// What Postgres itself answers is told by what mends it.
func TestMend(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t, store)
	conn := connect(t, db.RoleDSN(schema.RoleAPI, password))
	for sql, want := range map[string]string{
		`SELECT FROM nothing`: "restock migrate",
		`SELECT FROM ledger`:  "connect as the role",
		`SELECT pg_create_logical_replication_slot('a', 'pgoutput')`: "ALTER ROLE … REPLICATION",
	} {
		_, err := conn.Exec(t.Context(), sql)
		require.Error(t, err)
		require.Contains(t, schema.Mend(err), want, sql)
	}
	for dsn, want := range map[string]string{
		db.RoleDSN(schema.RoleAPI, "wrong"):                            `\password ROLE`,
		db.RoleDSN(schema.RoleAPI, password) + "&replication=database": "ALTER ROLE … REPLICATION",
	} {
		_, err := pgx.Connect(t.Context(), dsn)
		require.Error(t, err)
		require.Contains(t, schema.Mend(err), want)
	}
	require.Empty(t, schema.Mend(nil))
	require.Empty(t, schema.Mend(errors.New("connection refused")))
}
