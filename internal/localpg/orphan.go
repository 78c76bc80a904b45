package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// pidFile is what a postmaster writes about itself.
type pidFile struct {
	pid    int
	status string // "ready" once it accepts connections
}

func readPidFile(path string) (pidFile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return pidFile{}, err
	}
	lines := strings.Split(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return pidFile{}, fmt.Errorf("read %s: %w", path, err)
	}
	file := pidFile{pid: pid}
	if len(lines) > 7 {
		file.status = strings.TrimSpace(lines[7])
	}
	return file, nil
}

// stopOrphan ends a server that outlived the process which started it. We hold the
// lock of the directory, so whoever runs on it is an orphan.
func stopOrphan(ctx context.Context, f files, log zerolog.Logger) error {
	file, err := readPidFile(f.pid())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && isPostmaster(ctx, file.pid, f.cluster()) {
		log.Warn().Int("pid", file.pid).Msg("stopping a Postgres left over by a process that was killed")
		if err := endOrphan(ctx, file.pid, f.cluster()); err != nil {
			return fmt.Errorf("stop the Postgres left over from before (process %d): %w", file.pid, err)
		}
	}
	// The file's process is gone, or its id was given to another program: Postgres
	// would take that one, if it is the same user's, for a running server and not start.
	if err := os.Remove(f.pid()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a stale postmaster.pid: %w", err)
	}
	return nil
}

// endOrphan asks more and more firmly.
func endOrphan(ctx context.Context, pid int, cluster string) error {
	for _, step := range []struct {
		sig      syscall.Signal
		patience time.Duration
	}{
		{syscall.SIGINT, orphanPatience},
		{syscall.SIGQUIT, orphanPatience},
		{syscall.SIGKILL, orphanPatience},
	} {
		if err := syscall.Kill(pid, step.sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		err := poll(ctx, step.patience, func() bool { return !isPostmaster(ctx, pid, cluster) })
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return errors.New("it does not end")
}

const orphanPatience = 10 * time.Second

// isPostmaster tells whether the process runs on that cluster. A process id alone
// proves nothing: it may have been given to another program since.
func isPostmaster(ctx context.Context, pid int, cluster string) bool {
	if pid <= 1 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	if _, err := os.Stat("/proc/self/cwd"); err != nil {
		out, err := exec.CommandContext(ctx, "ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output() //nolint:gosec // a number
		return err == nil && strings.Contains(string(out), "postgres") && strings.Contains(string(out), cluster)
	}
	// A postmaster works in its data directory; a zombie has no directory at all.
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	real, err := filepath.EvalSymlinks(cluster)
	return err == nil && cwd == real
}

// pollEvery is short beside what is waited for and long beside what a look costs.
const pollEvery = 10 * time.Millisecond

var errPatience = errors.New("it took too long")

// poll waits until the condition holds.
func poll(ctx context.Context, patience time.Duration, condition func() bool) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			return errPatience
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
