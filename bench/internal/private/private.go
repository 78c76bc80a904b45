// Package private is the Postgres that a benchmark keeps for itself while it runs.
package private

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/localpg"
)

// Run calls work with a new Postgres in dir, or where dir is "" in a temporary directory
// that is removed afterwards, and stops it. It has room for bulk loads, and nothing that
// begins by itself amid a measurement; settings come on top.
func Run(ctx context.Context, dir string, fsync bool, settings map[string]string, work func(*localpg.Server) error) (err error) {
	temporary := dir == ""
	if temporary {
		if dir, err = os.MkdirTemp("", "restock-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	place, err := localpg.Place(dir)
	if err != nil {
		return err
	}
	if temporary { // it may be elsewhere than the directory
		defer func() { err = errors.Join(err, os.RemoveAll(place)) }()
	}
	all := map[string]string{"shared_buffers": "512MB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "autovacuum": "off"}
	maps.Copy(all, settings)
	pg, err := localpg.Start(ctx, localpg.Config{DataDir: filepath.Join(place, "postgres"), Fsync: fsync, Logger: zerolog.Nop(), Settings: all})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pg.Stop(context.WithoutCancel(ctx))) }()
	return work(pg)
}
