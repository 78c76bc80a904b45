package service

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// timerSlack is how late a timer may be: little beside what an API waits for, no more than
	// a relay can bear, and long beside what Go's runtime asks for.
	timerSlack = time.Millisecond
	// defaultSlack is the kernel's own.
	defaultSlack = 50 * time.Microsecond
)

// SlackenTimers lets the timers of this program be a millisecond late. Go's runtime has a
// thread that looks after the others every 20 µs for as long as one is busy and takes the
// processor from one that is in a system call. On two processors that shared them with
// Postgres these looks cost a tenth of an API's time, and what they took from others cost
// as much (docs/decisions/13).
//
// The slack is a thread's, that thread is there before main, and nobody may change another
// one's. So the program begins again in its own place (execve), with the slack, its process
// id, arguments and open files, and with env, its environment. Call it first in main, before
// anything is begun. A slack that somebody chose, as systemd's TimerSlackNSec does, is left
// alone. So is a program with Slackened in env.
//
// After an error the program is as it was, and a little slower.
// https://man7.org/linux/man-pages/man2/PR_SET_TIMERSLACK.2const.html
func SlackenTimers(env []string) error {
	if slices.Contains(env, Slackened) {
		return nil
	}
	runtime.LockOSThread() // the slack that survives is that of the thread that calls execve
	defer runtime.UnlockOSThread()
	if slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || time.Duration(slack) != defaultSlack {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack.Nanoseconds()), 0, 0, 0); err != nil {
		return err
	}
	// A program reads the first value of a name.
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, SlackenedName+"=") })
	err = syscall.Exec(program, os.Args, append(env, Slackened)) //nolint:gosec // G204: this program
	// It is still here. Go lowers the limit of open files, which it has raised, before it
	// tries to execute.
	return errors.Join(fmt.Errorf("begin again as %s: %w", program, err),
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files),
		unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(defaultSlack.Nanoseconds()), 0, 0, 0))
}
