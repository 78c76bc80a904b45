package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/restock-dev/restock/internal/localpg"
)

// timeout bounds each thing done for a test: a start, a setup, a copy, a drop.
const timeout = 2 * time.Minute

// tempPattern names the throw-away directories. One that was not used for abandonedAfter is
// of a test binary that was killed: none runs that long.
const (
	tempPattern    = "restock-pg-*"
	abandonedAfter = 2 * time.Hour
)

// Template is a database that tests get copies of.
type Template struct {
	// Name identifies it: the first template used under a name is set up, later
	// ones of that name are taken to be the same.
	Name string
	// Setup fills the empty database at dsn, as its owner. It must close its connections.
	// Nil leaves the database empty. Replication slots that it creates are dropped:
	// a copy does not inherit them.
	Setup func(ctx context.Context, dsn string) error
}

// Database is one test's own.
type Database struct {
	Name   string
	DSN    string // of the owner, who is superuser
	Server *localpg.Server
}

// RoleDSN is a connection string for another role.
func (d *Database) RoleDSN(role, password string) string {
	return d.Server.RoleDSN(role, password, d.Name)
}

// Main runs the tests of a package, stops the shared server if they used it, and
// returns the exit code for os.Exit.
func Main(m *testing.M) int {
	pool := &pool{templates: map[string]*template{}}
	shared = pool
	code := m.Run()
	if err := pool.close(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return max(code, 1)
	}
	return code
}

// Shared returns the server that the tests of this binary share.
func Shared(t testing.TB) *localpg.Server {
	t.Helper()
	server, err := theirPool(t).server()
	require.NoError(t, err)
	return server
}

// NewDatabase creates a database for the test as a copy of the template.
func NewDatabase(t testing.TB, tmpl Template) *Database {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	pool := theirPool(t)
	db, err := pool.create(ctx, tmpl)
	require.NoError(t, err)
	t.Cleanup(func() {
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		require.NoError(t, db.Server.DropDatabase(ctx, db.Name))
	})
	return db
}

// NewServer starts a server for this test alone and stops it after the test. An empty
// DataDir is a temporary one, which goes with the test.
func NewServer(t testing.TB, cfg localpg.Config) *localpg.Server {
	t.Helper()
	if cfg.DataDir == "" {
		dir, err := os.MkdirTemp("", tempPattern)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
		cfg.DataDir = dir
	}
	server, err := localpg.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the server's log:\n%s", server.LogTail(30))
		}
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		require.NoError(t, server.Stop(ctx))
	})
	return server
}

// IgnoreServer is for a test that looks for leaked goroutines: the one that waits for the
// shared server is no leak.
func IgnoreServer() goleak.Option {
	return goleak.IgnoreAnyFunction("github.com/restock-dev/restock/internal/localpg.(*process).run")
}

// shared is set by Main. A package variable, because a test binary is the one
// thing that all its tests have in common.
var shared *pool

func theirPool(t testing.TB) *pool {
	t.Helper()
	require.NotNil(t, shared, "the package needs func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }")
	return shared
}

// pool is the shared server with its templates.
type pool struct {
	setup sync.Mutex // one start or setup at a time
	mu    sync.Mutex // guards what follows

	started   bool
	running   *localpg.Server
	err       error
	dir       string
	templates map[string]*template
	databases int
}

// template is set up once, and its failure is every user's.
type template struct {
	once sync.Once
	name string
	err  error
}

func (p *pool) server() (*localpg.Server, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.started {
		p.started = true
		p.running, p.err = p.start()
	}
	return p.running, p.err
}

func (p *pool) start() (*localpg.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	old, _ := filepath.Glob(filepath.Join(os.TempDir(), tempPattern)) // the pattern is sound
	for _, dir := range old {
		_ = localpg.RemoveAbandoned(ctx, dir, abandonedAfter) // a courtesy: another user's stays
	}
	dir, err := os.MkdirTemp("", tempPattern)
	if err != nil {
		return nil, fmt.Errorf("make a folder for the tests' Postgres: %w", err)
	}
	p.dir = dir
	return localpg.Start(ctx, localpg.Config{DataDir: dir})
}

func (p *pool) close() error {
	var err error
	if p.running != nil {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		err = p.running.Stop(ctx)
	}
	if p.dir != "" {
		err = errors.Join(err, os.RemoveAll(p.dir))
	}
	return err
}

func (p *pool) create(ctx context.Context, tmpl Template) (*Database, error) {
	server, err := p.server()
	if err != nil {
		return nil, err
	}
	from, err := p.template(ctx, server, tmpl)
	if err != nil {
		return nil, err
	}
	name := p.nextName()
	if err := server.CreateDatabase(ctx, name, from); err != nil {
		return nil, err
	}
	return &Database{Name: name, DSN: server.DSN(name), Server: server}, nil
}

func (p *pool) nextName() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.databases++
	return fmt.Sprintf("t%d", p.databases)
}

// template returns the name of the template database, set up if this is its first use.
func (p *pool) template(ctx context.Context, server *localpg.Server, tmpl Template) (string, error) {
	if tmpl.Setup == nil && tmpl.Name == "" {
		return "", nil
	}
	p.mu.Lock()
	known := p.templates[tmpl.Name]
	if known == nil {
		known = &template{name: fmt.Sprintf("template_%d", len(p.templates))}
		p.templates[tmpl.Name] = known
	}
	p.mu.Unlock()

	known.once.Do(func() {
		p.setup.Lock()
		defer p.setup.Unlock()
		if err := fill(ctx, server, known.name, tmpl.Setup); err != nil {
			known.err = fmt.Errorf("set up the template %q: %w", tmpl.Name, err)
		}
	})
	return known.name, known.err
}

func fill(ctx context.Context, server *localpg.Server, name string, setup func(context.Context, string) error) error {
	if err := server.CreateDatabase(ctx, name, ""); err != nil {
		return err
	}
	if setup != nil {
		if err := setup(ctx, server.DSN(name)); err != nil {
			return err
		}
	}
	conn, err := pgx.Connect(ctx, server.DSN(""))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	// A template that nobody can connect to can always be copied.
	if _, err := conn.Exec(ctx, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS false"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1", name)
	return err
}
