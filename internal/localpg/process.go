package localpg

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a running postmaster.
type process struct {
	cmd  *exec.Cmd
	pid  int
	done chan struct{} // closed once it has ended and was reaped
	err  error         // how it ended; to be read after done
}

// spawn starts the postmaster with its output added to the log.
func spawn(bin binaries, f files, user *serverUser) (*process, error) {
	log, err := os.OpenFile(f.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	defer func() { _ = log.Close() }() // the server has its own copy

	cmd := exec.Command(bin.dir+"/postgres", "-D", f.cluster()) //nolint:gosec,noctx // the folder is the user's choice, and the server outlives the context of its start
	cmd.Dir = f.cluster()
	cmd.Env = childEnv()
	cmd.Stdout, cmd.Stderr = log, log
	// Fast stop: clients are cut and the data is clean.
	cmd.SysProcAttr = childAttr(user, syscall.SIGINT)

	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run postgres: %w", err)
	}
	return p, nil
}

// run holds its thread as long as the process lives: the kernel's signal at the death of the parent
// comes when the thread that started the child ends, which the Go runtime is free to do.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = p.cmd.Process.Pid
	started <- nil
	p.err = p.cmd.Wait()
	close(p.done)
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// childEnv is the whole environment of the programs that we run: nothing of ours, such
// as PGPORT or a locale, gets into them.
func childEnv() []string {
	return []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
}

// childAttr puts a child into a process group of its own, so that Ctrl-C in a
// terminal reaches only us, and ties its life to ours where the system can.
func childAttr(user *serverUser, atOurDeath syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Credential: user.credential()}
	dieWithParent(attr, atOurDeath)
	return attr
}

// output runs a command to its end on a thread that stays for as long, see run.
func output(cmd *exec.Cmd) (string, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	return string(out), err
}
