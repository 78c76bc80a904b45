package localpg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
)

// Owner is the superuser of a cluster made here.
const Owner = "restock"

// startTimeout bounds a start, crash recovery included.
const startTimeout = 2 * time.Minute

// Config says where a server lives and how it runs. Only DataDir is required.
type Config struct {
	// DataDir holds the cluster, its log, its password and its lock. Created if absent.
	DataDir string
	// Bindir is the folder of the server binaries (initdb, postgres). Empty: searched
	// for on PATH and in the usual places, then fetched.
	Bindir string
	// Port on 127.0.0.1. 0: a free one, which may be another at the next Start.
	Port int
	// Fsync makes commits survive a crash of the machine, not only of Postgres. Tests do
	// without and are much faster.
	Fsync bool
	// Settings are written to the server's configuration after the defaults of this package.
	Settings map[string]string
	// CacheDir keeps fetched binaries. Empty: DefaultDir.
	CacheDir string
	// Fetch says what to fetch where no binaries are found.
	Fetch Fetch
	// Logger gets one line for each start, stop and clean-up. The server's own log is a file.
	Logger zerolog.Logger
}

// Server is a running Postgres, and after a stop one that can be started again. Its
// methods may be called from several goroutines.
type Server struct {
	cfg      Config
	files    files
	bin      binaries
	user     *serverUser
	password string
	unlock   func() error

	mu   sync.Mutex // guards what follows and orders starts and stops
	port int
	proc *process
}

// Start locks the data directory, makes the cluster if there is none, cleans up after a
// predecessor that was killed, and returns when the server accepts connections. The
// context bounds the start only; [Server.Stop] ends the server.
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	if cfg.DataDir == "" {
		return nil, errors.New("start local Postgres: no data directory given")
	}
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("start local Postgres: %w", err)
	}
	s := &Server{cfg: cfg, files: files{dir: cfg.DataDir}}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("start local Postgres in %s: %w", cfg.DataDir, errors.Join(err, s.release()))
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	if s.user, err = chooseUser(); err != nil {
		return err
	}
	if err := s.files.claim(s.user); err != nil {
		return err
	}
	if s.unlock, err = lock(s.files.lock()); err != nil {
		return err
	}
	if err := stopOrphan(ctx, s.files, s.cfg.Logger); err != nil {
		return err
	}
	if s.bin, err = findOrFetch(ctx, s.cfg, s.files); err != nil {
		return err
	}
	if err := s.user.canReach(s.bin.dir); err != nil {
		return err
	}
	if s.password, err = ensureCluster(ctx, s.cfg, s.files, s.bin, s.user); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.start(ctx, s.cfg.Port)
}

func (s *Server) release() error {
	if s.unlock == nil {
		return nil
	}
	unlock := s.unlock
	s.unlock = nil
	return unlock()
}

// Port is the server's port on 127.0.0.1.
func (s *Server) Port() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.port
}

// Bindir is the folder of the server binaries; client programs are usually there too.
func (s *Server) Bindir() string { return s.bin.dir }

// Version is the major version of the server.
func (s *Server) Version() int { return s.bin.major }

// DataDir is the directory given in the Config, as an absolute path.
func (s *Server) DataDir() string { return s.cfg.DataDir }

// LogFile is where the server writes its log.
func (s *Server) LogFile() string { return s.files.log() }

// LogTail returns the last lines of the server's log.
func (s *Server) LogTail(lines int) string { return s.files.logSince(0, lines) }

// Passfile is a file for PGPASSFILE that lets the owner in.
func (s *Server) Passfile() string { return s.files.pgpass() }

// Pid is the process id of the postmaster, 0 while it is stopped.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return 0
	}
	return s.proc.pid
}

// Done is closed when the postmaster that runs now has ended, for whatever reason.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.done
}

// DSN is a connection string for the owner. An empty database is "postgres".
func (s *Server) DSN(database string) string {
	return s.RoleDSN(Owner, s.password, database)
}

// RoleDSN is a connection string for any role.
func (s *Server) RoleDSN(role, password, database string) string {
	if database == "" {
		database = "postgres"
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(role, password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port())),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Remove deletes the data directory of a stopped server.
func (s *Server) Remove() error {
	if s.Pid() != 0 {
		return fmt.Errorf("remove %s: the server still runs", s.cfg.DataDir)
	}
	if err := os.RemoveAll(s.cfg.DataDir); err != nil {
		return fmt.Errorf("remove %s: %w", s.cfg.DataDir, err)
	}
	return nil
}

// connect opens one connection of the owner.
func (s *Server) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, s.DSN(database))
}
