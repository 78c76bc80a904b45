package service_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/restock-dev/restock/internal/service"
)

// slackened is what a program tells of itself after SlackenTimers.
type slackened struct {
	PID     int
	Args    []string
	Env     []string
	Slack   int               // of its first thread
	Another int               // of one that was there before main, or was started by such a one
	Files   [2]syscall.Rlimit // before and after
	Stdin   string
	Err     string
}

// beSlackened is this program as startSlackened starts it: with the slack of its first
// thread set to what the environment says, and its file removed, where it says so.
func beSlackened() {
	if n, err := strconv.Atoi(os.Getenv("SLACK_BEFORE")); err == nil {
		runtime.LockOSThread() // of init: the first one
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(n), 0, 0, 0)
	}
	if os.Getenv("REMOVED_BEFORE") != "" {
		_ = os.Remove(os.Args[0])
	}
	var s slackened
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &s.Files[0])
	if err := service.SlackenTimers(os.Environ()); err != nil {
		s.Err = err.Error()
	}
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &s.Files[1])
	s.PID, s.Args, s.Env, s.Slack = os.Getpid(), os.Args, os.Environ(), slack()
	another := make(chan int)
	go func() {
		runtime.LockOSThread()
		another <- slack()
	}()
	s.Another = <-another
	line := make([]byte, 16)
	n, _ := os.Stdin.Read(line)
	s.Stdin = string(line[:n])
	_ = json.NewEncoder(os.Stdout).Encode(s)
	os.Exit(0)
}

func slack() int {
	n, _ := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	return n
}

func init() {
	if len(os.Args) == 3 && os.Args[1] == "be-slackened" {
		beSlackened()
	}
}

// startSlackened starts program, with env and without what this one was given.
func startSlackened(t *testing.T, program string, env ...string) (slackened, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "be-slackened", "an argument")
	own := slices.DeleteFunc(os.Environ(), func(v string) bool { return v == service.Slackened })
	cmd.Env = append(own, env...)
	cmd.Stdin = strings.NewReader("input")
	out, err := cmd.Output()
	require.NoError(t, err)
	var s slackened
	require.NoError(t, json.Unmarshal(out, &s))
	return s, cmd.Process.Pid
}

func self(t *testing.T) string {
	t.Helper()
	if slack() != defaultSlack {
		t.Skipf("whoever started this chose a slack of %d ns", slack())
	}
	program, err := os.Executable()
	require.NoError(t, err)
	return program
}

const defaultSlack = 50_000

func TestSlackenTimers(t *testing.T) {
	s, pid := startSlackened(t, self(t), "OF_MINE=1", service.SlackenedName+"=0")
	require.Empty(t, s.Err)
	require.Equal(t, pid, s.PID)
	require.Equal(t, []string{"be-slackened", "an argument"}, s.Args[1:])
	require.Equal(t, "input", s.Stdin)
	require.Equal(t, 1_000_000, s.Slack)
	require.Equal(t, 1_000_000, s.Another, "every thread has it, or the runtime's own may not")
	require.Contains(t, s.Env, "OF_MINE=1")
	require.Contains(t, s.Env, service.Slackened, "or it would begin for ever where the slack does not survive")
	require.NotContains(t, s.Env, service.SlackenedName+"=0", "which is what would be read")
}

func TestSlackenTimersLeavesAChosenSlack(t *testing.T) {
	s, _ := startSlackened(t, self(t), "SLACK_BEFORE=200000")
	require.Empty(t, s.Err)
	require.Equal(t, 200_000, s.Slack)
	require.NotContains(t, s.Env, service.Slackened, "it began again")
}

func TestSlackenTimersOnce(t *testing.T) {
	s, _ := startSlackened(t, self(t), service.Slackened)
	require.Empty(t, s.Err)
	require.Equal(t, defaultSlack, s.Slack)
}

func TestSlackenTimersWithoutAProgram(t *testing.T) {
	program, err := os.ReadFile(self(t))
	require.NoError(t, err)
	removed := filepath.Join(t.TempDir(), "removed")
	require.NoError(t, os.WriteFile(removed, program, 0o700))
	s, _ := startSlackened(t, removed, "REMOVED_BEFORE=1")
	require.Contains(t, s.Err, "begin again as "+removed)
	require.Equal(t, defaultSlack, s.Slack)
	require.Equal(t, s.Files[0], s.Files[1], "as many open files as before")
}
