package localpg

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// LockedError says that another process uses the data directory.
type LockedError struct {
	Path string // the lock file
	Pid  int    // the holder, 0 if it is not known yet
}

func (e *LockedError) Error() string {
	if e.Pid == 0 {
		return "the data directory is in use by another process"
	}
	return fmt.Sprintf("the data directory is in use by process %d", e.Pid)
}

// lock takes the lock file and writes our process id into it. The lock goes with the
// process, however that ends: the server does not inherit it.
func lock(path string) (unlock func() error, err error) {
	l := flock.New(path, flock.SetPermissions(0o600))
	taken, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if !taken {
		return nil, &LockedError{Path: path, Pid: holder(path)}
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		_ = l.Unlock() // closing the file unlocks it; the write's error is the one to tell
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	return l.Unlock, nil
}

func holder(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}
