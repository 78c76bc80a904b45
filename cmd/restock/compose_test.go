package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/restock-dev/restock/internal/localpg"
)

const composeDir = "../../deployments/compose"

// container is a service of compose.yaml.
type container struct {
	Image       string
	Command     []string
	Entrypoint  []string
	Environment map[string]string
	Ports       []string
	Healthcheck struct{ Test []string }
}

func composed(t *testing.T) map[string]container {
	t.Helper()
	return composeServices(t, []byte(read(t, filepath.Join(composeDir, "compose.yaml"))))
}

func composeServices(t *testing.T, text []byte) map[string]container {
	t.Helper()
	var file struct{ Services map[string]container }
	require.NoError(t, yaml.Unmarshal(text, &file))
	require.Greater(t, len(file.Services), 10)
	return file.Services
}

// ours tells whether a service runs this program.
func (c container) ours() bool { return strings.HasPrefix(c.Image, "restock:") }

// TestCompose starts each part by hand with exactly the command and environment that
// compose.yaml has, but for the addresses, and plays the story.
func TestCompose(t *testing.T) {
	t.Parallel()
	s := &composeStack{t: t, services: composed(t), ports: map[string]string{}}
	place, err := localpg.Place(t.TempDir())
	require.NoError(t, err)
	s.pg, err = localpg.Start(t.Context(), localpg.Config{DataDir: place, Logger: zerolog.Nop()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(s.pg.Stop(context.WithoutCancel(t.Context())), s.pg.Remove())) })
	require.NoError(t, s.pg.CreateDatabase(t.Context(), "store", ""))
	s.sql("databases.sql")
	code, out, errs := restock(t, s.environment("migrate"), s.command("migrate")...)
	require.Zero(t, code, "%s %s", out, errs)
	s.sql("furnish.sql")
	for _, name := range []string{"localaws", "factory", "marketing", "api", "relay-store", "relay-customers", "consume", "admin"} {
		launch(t, s.environment(name), s.command(name)...)
		if check := s.services[name].Healthcheck.Test; len(check) > 0 {
			code, _, errs := restock(t, nil, s.local(check[2:])...)
			require.Zero(t, code, errs)
		}
		if command := s.services[name].Command; served[command[0]] != nil {
			require.Equal(t, served[command[0]], s.serves(s.local(command)), command)
		}
	}
	status := []string{"status", "--watch", "--http-addr", "127.0.0.1:" + freePort(t)}
	watching(t, s.environment("admin"), status...)
	require.Equal(t, served["status"], s.serves(status))
	s.story()
	s.watched()
	code, out, errs = restock(t, s.environment("maintain"), "maintain")
	require.Zero(t, code, "%s %s", out, errs)
}

type composeStack struct {
	t        *testing.T
	pg       *localpg.Server
	services map[string]container
	ports    map[string]string // here, by the one in compose.yaml
}

// address is a host and a port of a container.
var address = regexp.MustCompile(`\b(?:0\.0\.0\.0|127\.0\.0\.1|[a-z-]+):([0-9]{4,5})\b`)

// local has the addresses of this machine in place of those in compose.yaml.
func (s *composeStack) local(texts []string) []string {
	texts = slices.Clone(texts)
	for i, text := range texts {
		texts[i] = address.ReplaceAllStringFunc(text, func(found string) string {
			_, port, _ := strings.Cut(found, ":")
			if port == "5432" {
				return fmt.Sprintf("127.0.0.1:%d", s.pg.Port())
			}
			if s.ports[port] == "" {
				s.ports[port] = freePort(s.t)
			}
			return "127.0.0.1:" + s.ports[port]
		})
	}
	return texts
}

func freePort(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)
	return port
}

func (s *composeStack) command(service string) []string {
	return s.local(s.services[service].Command)
}

func (s *composeStack) environment(service string) (all []string) {
	for name, value := range s.services[service].Environment {
		here := s.local([]string{value})[0]
		if database, owner := strings.CutPrefix(value, "postgres://"+localpg.Owner+":only-for-this-laptop@postgres:5432/"); owner {
			here = s.pg.DSN(database) // the password of its owner is the server's own
		}
		all = append(all, name+"="+here)
	}
	return all
}

func (s *composeStack) sql(file string) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(composeDir, file))
	require.NoError(s.t, err)
	conn, err := pgx.Connect(s.t.Context(), s.pg.DSN("store"))
	require.NoError(s.t, err)
	defer conn.Close(s.t.Context())
	_, err = conn.Exec(s.t.Context(), string(text))
	require.NoError(s.t, err)
}

// serves are the paths, of those that any part has, that a running one answers where its
// command says.
func (s *composeStack) serves(command []string) (paths []string) {
	at := slices.Index(command, "--http-addr")
	if at < 0 {
		at = slices.Index(command, "--addr")
	}
	for _, path := range []string{"/healthz", "/readyz", "/progressz", "/metrics"} {
		res, err := http.Get("http://" + command[at+1] + path)
		require.NoError(s.t, err)
		require.NoError(s.t, res.Body.Close())
		if res.StatusCode != http.StatusNotFound {
			paths = append(paths, path)
		}
	}
	return paths
}

// watched asks the console, with the token that stands there.
func (s *composeStack) watched() {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.local([]string{"admin:8089"})[0]+"/api/status", nil)
	require.NoError(s.t, err)
	_, token, _ := strings.Cut(s.services["admin"].Environment["RESTOCK_ADMIN_TOKENS"], ":")
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	require.NoError(s.t, res.Body.Close())
	require.Equal(s.t, http.StatusOK, res.StatusCode)
}

// story buys the last donut, and one in vain; and a hundred at once.
func (s *composeStack) story() {
	t := s.t
	api := "http://" + s.local([]string{"api:8080"})[0]
	buy := func(body string) int {
		res, err := http.Post(api+"/checkout", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	require.Equal(t, http.StatusOK, buy(""))
	require.Equal(t, http.StatusConflict, buy(""))
	require.Equal(t, http.StatusOK, buy(`{"sku":"CP-502102","quantity":100,"customerId":"c-1"}`))
	for database, want := range map[string]string{
		"store":     `SELECT (SELECT count(*) = 1 FROM replenishments WHERE state = 'delivered') AND (SELECT count(*) = 3 FROM inbox WHERE state = 'done')`,
		"customers": `SELECT count(*) = 2 FROM inbox WHERE state = 'done'`,
	} {
		conn, err := pgx.Connect(t.Context(), s.pg.DSN(database))
		require.NoError(t, err)
		defer conn.Close(t.Context())
		require.Eventually(t, func() bool {
			var all bool
			require.NoError(t, conn.QueryRow(t.Context(), want).Scan(&all))
			return all
		}, patience, 5e6, database)
	}
}
