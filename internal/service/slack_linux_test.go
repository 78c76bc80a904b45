package service_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/restock-dev/restock/internal/service"
)

// slackened is what a program tells of itself after SlackenTimers.
type slackened struct {
	PID     int
	Args    []string
	Env     []string
	Slack   int // of its first thread
	Another int // of one that was there before main, or was started by such a one
	Stdin   string
	Err     string
}

// beSlackened is this program as TestSlackenTimers starts it: with the slack of its first
// thread set to what the environment says, where it says so.
func beSlackened() {
	if n, err := strconv.Atoi(os.Getenv("SLACK_BEFORE")); err == nil {
		runtime.LockOSThread() // of init: the first one
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(n), 0, 0, 0)
	}
	var s slackened
	if err := service.SlackenTimers(os.Environ()); err != nil {
		s.Err = err.Error()
	}
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

func startSlackened(t *testing.T, env ...string) (slackened, int) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "be-slackened", "an argument")
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader("input")
	out, err := cmd.Output()
	require.NoError(t, err)
	var s slackened
	require.NoError(t, json.Unmarshal(out, &s))
	return s, cmd.Process.Pid
}

func TestSlackenTimers(t *testing.T) {
	if slack() != 50_000 {
		t.Skipf("whoever started this chose a slack of %d ns", slack())
	}
	s, pid := startSlackened(t, "OF_MINE=1")
	require.Empty(t, s.Err)
	require.Equal(t, pid, s.PID)
	require.Equal(t, []string{"be-slackened", "an argument"}, s.Args[1:])
	require.Equal(t, "input", s.Stdin)
	require.Equal(t, 1_000_000, s.Slack)
	require.Equal(t, 1_000_000, s.Another, "every thread has it, or the runtime's own may not")
	require.Contains(t, s.Env, "OF_MINE=1")
}

func TestSlackenTimersLeavesAChosenSlack(t *testing.T) {
	s, _ := startSlackened(t, "SLACK_BEFORE=200000")
	require.Empty(t, s.Err)
	require.Equal(t, 200_000, s.Slack)
}

func TestSlackenTimersEndsWhereTheSlackIsLost(t *testing.T) {
	// As on a system whose execve does not keep it.
	s, _ := startSlackened(t, "RESTOCK_TIMERS_SLACKENED=1", "SLACK_BEFORE=50000")
	require.Empty(t, s.Err)
	require.Equal(t, 50_000, s.Slack)
}
