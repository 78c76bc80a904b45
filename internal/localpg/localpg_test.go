package localpg_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg"
)

// helperDir makes the test binary, run again, a program that starts a server and
// waits to be killed.
const helperDir = "RESTOCK_LOCALPG_TEST_HELPER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		s, err := localpg.Start(context.Background(), localpg.Config{DataDir: dir})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.Pid())
		<-s.Done()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestServerKeepsItsDataThroughStopsAndCrashes(t *testing.T) {
	t.Parallel()
	cfg := localpg.Config{DataDir: tempDir(t), Fsync: true}
	s := start(t, cfg)
	execute(t, s, "CREATE TABLE steps (name text)")
	pid, port := s.Pid(), s.Port()

	execute(t, s, "INSERT INTO steps VALUES ('start')")
	require.NoError(t, s.Restart(t.Context()))
	require.NotEqual(t, pid, s.Pid())
	require.Equal(t, port, s.Port(), "the clients' connection strings stay good")

	execute(t, s, "INSERT INTO steps VALUES ('restart')")
	require.NoError(t, s.StopMode(t.Context(), localpg.Immediate))
	require.Zero(t, s.Pid())
	require.NoError(t, s.Start(t.Context()))

	execute(t, s, "INSERT INTO steps VALUES ('immediate')")
	// A session in the middle of a statement outlives its postmaster for a moment,
	// and Postgres does not start beside it.
	busy := connect(t, s.DSN(""))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = busy.Exec(context.Background(), "SELECT count(*) FROM generate_series(1, 3000000)")
	}()
	waitFor(t, s, "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%series(1, 3%' AND state = 'active' AND pid <> pg_backend_pid()")
	require.NoError(t, s.Kill())
	require.NoError(t, s.Kill(), "a dead server is left as it is")
	require.NoError(t, s.Start(t.Context()))
	require.NoError(t, s.Start(t.Context()), "a running server is left as it is")
	<-ended

	execute(t, s, "INSERT INTO steps VALUES ('kill')")
	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Stop(t.Context()))
	require.ErrorContains(t, s.Start(t.Context()), "stopped for good")

	s = start(t, cfg)
	var steps []string
	require.NoError(t, connect(t, s.DSN("")).QueryRow(t.Context(), "SELECT array_agg(name) FROM steps").Scan(&steps))
	require.Equal(t, []string{"start", "restart", "immediate", "kill"}, steps)
	require.NoError(t, s.Stop(cancelled(t)), "a context that has ended shortens the wait, not the stop")
	require.Zero(t, s.Pid())
	require.NoError(t, s.Remove())
	require.NoDirExists(t, cfg.DataDir)
}

func TestServerIsPrivate(t *testing.T) {
	t.Parallel()
	s := start(t, localpg.Config{DataDir: tempDir(t), Settings: map[string]string{
		"work_mem": "5MB", "application_name": "it's ours",
	}})
	conn := connect(t, s.DSN(""))
	for setting, want := range map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": "",
		"password_encryption":     "scram-sha-256",
		"wal_level":               "logical",
		"fsync":                   "off",
		"synchronous_commit":      "on",
		"work_mem":                "5MB",
		"application_name":        "it's ours",
		"server_encoding":         "UTF8",
	} {
		var got string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting($1)", setting).Scan(&got))
		require.Equal(t, want, got, setting)
	}
	var trusting int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'").Scan(&trusting))
	require.Zero(t, trusting)

	_, err := pgx.Connect(t.Context(), s.RoleDSN(localpg.Owner, "a guess", ""))
	require.ErrorContains(t, err, "password authentication failed")
	execute(t, s, "CREATE ROLE clerk LOGIN PASSWORD 'p@ss/word?'")
	connect(t, s.RoleDSN("clerk", "p@ss/word?", ""))

	for path, want := range map[string]os.FileMode{
		s.Passfile():                           0o600,
		filepath.Join(s.DataDir(), "password"): 0o600,
		filepath.Join(s.DataDir(), "cluster"):  0o700,
	} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, want, info.Mode().Perm(), path)
	}
	t.Run("the password file lets the owner in", func(t *testing.T) {
		dsn := fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=postgres passfile=%s sslmode=disable", s.Port(), localpg.Owner, s.Passfile())
		connect(t, dsn)
	})

	group, err := syscall.Getpgid(s.Pid())
	require.NoError(t, err)
	require.NotEqual(t, syscall.Getpgrp(), group, "Ctrl-C in a terminal does not reach it")
	if os.Geteuid() == 0 {
		info, err := os.Stat(fmt.Sprintf("/proc/%d", s.Pid()))
		require.NoError(t, err)
		require.NotZero(t, info.Sys().(*syscall.Stat_t).Uid, "root runs it as another user")
	}
}

func TestStartOnALockedDirectory(t *testing.T) {
	t.Parallel()
	s := start(t, localpg.Config{DataDir: tempDir(t)})
	_, err := localpg.Start(t.Context(), localpg.Config{DataDir: s.DataDir()})
	var locked *localpg.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, os.Getpid(), locked.Pid)
	connect(t, s.DSN(""))
}

func TestStartOnATakenPort(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	dir := tempDir(t)

	_, err = localpg.Start(t.Context(), localpg.Config{DataDir: dir, Port: port})
	var taken *localpg.PortTakenError
	require.ErrorAs(t, err, &taken)
	require.Equal(t, port, taken.Port)

	require.NoError(t, ln.Close())
	s := start(t, localpg.Config{DataDir: dir, Port: port})
	require.Equal(t, port, s.Port(), "the failed start has left the directory usable")
}

func TestStartTellsWhyPostgresDied(t *testing.T) {
	t.Parallel()
	_, err := localpg.Start(t.Context(), localpg.Config{DataDir: tempDir(t), Settings: map[string]string{"shared_buffers": "plenty"}})
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers"`)
}

func TestStartRefusesWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	alien := tempDir(t)
	kept := filepath.Join(alien, "cluster")
	require.NoError(t, os.WriteFile(kept, []byte("precious"), 0o600))
	_, err := localpg.Start(t.Context(), localpg.Config{DataDir: alien})
	require.ErrorIs(t, err, localpg.ErrAlien)
	text, err := os.ReadFile(kept)
	require.NoError(t, err)
	require.Equal(t, "precious", string(text))
	entries, err := os.ReadDir(alien)
	require.NoError(t, err)
	require.Len(t, entries, 1)

	_, err = localpg.Start(t.Context(), localpg.Config{DataDir: kept})
	require.ErrorContains(t, err, "not a directory")
	_, err = localpg.Start(t.Context(), localpg.Config{})
	require.ErrorContains(t, err, "no data directory given")

	broken := tempDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(broken, "localpg.lock"), nil, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(broken, "cluster"), 0o700))
	_, err = localpg.Start(t.Context(), localpg.Config{DataDir: broken})
	require.ErrorContains(t, err, "read the version of the cluster")
	require.DirExists(t, filepath.Join(broken, "cluster"))
}

func TestRootSaysWhichFolderTheServerCannotEnter(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as another user")
	}
	_, err := localpg.Start(t.Context(), localpg.Config{DataDir: filepath.Join(t.TempDir(), "pg")})
	require.ErrorContains(t, err, "cannot enter")
	require.ErrorContains(t, err, localpg.DefaultDir())
}

func TestStartAfterItsStarterWasKilled(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	helper, out := startHelper(t, dir)
	var pid int
	_, err := fmt.Fscan(out, &pid)
	require.NoError(t, err)
	_, err = localpg.Start(t.Context(), localpg.Config{DataDir: dir})
	var locked *localpg.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, helper.Process.Pid, locked.Pid)
	require.NoError(t, helper.Process.Kill())
	_ = helper.Wait() // it was killed

	s := start(t, localpg.Config{DataDir: dir})
	require.NotEqual(t, pid, s.Pid())
	connect(t, s.DSN(""))
}

func TestStartAfterItsStarterWasKilledWhileMakingTheCluster(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	helper, _ := startHelper(t, dir)
	unfinished := filepath.Join(dir, "new-*", "cluster", "base")
	require.Eventually(t, func() bool {
		found, err := filepath.Glob(unfinished)
		return err == nil && len(found) == 1
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, helper.Process.Kill())
	_ = helper.Wait() // it was killed

	s := start(t, localpg.Config{DataDir: dir})
	connect(t, s.DSN(""))
	found, err := filepath.Glob(unfinished)
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestDropDatabase(t *testing.T) {
	t.Parallel()
	s := start(t, localpg.Config{DataDir: tempDir(t)})
	require.NoError(t, s.CreateDatabase(t.Context(), `a "b"`, ""))
	conn := connect(t, s.DSN(`a "b"`))
	_, err := conn.Exec(t.Context(), "CREATE TABLE copied ()")
	require.NoError(t, err)
	require.ErrorContains(t, s.CreateDatabase(t.Context(), `a "b"`, ""), "already exists")
	require.NoError(t, conn.Close(t.Context()))
	require.NoError(t, s.CreateDatabase(t.Context(), "c", `a "b"`))
	_, err = connect(t, s.DSN("c")).Exec(t.Context(), "SELECT FROM copied")
	require.NoError(t, err)
	require.NoError(t, s.DropDatabase(t.Context(), "c"), "with a session open")
	require.NoError(t, s.DropDatabase(t.Context(), "c"), "that is not there")
}

// startHelper runs this binary again as a program that starts a server.
func startHelper(t *testing.T, dir string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperDir+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewReader(out)
}

func cancelled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func execute(t *testing.T, s *localpg.Server, sql string) {
	t.Helper()
	conn := connect(t, s.DSN(""))
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func waitFor(t *testing.T, s *localpg.Server, sql string) {
	t.Helper()
	conn := connect(t, s.DSN(""))
	require.Eventually(t, func() bool {
		var yes bool
		return conn.QueryRow(t.Context(), sql).Scan(&yes) == nil && yes
	}, 10*time.Second, time.Millisecond)
}

func tempDir(t *testing.T) string {
	t.Helper()
	// Not t.TempDir: that one is closed to the user whom root runs the server as.
	dir, err := os.MkdirTemp("", "restock-pg-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func start(t *testing.T, cfg localpg.Config) *localpg.Server {
	t.Helper()
	s, err := localpg.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	return s
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}
