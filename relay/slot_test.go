package relay

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
)

// TestWhatIsNotVisibleIsNamed: who is waited for until all that is committed is visible.
func TestWhatIsNotVisibleIsNamed(t *testing.T) {
	t.Parallel()
	pool := TestStore(t)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), `SELECT pg_current_xact_id()`)
	require.NoError(t, err)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	err = awaitVisible(t.Context(), conn.Conn(), "s", 0)
	require.ErrorContains(t, err, "slot s stands")
	require.ErrorContains(t, err, fmt.Sprintf("pid %d (", tx.Conn().PgConn().PID()))
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, awaitVisible(t.Context(), conn.Conn(), "s", slotTimeout))
}

// TestStandbyNames: the relay is found wherever the list names it, and however that is
// laid out.
func TestStandbyNames(t *testing.T) {
	t.Parallel()
	for _, names := range []string{"shop", "elsewhere, Shop", "elsewhere,\tshop", `ANY 1 ("elsewhere","shop")`, "FIRST 1 (elsewhere,\n\tshop\n)", "*"} {
		require.ErrorAs(t, checkStandbyNames(names, "shop"), new(*RefusedError), names)
	}
	for _, names := range []string{"", "elsewhere", "FIRST 1 (shop_2, shop2)"} {
		require.NoError(t, checkStandbyNames(names, "shop"), names)
	}
}

// TestSweepTakesItsTime: the transaction of a sweep, which waits for the publisher, has no
// time-out, whatever the role or the database has.
func TestSweepTakesItsTime(t *testing.T) {
	t.Parallel()
	l := newTestLedger(t)
	tx, err := l.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	const timeouts = `SELECT count(*) FROM pg_settings WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')`
	rows, err := tx.Query(t.Context(), timeouts+` AND set_config(name, '1h', true) <> ''`)
	require.NoError(t, err)
	known, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
	require.NoError(t, err)
	_, err = (&sweep{table: l.table, shard: Shard{Last: schema.Buckets - 1}}).open(t.Context(), tx)
	require.NoError(t, err)
	var off int
	require.NoError(t, tx.QueryRow(t.Context(), timeouts+` AND setting = '0'`).Scan(&off))
	require.Equal(t, known, off)
}
