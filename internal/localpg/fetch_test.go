package localpg

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"github.com/stretchr/testify/require"
)

// repository stands in for the public one and counts what is asked of it.
type repository struct {
	*httptest.Server
	paths []string
	sum   string // of the archive; what is served beside it
}

func newRepository(t *testing.T, archive []byte) *repository {
	t.Helper()
	r := &repository{sum: fmt.Sprintf("%x", sha256.Sum256(archive))}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.paths = append(r.paths, req.URL.Path)
		if strings.HasSuffix(req.URL.Path, ".sha256") {
			_, _ = w.Write([]byte(r.sum))
			return
		}
		_, _ = w.Write(archive)
	}))
	t.Cleanup(r.Close)
	return r
}

// TestFetchedServerRuns fetches programs that hand over to this machine's own server.
func TestFetchedServerRuns(t *testing.T) {
	t.Parallel()
	own, err := findOrFetch(t.Context(), Config{Fetch: Fetch{Disabled: true}}, files{dir: t.TempDir()})
	require.NoError(t, err)
	handOver := func(name string) string {
		return "#!/bin/sh\nexec " + filepath.Join(own.dir, name) + ` "$@"` + "\n"
	}
	repo := newRepository(t, jar(t, map[string]string{
		"bin/postgres": handOver("postgres"),
		"bin/initdb":   handOver("initdb"),
	}))

	dir, err := os.MkdirTemp("", "restock-pg-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755)) // the server's user reads the cache in it
	cfg := Config{
		DataDir:  filepath.Join(dir, "data"),
		CacheDir: filepath.Join(dir, "cache"),
		Fetch:    Fetch{RepositoryURL: repo.URL},
	}

	bindir, err := fetch(t.Context(), cfg, own.major)
	require.NoError(t, err)
	require.Len(t, repo.paths, 2)
	require.Contains(t, repo.paths[0], string(fetchable[own.major]))
	again, err := fetch(t.Context(), cfg, own.major)
	require.NoError(t, err)
	require.Equal(t, bindir, again)
	require.Len(t, repo.paths, 2, "the second time it comes from the cache")
	require.NoError(t, os.RemoveAll(filepath.Join(cfg.CacheDir, "postgres-"+string(fetchable[own.major]))))
	_, err = fetch(t.Context(), cfg, own.major)
	require.NoError(t, err)
	require.Len(t, repo.paths, 2, "and the archive too")
	scratch, err := filepath.Glob(filepath.Join(cfg.CacheDir, "fetch-*"))
	require.NoError(t, err)
	require.Empty(t, scratch)

	cfg.Bindir = bindir
	s, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, bindir, s.Bindir())
	require.NoError(t, s.Stop(t.Context()))
}

func TestFetchFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		archive []byte
		sum     string
		want    string
	}{
		"checksum":       {archive: jar(t, map[string]string{"bin/postgres": "#!/bin/sh\n"}), sum: "0123", want: "checksums do not match"},
		"not an archive": {archive: []byte("<html>"), want: "no server in what was fetched"},
		"no server":      {archive: jar(t, map[string]string{"README": "nothing"}), want: "no server in what was fetched"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := newRepository(t, test.archive)
			if test.sum != "" {
				repo.sum = test.sum
			}
			cache := t.TempDir()
			_, err := fetch(t.Context(), Config{CacheDir: cache, Fetch: Fetch{RepositoryURL: repo.URL}}, 0)
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, "fetch Postgres "+string(fetchable[fetchMajor]))
			kept, err := filepath.Glob(filepath.Join(cache, "postgres-*"))
			require.NoError(t, err)
			require.Empty(t, kept)
		})
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	repo := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		cancel()
		<-release
	}))
	t.Cleanup(repo.Close)
	t.Cleanup(func() { close(release) })
	// Not t.TempDir, which would complain of what the abandoned download still removes.
	cache, err := os.MkdirTemp("", "restock-fetch-*")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(cache) })
	_, err = fetch(ctx, Config{CacheDir: cache, Fetch: Fetch{RepositoryURL: repo.URL}}, 0)
	require.ErrorIs(t, err, context.Canceled)
}

func TestFetchVersion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fetch Fetch
		major int
		want  embeddedpostgres.PostgresVersion
	}{
		{Fetch{}, 0, fetchable[fetchMajor]},
		{Fetch{}, 15, fetchable[15]},
		{Fetch{Version: "16.1.0"}, 15, "16.1.0"},
		{Fetch{}, 14, ""},
	} {
		got, err := test.fetch.version(test.major)
		require.Equal(t, test.want == "", err != nil)
		require.Equal(t, test.want, got)
	}
}

// jar packs programs as the repository does: a tar in an xz in a zip.
func jar(t *testing.T, programs map[string]string) []byte {
	t.Helper()
	var tarred bytes.Buffer
	tw := tar.NewWriter(&tarred)
	for name, text := range programs {
		require.NoError(t, tw.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg}))
		_, err := tw.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())

	var zipped bytes.Buffer
	zw := zip.NewWriter(&zipped)
	w, err := zw.Create("postgres.txz")
	require.NoError(t, err)
	_, err = w.Write(storeXZ(tarred.Bytes()))
	require.NoError(t, err)
	require.NoError(t, zw.Close())
	return zipped.Bytes()
}

// storeXZ writes an .xz stream that holds data uncompressed, since neither the standard library nor
// any module at hand can write one.
func storeXZ(data []byte) []byte {
	sum := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
	padded := func(b []byte) []byte { return append(b, make([]byte, (4-len(b)%4)%4)...) }
	varint := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	flags := []byte{0, 1} // CRC32

	var chunks []byte // LZMA2: control byte, size - 1 in 16 bits, the bytes as they are
	for i, rest := 0, data; len(rest) > 0; i++ {
		n := min(len(rest), 1<<16)
		control := byte(2)
		if i == 0 {
			control = 1 // resets the dictionary
		}
		chunks = append(append(chunks, control, byte((n-1)>>8), byte(n-1)), rest[:n]...)
		rest = rest[n:]
	}
	chunks = append(chunks, 0)

	// One block: header size, one filter (LZMA2, 1 property byte: a small dictionary), padding.
	header := []byte{2, 0, 0x21, 1, 8, 0, 0, 0}
	header = append(header, sum(header)...)
	index := append(append([]byte{0, 1}, varint(len(header)+len(chunks)+4)...), varint(len(data))...)
	index = padded(index)
	index = append(index, sum(index)...)
	tail := append(binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1)), flags...)

	var out []byte
	out = append(out, 0xFD, '7', 'z', 'X', 'Z', 0)
	out = append(append(out, flags...), sum(flags)...)
	out = append(out, header...)
	out = append(out, padded(chunks)...)
	out = append(out, sum(data)...)
	out = append(out, index...)
	out = append(append(out, sum(tail)...), tail...)
	return append(out, 'Y', 'Z')
}
