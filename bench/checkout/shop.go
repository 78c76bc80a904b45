package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/api"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

const password = "only-for-benchmarks"

// bench is what the parts share.
type bench struct {
	options

	pg *localpg.Server
}

// compressWAL does what docs/checkout.md advises: after a checkpoint, which comes before
// each turn here, the first change of each page writes the whole page to the WAL.
func (b *bench) compressWAL(ctx context.Context) error {
	return execute(ctx, b.pg.DSN("postgres"), `ALTER SYSTEM SET wal_compression = `+b.Compression+`; SELECT pg_reload_conf()`)
}

// touchMemory has Postgres use all of its shared buffers once, as a server has that ran
// for an hour: else the machine gives it the memory page by page, amid a measurement.
func (b *bench) touchMemory(ctx context.Context) error {
	return execute(ctx, b.pg.DSN("postgres"), `CREATE UNLOGGED TABLE filler (page text);
		ALTER TABLE filler ALTER page SET STORAGE PLAIN;
		INSERT INTO filler SELECT repeat('x', 8000) FROM pg_settings, generate_series(1, setting::bigint) WHERE name = 'shared_buffers';
		DROP TABLE filler`)
}

// shop is a store's database with products, and the API on it, a process of its own.
type shop struct {
	b        *bench
	database string
	products int
	api      *exec.Cmd
	url      string
}

func (b *bench) newShop(ctx context.Context, database string, products int) (*shop, error) {
	s := &shop{b: b, database: database, products: products}
	if err := b.pg.CreateDatabase(ctx, database, ""); err != nil {
		return nil, err
	}
	if _, err := schema.MigrateStore(ctx, b.pg.DSN(database)); err != nil {
		return nil, err
	}
	err := s.sql(ctx, `ALTER ROLE restock_api PASSWORD '`+password+`'; ALTER ROLE restock_relay PASSWORD '`+password+`';
		INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
		SELECT 'P-' || n, 'Donut', 1000000000, 1000000000, 10, 'F', 'm@example.com' FROM generate_series(0, `+fmt.Sprint(products-1)+`) n;
		VACUUM ANALYZE products`)
	return s, err
}

func (s *shop) sql(ctx context.Context, sql string) error {
	return execute(ctx, s.b.pg.DSN(s.database), sql)
}

// execute runs statements one by one.
func execute(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, statement := range strings.Split(sql, ";") {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// settle takes what was written before out of the next turn.
func (s *shop) settle(ctx context.Context) error {
	return s.sql(ctx, `VACUUM products; CHECKPOINT`)
}

// open starts the API.
func (s *shop) open(ctx context.Context) error {
	var err error
	s.api, s.url, err = again(ctx, "--serve", s.b.pg.RoleDSN(schema.RoleAPI, password, s.database))
	return err
}

func (s *shop) close() error { return end(s.api) }

// again runs this program as another process, which prints an address once it works.
func again(ctx context.Context, args ...string) (*exec.Cmd, string, error) {
	cmd, err := thisProgram(ctx, args...)
	if err != nil {
		return nil, "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return nil, "", errors.Join(fmt.Errorf("%v ended without an address", args[0]), cmd.Wait())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return cmd, lines.Text(), nil
}

// thisProgram is another process of it.
func thisProgram(ctx context.Context, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...) //nolint:gosec // G204: this program
	cmd.Stderr = os.Stderr
	return cmd, nil
}

func end(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return cmd.Wait()
}

// serve is the API as restock api runs it, with metrics and logging on.
func serve(ctx context.Context, dsn string) error {
	debug.SetGCPercent(400)
	a, err := api.New(ctx, api.Config{
		DSN: dsn, PublicURL: "http://shop.example.com", CallbackSecrets: [][]byte{[]byte("only for benchmarks")},
		Metrics: prometheus.NewRegistry(), Logger: zerolog.New(os.Stderr).Level(zerolog.InfoLevel),
	})
	if err != nil {
		return err
	}
	ln, err := service.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", a.Handler())
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	fmt.Println("http://" + ln.Addr().String())
	return service.Run(ctx, a.Run, service.HTTP(ln, mux))
}
