package localpg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Mode is how a server stops, as pg_ctl has it.
type Mode string

// The modes of [Server.StopMode].
const (
	Fast      Mode = "fast"      // cuts clients, then stops in order
	Immediate Mode = "immediate" // stops at once; the next start recovers
)

var modeSignal = map[Mode]syscall.Signal{Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT}

// Patience of Stop before it turns to the next, less kind way.
const (
	fastPatience      = 15 * time.Second
	immediatePatience = 10 * time.Second
)

// PortTakenError says that another process listens on the port that was asked for.
type PortTakenError struct{ Port int }

func (e *PortTakenError) Error() string {
	return fmt.Sprintf("port %d of 127.0.0.1 is taken by another process; choose another, or 0 for a free one", e.Port)
}

// errLeftovers is a start refused because processes of a killed server are still ending.
var errLeftovers = errors.New("processes of the server before are still ending")

// Start starts a server that was stopped by [Server.StopMode] or killed, on the port
// that it had. A running server is left as it is.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.startAgain(ctx)
}

// Restart stops the server in fast mode and starts it on the same port.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stopMode(ctx, Fast); err != nil {
		return err
	}
	return s.startAgain(ctx)
}

// StopMode stops the server as pg_ctl does in that mode and waits for its end, however
// long ctx allows: it does not turn to a harder way. The directory stays locked and
// [Server.Start] starts it again.
func (s *Server) StopMode(ctx context.Context, mode Mode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopMode(ctx, mode)
}

// Kill ends the postmaster with SIGKILL, as a crash would; its children follow by
// themselves. [Server.Start] starts it again.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kill()
}

// Stop stops the server for good and releases the directory: fast, and if that
// does not end (a replication client that confirms nothing can hold it) immediately.
// A ctx that has ended shortens the wait, not the stop. Further calls do nothing.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running() {
		polite, cancel := context.WithTimeout(ctx, fastPatience)
		err := s.stopMode(polite, Fast)
		cancel()
		if err != nil {
			s.cfg.Logger.Warn().Err(err).Msg("Postgres did not stop in fast mode; stopping it immediately")
			firm, cancel := context.WithTimeout(context.WithoutCancel(ctx), immediatePatience)
			err = s.stopMode(firm, Immediate)
			cancel()
		}
		if err != nil {
			err = s.kill()
		}
		if err != nil {
			return err
		}
		s.cfg.Logger.Info().Msg("Postgres stopped")
	}
	return s.release()
}

func (s *Server) running() bool { return s.proc != nil && !s.proc.ended() }

func (s *Server) stopMode(ctx context.Context, mode Mode) error {
	if !s.running() {
		return nil
	}
	sig, known := modeSignal[mode]
	if !known {
		return fmt.Errorf("stop Postgres: no such mode %q", mode)
	}
	if err := s.proc.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop Postgres (%s): %w", mode, err)
	}
	select {
	case <-s.proc.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop Postgres (%s): it still runs: %w", mode, ctx.Err())
	}
}

func (s *Server) kill() error {
	if !s.running() {
		return nil
	}
	if err := s.proc.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill Postgres: %w", err)
	}
	<-s.proc.done
	return nil
}

func (s *Server) startAgain(ctx context.Context) error {
	if s.running() {
		return nil
	}
	if s.unlock == nil {
		return errors.New("start local Postgres: it was stopped for good")
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return s.start(ctx, s.port)
}

// portTries bounds how often a port that was free a moment ago may turn out taken.
const portTries = 20

// start runs the server on the port, or on a free one if that is 0.
func (s *Server) start(ctx context.Context, port int) error {
	var err error
	for range portTries {
		chosen := port
		if chosen == 0 {
			if chosen, err = freePort(ctx); err != nil {
				return err
			}
		}
		err = s.startOn(ctx, chosen)
		var taken *PortTakenError
		if port != 0 || !errors.As(err, &taken) {
			return err
		}
	}
	return err
}

// Ports below those that systems give to outgoing connections (Linux from 32768 on), one
// of which could else have a server's port while it is stopped for a moment.
const lowestPort, highestPort = 15000, 32000

// freePort finds one. Another process may take it before Postgres does.
func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	for range portTries {
		port := lowestPort + rand.IntN(highestPort-lowestPort) //nolint:gosec // G404: nobody guesses it
		if ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, ln.Close()
		}
	}
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	return port, ln.Close()
}

// startOn runs the server on one port and waits for it. After a kill, the children of the
// dead server need a moment to notice; Postgres refuses to start until they are gone.
func (s *Server) startOn(ctx context.Context, port int) error {
	if err := writeSettings(s.cfg, s.files, port); err != nil {
		return err
	}
	for {
		err := s.spawnAndWait(ctx, port)
		if !errors.Is(err, errLeftovers) {
			return err
		}
		if waited := poll(ctx, pollEvery, func() bool { return false }); ctx.Err() != nil {
			return errors.Join(waited, err)
		}
	}
}

func (s *Server) spawnAndWait(ctx context.Context, port int) error {
	offset := s.files.logSize()
	proc, err := spawn(s.bin, s.files, s.user)
	if err != nil {
		return err
	}
	s.proc, s.port = proc, port
	if err := s.waitReady(ctx); err != nil {
		_ = s.kill() // it is useless to us; the first error is the one to tell
		return s.explain(err, offset)
	}
	s.cfg.Logger.Info().Int("port", port).Int("pid", proc.pid).Int("version", s.bin.major).Msg("Postgres started")
	return nil
}

var errEnded = errors.New("postgres ended while starting")

// waitReady waits until the server says that it is ready.
func (s *Server) waitReady(ctx context.Context) error {
	err := poll(ctx, startTimeout, func() bool {
		file, err := readPidFile(s.files.pid())
		return s.proc.ended() || (err == nil && file.pid == s.proc.pid && file.status == "ready")
	})
	if s.proc.ended() {
		return errEnded
	}
	return err
}

// explain finds out from the log why a start failed.
func (s *Server) explain(err error, offset int64) error {
	log := s.files.logSince(offset, 20)
	switch {
	case strings.Contains(log, "Address already in use"):
		return &PortTakenError{Port: s.port}
	case strings.Contains(log, "pre-existing shared memory block"):
		err = errLeftovers
	}
	return fmt.Errorf("%w; the end of its log:\n%s", err, log)
}
