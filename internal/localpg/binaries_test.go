package localpg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCandidates(t *testing.T) {
	t.Parallel()
	absent := errors.New("absent")
	for name, test := range map[string]struct {
		path     string            // where initdb is on PATH
		links    map[string]string // what a path resolves to
		pgConfig string
		folders  map[string][]string // pattern to what it matches
		servers  []string            // folders that have a server
		want     []string
	}{
		"nothing": {},
		"PATH before pg_config before the usual folders": {
			path:     "/opt/pg/bin/initdb",
			pgConfig: "/usr/lib/postgresql/16/bin\n",
			folders:  map[string][]string{"/usr/local/pgsql/bin": {"/usr/local/pgsql/bin"}},
			servers:  []string{"/usr/local/pgsql/bin", "/usr/lib/postgresql/16/bin", "/opt/pg/bin"},
			want:     []string{"/opt/pg/bin", "/usr/lib/postgresql/16/bin", "/usr/local/pgsql/bin"},
		},
		"newer versions first, by number": {
			folders: map[string][]string{"/usr/lib/postgresql/*/bin": {"/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/9.6/bin", "/usr/lib/postgresql/17/bin"}},
			servers: []string{"/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/9.6/bin", "/usr/lib/postgresql/17/bin"},
			want:    []string{"/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/9.6/bin"},
		},
		"a folder twice counts once": {
			pgConfig: "/usr/lib/postgresql/15/bin",
			folders:  map[string][]string{"/usr/lib/postgresql/*/bin": {"/usr/lib/postgresql/15/bin"}},
			servers:  []string{"/usr/lib/postgresql/15/bin"},
			want:     []string{"/usr/lib/postgresql/15/bin"},
		},
		"a folder with clients only is passed over": {
			path:     "/usr/bin/initdb",
			pgConfig: "/usr/bin",
			folders:  map[string][]string{"/usr/lib/postgresql/*/bin": {"/usr/lib/postgresql/15/bin"}},
			servers:  []string{"/usr/lib/postgresql/15/bin"},
			want:     []string{"/usr/lib/postgresql/15/bin"},
		},
		"a link on PATH leads to the server": {
			path:    "/usr/local/bin/initdb",
			links:   map[string]string{"/usr/local/bin/initdb": "/usr/local/Cellar/pg/bin/initdb"},
			servers: []string{"/usr/local/Cellar/pg/bin"},
			want:    []string{"/usr/local/Cellar/pg/bin"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			orAbsent := func(s string) (string, error) {
				if s == "" {
					return "", absent
				}
				return s, nil
			}
			m := machine{
				lookPath:  func(string) (string, error) { return orAbsent(test.path) },
				pgConfig:  func() (string, error) { return orAbsent(test.pgConfig) },
				glob:      func(pattern string) ([]string, error) { return test.folders[pattern], nil },
				hasServer: func(dir string) bool { return slices.Contains(test.servers, dir) },
				resolve:   func(path string) (string, error) { return orAbsent(test.links[path]) },
			}
			require.Equal(t, test.want, m.candidates())
		})
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	versions := map[string]int{"/14": 14, "/15": 15, "/16": 16}
	version := func(dir string) (int, error) {
		if v := versions[dir]; v != 0 {
			return v, nil
		}
		return 0, fmt.Errorf("%s does not run", dir)
	}
	for name, test := range map[string]struct {
		dirs    []string
		want    int
		chosen  int
		refusal string
	}{
		"the first that is new enough":         {dirs: []string{"/14", "/15", "/16"}, chosen: 15},
		"the one that made the cluster":        {dirs: []string{"/15", "/16"}, want: 16, chosen: 16},
		"one that does not run is passed over": {dirs: []string{"/broken", "/16"}, chosen: 16},
		"too old":                              {dirs: []string{"/14"}, refusal: "/14 is Postgres 14, and Restock needs 15 or newer"},
		"of another version than the cluster":  {dirs: []string{"/15"}, want: 16, refusal: "the data directory was made by Postgres 16"},
		"does not run":                         {dirs: []string{"/broken"}, refusal: "/broken does not run"},
		"none":                                 {refusal: ErrNoBinaries.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bin, err := choose(test.dirs, test.want, version)
			if test.refusal != "" {
				require.ErrorIs(t, err, ErrNoBinaries)
				require.ErrorContains(t, err, test.refusal)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.chosen, bin.major)
		})
	}
}

func TestExplicitBindir(t *testing.T) {
	t.Parallel()
	f := files{dir: t.TempDir()}
	_, err := findOrFetch(t.Context(), Config{Bindir: t.TempDir()}, f)
	require.ErrorContains(t, err, "does not hold initdb and postgres")

	old := t.TempDir()
	writeServer(t, old, "#!/bin/sh\necho 'postgres (PostgreSQL) 14.18'\n")
	_, err = findOrFetch(t.Context(), Config{Bindir: old}, f)
	require.ErrorContains(t, err, "needs 15 or newer")

	for text, want := range map[string]int{
		"echo 'postgres (PostgreSQL) 18beta1'":                        18,
		"echo 'postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)'": 15,
	} {
		dir := t.TempDir()
		writeServer(t, dir, "#!/bin/sh\n"+text+"\n")
		bin, err := findOrFetch(t.Context(), Config{Bindir: dir}, f)
		require.NoError(t, err)
		require.Equal(t, want, bin.major)
	}

	silent := t.TempDir()
	writeServer(t, silent, "#!/bin/sh\necho 'no libpq' >&2; exit 1\n")
	_, err = findOrFetch(t.Context(), Config{Bindir: silent}, f)
	require.ErrorContains(t, err, "no libpq")
}

// writeServer puts programs into dir that pass for a server.
func writeServer(t *testing.T, dir, script string) {
	t.Helper()
	for _, name := range []string{"initdb", "postgres"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
}

func TestMayEnter(t *testing.T) {
	t.Parallel()
	u := &serverUser{uid: 101, gid: 104, groups: []uint32{104, 110}}
	for name, test := range map[string]struct {
		mode     os.FileMode
		uid, gid uint32
		want     bool
	}{
		"as the owner":                   {0o700, 101, 0, true},
		"the owner alone is refused":     {0o077, 101, 104, false},
		"by a group":                     {0o710, 0, 110, true},
		"the group alone is refused":     {0o701, 0, 104, false},
		"as anybody":                     {0o711, 0, 0, true},
		"a folder of root's alone":       {0o700, 0, 0, false},
		"a folder that can be read only": {0o744, 0, 0, false},
	} {
		require.Equal(t, test.want, u.mayEnter(test.mode, test.uid, test.gid), name)
	}
}
