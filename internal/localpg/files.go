package localpg

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// files names what is in a data directory. All of it is ours but the cluster, which
// is the server user's. The lock file is there from the first moment, so it is also
// the mark that the directory was made here.
type files struct{ dir string }

func (f files) lock() string     { return filepath.Join(f.dir, "localpg.lock") }
func (f files) cluster() string  { return filepath.Join(f.dir, "cluster") }
func (f files) settings() string { return filepath.Join(f.dir, "settings.conf") }
func (f files) log() string      { return filepath.Join(f.dir, "postgres.log") }
func (f files) password() string { return filepath.Join(f.dir, "password") }
func (f files) pgpass() string   { return filepath.Join(f.dir, "pgpass") }
func (f files) pid() string      { return filepath.Join(f.cluster(), "postmaster.pid") }
func (f files) version() string  { return filepath.Join(f.cluster(), "PG_VERSION") }

// unfinished is a pattern of folders in which a cluster was being made.
func (f files) unfinished() string { return filepath.Join(f.dir, "new-*") }

// ErrAlien is returned for a data directory that is not empty and was not made here.
var ErrAlien = errors.New("the directory is not empty and was not made by restock; choose an empty one")

// claim creates the directory if it is absent and refuses one that is not ours.
func (f files) claim(user *serverUser) error {
	info, err := os.Lstat(f.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// The parents stay open to the server's user, who must reach the cluster below them.
		if err := os.MkdirAll(f.dir, 0o755); err != nil { //nolint:gosec // as said above; the directory itself is closed below
			return fmt.Errorf("create the data directory: %w", err)
		}
	case err != nil:
		return fmt.Errorf("look at the data directory: %w", err)
	case !info.IsDir():
		return errors.New("the data directory is not a directory")
	}
	if err := ownedByUs(f.dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if _, err := os.Lstat(f.lock()); len(entries) > 0 && err != nil {
		return ErrAlien
	}
	if err := os.Chmod(f.dir, user.folderMode()); err != nil {
		return fmt.Errorf("protect the data directory: %w", err)
	}
	return user.canReach(f.dir)
}

// clusterVersion is the major version that made the cluster, 0 if there is none yet.
func (f files) clusterVersion() (int, error) {
	if _, err := os.Stat(f.cluster()); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	text, err := os.ReadFile(f.version())
	if err != nil {
		return 0, fmt.Errorf("read the version of the cluster: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read the version of the cluster: %w", err)
	}
	return major, nil
}

// logSize is where the next line of the server's log will begin.
func (f files) logSize() int64 {
	info, err := os.Stat(f.log())
	if err != nil {
		return 0
	}
	return info.Size()
}

// logSince returns what the server has logged from the offset on, the last lines of it.
func (f files) logSince(offset int64, lines int) string {
	file, err := os.Open(f.log())
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return ""
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, text string, mode os.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), "tmp-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = temp.WriteString(text)
	err = errors.Join(err, temp.Chmod(mode), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}
