package main

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
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

// ours tells whether a service runs this program.
func (c container) ours() bool { return strings.HasPrefix(c.Image, "restock:") }

func composeServices(t *testing.T, text []byte) map[string]container {
	t.Helper()
	var file struct{ Services map[string]container }
	require.NoError(t, yaml.Unmarshal(text, &file))
	require.Greater(t, len(file.Services), 10)
	return file.Services
}

// composed are the services of compose.yaml that run this program.
func composed(t *testing.T) map[string]part {
	t.Helper()
	parts := map[string]part{}
	for name, service := range composeServices(t, []byte(composeFile(t, "compose.yaml"))) {
		if !service.ours() {
			continue
		}
		p := part{args: service.Command, env: service.Environment}
		if check := service.Healthcheck.Test; len(check) > 0 {
			require.Equal(t, []string{"CMD", "/restock", "healthcheck"}, check[:3])
			p.healthcheck = check[3:]
		}
		parts[name] = p
	}
	require.Len(t, parts, 10)
	return parts
}

func composeFile(t *testing.T, name string) string {
	t.Helper()
	return read(t, filepath.Join(composeDir, name))
}

// TestCompose starts each part by hand with exactly the command and environment that
// compose.yaml has, but for the addresses, and plays the story.
func TestCompose(t *testing.T) {
	t.Parallel()
	s := startByHand(t, composed(t), composeFile(t, "databases.sql"), composeFile(t, "furnish.sql"))
	for _, name := range []string{"localaws", "factory", "marketing", "api", "relay-store", "relay-customers", "consume", "admin"} {
		s.launch(name, name)
		env, command := s.command(name, s.parts[name])
		if paths := served[command[0]]; paths != nil {
			require.Equal(t, paths, serves(t, command), command)
		}
		if name == "admin" {
			status := []string{"status", "--watch", "--http-addr", "127.0.0.1:" + freePort(t)}
			watching(t, env, status...)
			require.Equal(t, served["status"], serves(t, status))
		}
	}
	s.story()
	s.watched()
	maintain := s.parts["maintain"]
	maintain.args = maintain.args[:1] // but for --every, which would go on
	s.parts["maintain"] = maintain
	s.once("maintain")
}

// serves are the paths, of those that any part has, that a running one answers where its
// command says.
func serves(t *testing.T, command []string) (paths []string) {
	t.Helper()
	at := slices.Index(command, "--http-addr")
	if at < 0 {
		at = slices.Index(command, "--addr")
	}
	for _, path := range []string{"/healthz", "/readyz", "/progressz", "/metrics"} {
		res, err := http.Get("http://" + command[at+1] + path)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		if res.StatusCode != http.StatusNotFound {
			paths = append(paths, path)
		}
	}
	return paths
}
