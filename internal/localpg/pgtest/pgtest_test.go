package pgtest_test

import (
	"context"
	"os"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var setups atomic.Int32

var notes = pgtest.Template{Name: "notes", Setup: func(ctx context.Context, dsn string) error {
	setups.Add(1)
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `CREATE TABLE notes (text text); INSERT INTO notes VALUES ('from the template')`)
	return err
}}

func TestDatabasesAreIsolated(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "b", "c"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.NewDatabase(t, notes)
			conn := connect(t, db.DSN)
			_, err := conn.Exec(t.Context(), "INSERT INTO notes VALUES ($1)", name)
			require.NoError(t, err)

			rows, err := conn.Query(t.Context(), "SELECT text FROM notes ORDER BY text")
			require.NoError(t, err)
			texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			require.Equal(t, []string{name, "from the template"}, texts)
			require.EqualValues(t, 1, setups.Load(), "the template is set up once")
		})
	}
}

func TestDatabaseIsDroppedWithSessionsAndSlots(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	var name string
	t.Run("uses it and leaves everything open", func(t *testing.T) {
		db := pgtest.NewDatabase(t, pgtest.Template{})
		name = db.Name
		conn, err := pgx.Connect(t.Context(), db.DSN)
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "SELECT pg_create_logical_replication_slot('slot_of_'||current_database(), 'pgoutput')")
		require.NoError(t, err)
		reader, err := pgx.Connect(t.Context(), db.DSN+"&replication=database")
		require.NoError(t, err)
		// CopyBothResponse: the slot is now active.
		start := "START_REPLICATION SLOT slot_of_" + db.Name + " LOGICAL 0/0 (proto_version '1', publication_names 'none')"
		reader.PgConn().Frontend().SendQuery(&pgproto3.Query{String: start})
		require.NoError(t, reader.PgConn().Frontend().Flush())
		_, err = reader.PgConn().ReceiveMessage(t.Context())
		require.NoError(t, err)
	})

	conn := connect(t, server.DSN(""))
	var left int
	require.NoError(t, conn.QueryRow(t.Context(), `
		SELECT (SELECT count(*) FROM pg_database WHERE datname = $1)
		     + (SELECT count(*) FROM pg_replication_slots WHERE database = $1)`, name).Scan(&left))
	require.Zero(t, left)
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}
