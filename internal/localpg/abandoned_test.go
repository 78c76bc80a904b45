package localpg

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRemoveAbandoned(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		age     time.Duration
		locked  bool
		alien   bool
		removed bool
	}{
		"old":            {age: time.Hour, removed: true},
		"young":          {},
		"old and in use": {age: time.Hour, locked: true},
		"not ours":       {age: time.Hour, alien: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "restock-pg-1")
			f := files{dir: dir}
			require.NoError(t, os.MkdirAll(f.cluster(), 0o700))
			if !test.alien {
				unlock, err := lock(f.lock())
				require.NoError(t, err)
				if test.locked {
					t.Cleanup(func() { require.NoError(t, unlock()) })
				} else {
					require.NoError(t, unlock())
				}
				then := time.Now().Add(-test.age)
				require.NoError(t, os.Chtimes(f.lock(), then, then))
			}
			require.NoError(t, RemoveAbandoned(t.Context(), dir, time.Minute))
			if test.removed {
				require.NoDirExists(t, dir)
			} else {
				require.DirExists(t, dir)
			}
		})
	}
}
