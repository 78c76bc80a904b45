package relay

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
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
