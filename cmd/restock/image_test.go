package main

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestImage builds the image of the last commit in two folders: it is the same one, of one
// static program that is no superuser's.
func TestImage(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("buildah"); err != nil {
		t.Skip("NOT RUN: the image was not built, because there is no buildah on the PATH: bash .ci/setup installs it, as root on a system with apt")
	}
	first, second := buildImage(t, "test-first"), buildImage(t, "test-second")
	require.Equal(t, first.id, second.id)
	one, err := os.ReadFile(first.program)
	require.NoError(t, err)
	other, err := os.ReadFile(second.program)
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(one), sha256.Sum256(other))

	program, err := elf.Open(first.program)
	require.NoError(t, err)
	defer program.Close()
	require.Nil(t, program.Section(".interp"), "the program wants a loader, and in its image there is none")
	text, err := exec.Command(first.program, "version", "--sbom").Output()
	require.NoError(t, err)
	var b bill
	require.NoError(t, json.Unmarshal(text, &b))
	require.Greater(t, len(b.Components), 20)

	var image struct {
		OCIv1 struct {
			Config struct {
				User       string
				Entrypoint []string
			}
			RootFS struct {
				DiffIDs []string `json:"diff_ids"`
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(buildah(t, "inspect", "--type", "image", first.id)), &image))
	require.Equal(t, "65532:65532", image.OCIv1.Config.User)
	require.Equal(t, []string{"/restock"}, image.OCIv1.Config.Entrypoint)
	require.Len(t, image.OCIv1.RootFS.DiffIDs, 1, "there is something beneath it")
}

type built struct{ id, program string }

// buildImage builds in a clone.
func buildImage(t *testing.T, tag string) built {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "clone")
	out, err := exec.Command("git", "clone", "--quiet", "../..", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	build := exec.Command(filepath.Join(dir, "deployments/docker/build"), tag)
	var errs strings.Builder
	build.Stderr = &errs
	out, err = build.Output()
	require.NoError(t, err, "%s%s", out, &errs)
	lines := strings.Fields(string(out))
	id := lines[len(lines)-1]
	t.Cleanup(func() { _ = exec.Command("buildah", "--storage-driver", "vfs", "rmi", "restock:"+tag).Run() })
	return built{id, filepath.Join(dir, "bin/image/restock")}
}

func buildah(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("buildah", append([]string{"--storage-driver", "vfs"}, args...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}
