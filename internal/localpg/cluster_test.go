package localpg_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg"
)

// Who is told to stop while the cluster is made was stopped, and has no Postgres that fails.
func TestStoppedAmidInitdb(t *testing.T) {
	t.Parallel()
	programs, begun := tempDir(t), filepath.Join(tempDir(t), "begun")
	require.NoError(t, os.Chmod(programs, 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(begun), 0o777)) // initdb is not root
	for name, script := range map[string]string{
		"postgres": "echo 'postgres (PostgreSQL) 15.1'", "initdb": "echo creating directory; : > '" + begun + "'; exec sleep 600",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(programs, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		assert.Eventually(t, func() bool { _, err := os.Stat(begun); return err == nil }, 30*time.Second, time.Millisecond)
	}()
	_, err := localpg.Start(ctx, localpg.Config{DataDir: tempDir(t), Bindir: programs})
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), "creating directory")
}
