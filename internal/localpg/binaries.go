package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MinVersion is the oldest major version of Postgres that Restock works with.
const MinVersion = 15

// binaries is a folder with a server of a known version in it.
type binaries struct {
	dir   string
	major int
}

// ErrNoBinaries is returned where no usable server was found.
var ErrNoBinaries = errors.New("no Postgres server found")

// usualFolders are patterns of where packagers put the server, most specific first.
var usualFolders = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/local/pgsql/bin",
	"/usr/local/opt/postgresql*/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	"/usr/libexec/postgresql*",
	"/usr/lib64/pgsql/bin",
}

// machine is what the search asks of the machine, so that a test can play it.
type machine struct {
	lookPath  func(file string) (string, error)
	pgConfig  func() (bindir string, err error)
	glob      func(pattern string) ([]string, error)
	hasServer func(dir string) bool
	resolve   func(path string) (string, error)
}

// candidates lists the folders that have a server in them, in the order of
// preference: PATH, pg_config, then the usual folders with newer versions first.
func (m machine) candidates() []string {
	var dirs []string
	add := func(dir string) {
		if dir != "" && m.hasServer(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	if path, err := m.lookPath("initdb"); err == nil {
		add(filepath.Dir(path))
		if real, err := m.resolve(path); err == nil {
			add(filepath.Dir(real)) // a link such as /usr/bin/initdb, without the server beside it
		}
	}
	if dir, err := m.pgConfig(); err == nil {
		add(strings.TrimSpace(dir))
	}
	for _, pattern := range usualFolders {
		found, _ := m.glob(pattern) // the patterns are constants
		slices.SortStableFunc(found, func(a, b string) int { return versionIn(b) - versionIn(a) })
		for _, dir := range found {
			add(dir)
		}
	}
	return dirs
}

var number = regexp.MustCompile(`\d+`)

// versionIn is the first number in a folder's name, 0 if there is none.
func versionIn(dir string) int {
	n, err := strconv.Atoi(number.FindString(dir))
	if err != nil {
		return 0
	}
	return n
}

func thisMachine(ctx context.Context) machine {
	return machine{
		lookPath: exec.LookPath,
		pgConfig: func() (string, error) {
			out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output()
			return string(out), err
		},
		glob:      filepath.Glob,
		hasServer: hasServer,
		resolve:   filepath.EvalSymlinks,
	}
}

func hasServer(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// choose takes the first candidate that is new enough and, where a cluster exists
// already (want is not 0), of the version that made it.
func choose(dirs []string, want int, version func(dir string) (int, error)) (binaries, error) {
	var refused []error
	for _, dir := range dirs {
		major, err := version(dir)
		switch {
		case err != nil:
			refused = append(refused, err)
		case major < MinVersion:
			refused = append(refused, fmt.Errorf("%s is Postgres %d, and Restock needs %d or newer", dir, major, MinVersion))
		case want != 0 && major != want:
			refused = append(refused, fmt.Errorf("%s is Postgres %d, and the data directory was made by Postgres %d", dir, major, want))
		default:
			return binaries{dir: dir, major: major}, nil
		}
	}
	return binaries{}, errors.Join(append([]error{ErrNoBinaries}, refused...)...)
}

// findOrFetch finds the server, and where there is none that fits, fetches one.
func findOrFetch(ctx context.Context, cfg Config, f files) (binaries, error) {
	want, err := f.clusterVersion()
	if err != nil {
		return binaries{}, err
	}
	version := func(dir string) (int, error) { return serverVersion(ctx, dir) }
	if cfg.Bindir != "" {
		dir, err := filepath.Abs(cfg.Bindir)
		if err != nil {
			return binaries{}, fmt.Errorf("find Postgres in %s: %w", cfg.Bindir, err)
		}
		if !hasServer(dir) {
			return binaries{}, fmt.Errorf("%w: %s does not hold initdb and postgres", ErrNoBinaries, dir)
		}
		return choose([]string{dir}, want, version)
	}
	found, err := choose(thisMachine(ctx).candidates(), want, version)
	if err == nil || cfg.Fetch.Disabled {
		return found, err
	}
	fetched, fetchErr := fetch(ctx, cfg, want)
	if fetchErr != nil {
		return binaries{}, fmt.Errorf("%w; install Postgres %d or newer, or name its folder of binaries", errors.Join(err, fetchErr), MinVersion)
	}
	return choose([]string{fetched}, want, version)
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

func serverVersion(ctx context.Context, dir string) (int, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version") //nolint:gosec // the folder is the user's choice
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("ask %s/postgres for its version: %w: %s", dir, err, bytes.TrimSpace(stderr.Bytes()))
	}
	match := versionLine.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("ask %s/postgres for its version: cannot read %q", dir, out)
	}
	return strconv.Atoi(string(match[1]))
}
