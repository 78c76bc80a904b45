package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/rs/zerolog"
)

// RemoveAbandoned removes a data directory that nobody has used for so long, with the server
// that may still run in it. It leaves alone what is locked, younger or not ours. It is
// for throw-away directories of programs that were killed, such as tests.
func RemoveAbandoned(ctx context.Context, dir string, unusedFor time.Duration) error {
	f := files{dir: dir}
	info, err := os.Lstat(f.lock())
	if errors.Is(err, fs.ErrNotExist) || (err == nil && time.Since(info.ModTime()) < unusedFor) {
		return nil
	}
	if err == nil {
		err = ownedByUs(dir)
	}
	if err != nil {
		return fmt.Errorf("remove the abandoned directory %s: %w", dir, err)
	}
	unlock, err := lock(f.lock())
	if errors.As(err, new(*LockedError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove the abandoned directory %s: %w", dir, err)
	}
	err = stopOrphan(ctx, f, zerolog.Nop())
	if err == nil {
		err = os.RemoveAll(dir)
	}
	return errors.Join(err, unlock())
}
