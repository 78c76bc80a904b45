package localpg

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// The Linux kernel ends a server whose starter is killed, so a server that nobody
// holds the lock for is made by hand here.
func TestStartEndsAnOrphan(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "restock-pg-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	s, err := Start(t.Context(), Config{DataDir: dir})
	require.NoError(t, err)
	require.NoError(t, s.Stop(t.Context()))

	orphan, err := spawn(s.bin, s.files, s.user)
	require.NoError(t, err)
	t.Cleanup(func() { _ = orphan.cmd.Process.Kill() })
	s.proc = orphan
	require.NoError(t, s.waitReady(t.Context()))
	conn, err := pgx.Connect(t.Context(), s.DSN(""))
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE TABLE kept ()")
	require.NoError(t, err)

	again, err := Start(t.Context(), Config{DataDir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, again.Stop(context.Background())) })
	require.True(t, orphan.ended())
	conn, err = pgx.Connect(t.Context(), again.DSN(""))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), "SELECT FROM kept")
	require.NoError(t, err)
}

func TestStopOrphanLeavesOtherProgramsAlone(t *testing.T) {
	t.Parallel()
	f := files{dir: t.TempDir()}
	require.NoError(t, os.Mkdir(f.cluster(), 0o700))
	for name, text := range map[string]string{
		"a process id that was given to another program": strconv.Itoa(os.Getpid()) + "\n" + f.cluster() + "\n",
		"a process that is gone":                         "999999999\n",
		"nothing that can be read":                       "\n",
		"every process there is":                         "-1\n",
	} {
		require.NoError(t, os.WriteFile(f.pid(), []byte(text), 0o600), name)
		require.NoError(t, stopOrphan(t.Context(), f, zerolog.Nop()), name)
		require.NoFileExists(t, f.pid(), name)
	}
	require.NoError(t, stopOrphan(t.Context(), f, zerolog.Nop()))
	require.False(t, isPostmaster(t.Context(), os.Getpid(), filepath.Join(f.dir, "absent")))
}
