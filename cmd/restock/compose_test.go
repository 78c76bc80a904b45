package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

const composeDir = "../../deployments/compose"

// composed are the services of compose.yaml that run this program.
func composed(t *testing.T) map[string]part {
	t.Helper()
	var file struct {
		Services map[string]struct {
			Image       string
			Command     []string
			Environment map[string]string
			Healthcheck struct{ Test []string }
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(composeFile(t, "compose.yaml")), &file))
	parts := map[string]part{}
	for name, service := range file.Services {
		if !strings.HasPrefix(service.Image, "restock:") {
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
	text, err := os.ReadFile(filepath.Join(composeDir, name))
	require.NoError(t, err)
	return string(text)
}

// TestComposeSaysWhatTheProgramKnows: every command line parses, and every variable is one
// that the command reads.
func TestComposeSaysWhatTheProgramKnows(t *testing.T) {
	t.Parallel()
	for name, p := range composed(t) {
		p.known(t, name)
	}
}

// TestCompose starts each part by hand with exactly the command and environment that
// compose.yaml has, but for the addresses, and plays the story.
func TestCompose(t *testing.T) {
	t.Parallel()
	s := startByHand(t, composed(t), composeFile(t, "databases.sql"), composeFile(t, "furnish.sql"))
	for _, name := range []string{"localaws", "factory", "marketing", "api", "relay-store", "relay-customers", "consume", "admin"} {
		s.launch(name, name)
	}
	s.story()
	s.watched()
	maintain := s.parts["maintain"]
	maintain.args = maintain.args[:1] // but for --every, which would go on
	s.parts["maintain"] = maintain
	s.once("maintain")
}
