package localpg

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// originFile in a cluster kept elsewhere names the folder that it belongs to.
const originFile = "origin"

// Place returns the DataDir of the cluster that belongs to dir, which exists:
// dir/postgres, or where root runs the server as a user who cannot enter dir, a
// folder below DefaultDir that stands for dir. The same dir has the same place.
// Places whose dir is gone are removed, unless a server runs there.
func Place(dir string) (string, error) {
	user, err := chooseUser()
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", fmt.Errorf("place the cluster of %s: %w", dir, err)
	}
	elsewhere := filepath.Join(DefaultDir(), "elsewhere")
	removeOrphaned(elsewhere)
	if user.canReach(dir) == nil {
		return filepath.Join(dir, "postgres"), nil
	}
	sum := sha256.Sum256([]byte(dir))
	place := filepath.Join(elsewhere, hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(place, 0o711); err != nil { //nolint:gosec // G301: the server's user passes through
		return "", fmt.Errorf("place the cluster of %s: %w", dir, err)
	}
	if err := os.WriteFile(filepath.Join(place, originFile), []byte(dir), 0o600); err != nil {
		return "", fmt.Errorf("place the cluster of %s: %w", dir, err)
	}
	return filepath.Join(place, "postgres"), nil
}

// removeOrphaned clears the places whose folder is gone. What cannot be removed
// stays for the next time.
func removeOrphaned(elsewhere string) {
	origins, _ := filepath.Glob(filepath.Join(elsewhere, "*", originFile)) // the pattern is well-formed
	for _, origin := range origins {
		belongs, err := os.ReadFile(origin)
		if err != nil {
			continue
		}
		if _, err := os.Stat(string(belongs)); !errors.Is(err, os.ErrNotExist) { //nolint:gosec // G703: it is looked at, nothing more
			continue
		}
		place := filepath.Dir(origin)
		unlock, err := lock(files{dir: filepath.Join(place, "postgres")}.lock())
		var locked *LockedError
		if errors.As(err, &locked) {
			continue // a server runs there
		}
		_ = os.RemoveAll(place)
		if unlock != nil {
			_ = unlock() // the file is gone; this closes it
		}
	}
}
