package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg"
)

// part is a container of this program, as a deployment's files have it.
type part struct {
	args        []string
	env         map[string]string
	healthcheck []string // what the container asks itself by restock healthcheck: URLs
	probes      []string // what it is asked from outside: URLs
}

// known fails where a command line is wrong, or has a variable that the command does not
// read.
func (p part) known(t *testing.T, name string) {
	t.Helper()
	known := environmentOf(t, p.args)
	for variable := range p.env {
		if !strings.HasPrefix(variable, "AWS_") && variable != "GOMEMLIMIT" {
			require.Contains(t, known, variable, "%s, restock %v", name, p.args)
		}
	}
}

// environmentOf are the variables that a command line reads. It fails where the command
// line itself is wrong.
func environmentOf(t *testing.T, args []string) (names []string) {
	t.Helper()
	parser, err := newParser(&cli{}, nil, io.Discard, io.Discard, func(int) {})
	require.NoError(t, err)
	kctx, err := kong.Trace(parser, args)
	require.NoError(t, err)
	require.NoError(t, kctx.Error, "restock %v", args)
	for _, flag := range kctx.Flags() {
		names = append(names, flag.Envs...)
	}
	return names
}

// byHand starts parts as processes of this machine, with exactly the command and the
// environment that a deployment's files have, but for the addresses.
type byHand struct {
	t     *testing.T
	pg    *localpg.Server
	parts map[string]part   // by the host under which the others reach it
	ports map[string]string // here, by host and port there
}

// startByHand starts Postgres, and brings it to where the parts can work: databases and
// furnish are the SQL that the files have for before and after restock migrate.
func startByHand(t *testing.T, parts map[string]part, databases, furnish string) *byHand {
	t.Helper()
	s := &byHand{t: t, parts: parts, ports: map[string]string{}}
	place, err := localpg.Place(t.TempDir())
	require.NoError(t, err)
	s.pg, err = localpg.Start(t.Context(), localpg.Config{DataDir: place, Logger: zerolog.Nop()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(s.pg.Stop(context.WithoutCancel(t.Context())), s.pg.Remove())) })
	require.NoError(t, s.pg.CreateDatabase(t.Context(), "store", ""))
	s.sql(databases)
	s.once("migrate")
	s.sql(furnish)
	return s
}

// address is a host and a port there.
var address = regexp.MustCompile(`\b(0\.0\.0\.0|127\.0\.0\.1|[a-z-]+):([0-9]{4,5})\b`)

// here has the addresses of this machine in place of those that a container of that name
// has.
func (s *byHand) here(name, text string) string {
	return address.ReplaceAllStringFunc(text, func(found string) string {
		host, port, _ := strings.Cut(found, ":")
		switch {
		case port == "5432":
			return fmt.Sprintf("127.0.0.1:%d", s.pg.Port())
		case host == "0.0.0.0", host == "127.0.0.1":
			host = name
		}
		there := host + ":" + port
		if s.ports[there] == "" {
			s.ports[there] = freePort(s.t)
		}
		return "127.0.0.1:" + s.ports[there]
	})
}

func freePort(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)
	return port
}

// command is how a container of that name is run here.
func (s *byHand) command(name string, p part) (env, args []string) {
	for _, arg := range p.args {
		args = append(args, s.here(name, arg))
	}
	for variable, value := range p.env {
		here := s.here(name, value)
		if database, owner := strings.CutPrefix(value, "postgres://"+localpg.Owner+":only-for-this-laptop@postgres:5432/"); owner {
			here = s.pg.DSN(database) // the password of its owner is the server's own
		}
		env = append(env, variable+"="+here)
	}
	return env, args
}

// once runs a part that ends by itself.
func (s *byHand) once(name string) {
	s.t.Helper()
	require.Contains(s.t, s.parts, name)
	env, args := s.command(name, s.parts[name])
	code, out, errs := restock(s.t, env, args...)
	require.Zero(s.t, code, "%s %s", out, errs)
}

// launch starts a container of that part, and asks it what it would be asked there.
func (s *byHand) launch(part, name string) *process {
	s.t.Helper()
	require.Contains(s.t, s.parts, part)
	env, args := s.command(name, s.parts[part])
	p := launch(s.t, env, args...)
	for _, url := range s.parts[part].healthcheck {
		code, _, errs := restock(s.t, nil, "healthcheck", s.here(name, url))
		require.Zero(s.t, code, "%s: %s", name, errs)
	}
	for _, url := range s.parts[part].probes {
		require.Eventually(s.t, func() bool { return s.probe(name, url) == http.StatusOK }, patience, 5e6, "%s %s", name, url)
	}
	return p
}

// probe asks a container of that name as a kubelet does; 0 is no answer.
func (s *byHand) probe(name, url string) int {
	res, err := http.Get(s.here(name, url))
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

func (s *byHand) sql(text string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.pg.DSN("store"))
	require.NoError(s.t, err)
	defer conn.Close(s.t.Context())
	_, err = conn.Exec(s.t.Context(), text)
	require.NoError(s.t, err)
}

// watched asks the console, with the token that stands there.
func (s *byHand) watched() {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.here("admin", "admin:8089")+"/api/status", nil)
	require.NoError(s.t, err)
	_, token, _ := strings.Cut(s.parts["admin"].env["RESTOCK_ADMIN_TOKENS"], ":")
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	require.NoError(s.t, res.Body.Close())
	require.Equal(s.t, http.StatusOK, res.StatusCode)
}

func (s *byHand) buy(body string) int {
	res, err := http.Post("http://"+s.here("api", "api:8080")+"/checkout", "application/json", strings.NewReader(body))
	require.NoError(s.t, err)
	require.NoError(s.t, res.Body.Close())
	return res.StatusCode
}

// story buys the last donut, and one in vain; and a hundred at once.
func (s *byHand) story() {
	require.Equal(s.t, http.StatusOK, s.buy(""))
	require.Equal(s.t, http.StatusConflict, s.buy(""))
	require.Equal(s.t, http.StatusOK, s.buy(`{"sku":"CP-502102","quantity":100,"customerId":"c-1"}`))
	s.eventually("store", `SELECT (SELECT count(*) = 1 FROM replenishments WHERE state = 'delivered') AND (SELECT count(*) = 3 FROM inbox WHERE state = 'done')`)
	s.eventually("customers", `SELECT count(*) = 2 FROM inbox WHERE state = 'done'`)
}

// eventually waits until a query of one truth value says yes.
func (s *byHand) eventually(database, sql string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.pg.DSN(database))
	require.NoError(s.t, err)
	defer conn.Close(s.t.Context())
	require.Eventually(s.t, func() bool {
		var yes bool
		require.NoError(s.t, conn.QueryRow(s.t.Context(), sql).Scan(&yes))
		return yes
	}, patience, 5e6, sql)
}
