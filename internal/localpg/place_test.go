package localpg_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg"
)

func TestPlace(t *testing.T) {
	open, err := os.MkdirTemp("", "restock-place-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(open)) })
	require.NoError(t, os.Chmod(open, 0o711))
	place, err := localpg.Place(open)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(open, "postgres"), place)

	closed := filepath.Join(open, "closed", "data")
	require.NoError(t, os.MkdirAll(closed, 0o700))
	place, err = localpg.Place(closed)
	require.NoError(t, err)
	again, err := localpg.Place(closed)
	require.NoError(t, err)
	require.Equal(t, place, again)
	if os.Geteuid() != 0 {
		require.Equal(t, filepath.Join(closed, "postgres"), place, "an ordinary user's server enters what its user enters")
		return
	}
	require.NotContains(t, place, closed)
	server, err := localpg.Start(t.Context(), localpg.Config{DataDir: place})
	require.NoError(t, err)

	require.NoError(t, os.RemoveAll(closed))
	_, err = localpg.Place(open)
	require.NoError(t, err)
	require.DirExists(t, place, "a server runs there")
	require.NoError(t, server.Stop(t.Context()))
	_, err = localpg.Place(open)
	require.NoError(t, err)
	require.NoDirExists(t, filepath.Dir(place), "nobody's any more")
}
