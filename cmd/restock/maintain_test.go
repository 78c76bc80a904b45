package main

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/retention"
	"github.com/restock-dev/restock/schema"
)

// A day that may go and one that may not, as an operator sees them.
func TestMaintainCommand(t *testing.T) {
	t.Parallel()
	shop, clients := pgtest.NewDatabase(t, store), pgtest.NewDatabase(t, customers)
	pool, err := pgxpool.New(t.Context(), shop.DSN)
	require.NoError(t, err)
	defer pool.Close()
	var today time.Time
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT (now() AT TIME ZONE 'UTC')::date`).Scan(&today))
	free, held := today.AddDate(0, 0, -32), today.AddDate(0, 0, -31)
	for _, day := range []time.Time{free, held} {
		_, err := pool.Exec(t.Context(), fmt.Sprintf(`CREATE TABLE outbox_%[1]s (LIKE outbox INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
			ALTER TABLE outbox ATTACH PARTITION outbox_%[1]s FOR VALUES FROM ('%[2]s') TO ('%[3]s')`,
			day.Format("20060102"), day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly)))
		require.NoError(t, err)
	}
	_, err = pool.Exec(t.Context(), `INSERT INTO outbox (day, id, type, message_group, attributes, body) VALUES ($1, $2, 'x', 'g', '{}', '{}')`, held, schema.NewID())
	require.NoError(t, err)
	env := []string{"RESTOCK_DATABASE_URL=" + shop.DSN, "RESTOCK_CUSTOMERS_DATABASE_URL=" + clients.DSN}
	keeps := "store: outbox_" + held.Format("20060102") + " kept: 1 not published\n"

	code, out, errs := command(t, env[:1], "maintain")
	require.Equal(t, 2, code)
	require.Contains(t, errs, "say --alone")
	require.Empty(t, out)
	code, out, errs = command(t, []string{"RESTOCK_DATABASE_URL=" + shop.RoleDSN(schema.RoleAPI, password)}, "maintain", "--alone")
	require.Equal(t, 2, code, out)
	require.Contains(t, errs, "connect as the owner")

	code, out, errs = command(t, env, "maintain", "--dry-run")
	require.Zero(t, code, errs)
	require.Equal(t, "store: outbox_"+free.Format("20060102")+" planned\n"+keeps+"1 would be removed, 1 kept\n", out)

	code, out, errs = command(t, env, "maintain", "--json")
	require.Zero(t, code, errs)
	var report retention.Report
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Equal(t, retention.Report{Partitions: []retention.Partition{
		{Database: "store", Name: "outbox_" + free.Format("20060102"), Table: "outbox", Day: free.Format(time.DateOnly), Outcome: retention.Removed},
		{Database: "store", Name: "outbox_" + held.Format("20060102"), Table: "outbox", Day: held.Format(time.DateOnly), Outcome: retention.Kept,
			Reasons: []retention.Reason{{Name: retention.Unpublished, Database: "store", Count: 1}}},
	}}, report)

	code, out, errs = command(t, env, "maintain", "--settled", held.Format(time.DateOnly))
	require.Zero(t, code, errs)
	require.Equal(t, keeps+"0 removed, 1 kept, 0 failed\n", out)

	// Somebody reads the partition for longer than the command waits.
	_, err = pool.Exec(t.Context(), `INSERT INTO ledger (day, event_id, outcome, published_at) SELECT day, id, 'published', day FROM outbox`)
	require.Error(t, err, "the day has no ledger")
	_, err = pool.Exec(t.Context(), `DELETE FROM outbox`)
	require.NoError(t, err)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM outbox`)
	require.NoError(t, err)
	code, out, errs = command(t, env, "maintain", "--lock-timeout", "10ms")
	require.Equal(t, 1, code, out)
	require.Contains(t, errs, "1 of the partitions that may go could not be removed")
	require.NoError(t, tx.Commit(t.Context()))
	code, out, errs = command(t, env, "maintain")
	require.Zero(t, code, errs)
	require.Contains(t, out, "1 removed, 0 kept, 0 failed\n")
}
