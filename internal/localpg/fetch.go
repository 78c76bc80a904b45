package localpg

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// Fetch says where server binaries come from when the machine has none.
type Fetch struct {
	// Version in full, such as "17.5.0". Empty: a recent one, or where a cluster
	// exists, one of its major version.
	Version string
	// RepositoryURL of the archive, laid out as a Maven repository. Empty: the library's.
	RepositoryURL string
	// Disabled makes the absence of binaries an error.
	Disabled bool
}

// fetchable maps a major version to the release that is fetched for it.
var fetchable = map[int]embeddedpostgres.PostgresVersion{
	15: embeddedpostgres.V15,
	16: embeddedpostgres.V16,
	17: embeddedpostgres.V17,
	18: embeddedpostgres.V18,
}

const fetchMajor = 17

// version is what to fetch for a cluster made by major, or for a new one if that is 0.
func (f Fetch) version(major int) (embeddedpostgres.PostgresVersion, error) {
	if f.Version != "" {
		return embeddedpostgres.PostgresVersion(f.Version), nil
	}
	if major == 0 {
		major = fetchMajor
	}
	version, known := fetchable[major]
	if !known {
		return "", fmt.Errorf("fetch Postgres: do not know a release of version %d", major)
	}
	return version, nil
}

// fetch returns the folder of binaries kept in the cache, after it has downloaded
// and unpacked them there if need be. The library takes no context, so a download goes
// on in the background where ctx ends first.
func fetch(ctx context.Context, cfg Config, major int) (bindir string, err error) {
	version, err := cfg.Fetch.version(major)
	if err != nil {
		return "", err
	}
	cache := cfg.CacheDir
	if cache == "" {
		cache = DefaultDir()
	}
	kept := filepath.Join(cache, "postgres-"+string(version))
	if bindir = filepath.Join(kept, "bin"); hasServer(bindir) {
		return bindir, nil
	}

	cfg.Logger.Info().Str("version", string(version)).Str("cache", cache).Msg("fetching Postgres: none found on this machine")
	done := make(chan error, 1)
	go func() { done <- download(cfg.Fetch, version, cache, kept) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("fetch Postgres %s: %w", version, err)
	}
	return bindir, nil
}

// download unpacks into a scratch folder and renames it, so that kept is complete or absent
// whatever happens, also when two processes do it at once.
func download(f Fetch, version embeddedpostgres.PostgresVersion, cache, kept string) error {
	if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // the server's user must reach the binaries
		return err
	}
	scratch, err := os.MkdirTemp(cache, "fetch-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()

	unpacked := filepath.Join(scratch, "postgres")
	config := embeddedpostgres.DefaultConfig().
		Version(version).
		Port(0).
		CachePath(cache).
		RuntimePath(filepath.Join(scratch, "runtime")).
		BinariesPath(unpacked).
		// The library has no call that only fetches: Start goes on to make and run a
		// cluster, and does so as root too. A data path that os.RemoveAll refuses by rule
		// stops it right after it has unpacked, whoever we are.
		DataPath(scratch + "/.").
		Logger(io.Discard)
	if f.RepositoryURL != "" {
		config = config.BinaryRepositoryURL(f.RepositoryURL)
	}
	err = embeddedpostgres.NewDatabase(config).Start()
	if !hasServer(filepath.Join(unpacked, "bin")) {
		return fmt.Errorf("no server in what was fetched: %w", err)
	}
	if err := os.Rename(unpacked, kept); err != nil && !hasServer(filepath.Join(kept, "bin")) {
		return err
	}
	return nil
}
