package localpg

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// serverUser is who the server runs as where that is not ourselves. A nil
// *serverUser is ourselves, and its methods then have nothing to do.
type serverUser struct {
	name   string
	uid    uint32
	gid    uint32
	groups []uint32
}

// chooseUser picks whom to run the server as: ourselves, and as root, which
// Postgres refuses, its customary user or else the one with the least rights.
func chooseUser() (*serverUser, error) {
	if os.Geteuid() != 0 {
		return nil, nil // which is ourselves
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(found.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(found.Gid, 10, 32)
		if errUID != nil || errGID != nil || uid == 0 {
			continue
		}
		u := &serverUser{name: name, uid: uint32(uid), gid: uint32(gid), groups: []uint32{uint32(gid)}}
		ids, _ := found.GroupIds() // more groups only widen what the user can reach
		for _, id := range ids {
			if n, err := strconv.ParseUint(id, 10, 32); err == nil && !slices.Contains(u.groups, uint32(n)) {
				u.groups = append(u.groups, uint32(n))
			}
		}
		return u, nil
	}
	return nil, errors.New("postgres does not run as root, and there is neither a user postgres nor nobody to run it as; run restock as an ordinary user")
}

// credential is what a child process runs as; nil is as we do.
func (u *serverUser) credential() *syscall.Credential {
	if u == nil {
		return nil
	}
	return &syscall.Credential{Uid: u.uid, Gid: u.gid, Groups: u.groups}
}

// give makes the path the server user's.
func (u *serverUser) give(path string) error {
	if u == nil {
		return nil
	}
	if err := os.Lchown(path, int(u.uid), int(u.gid)); err != nil {
		return fmt.Errorf("give %s to the user %s: %w", path, u.name, err)
	}
	return nil
}

// folderMode keeps others out of the data directory, but lets a server user pass
// through to the cluster, which is that user's alone.
func (u *serverUser) folderMode() os.FileMode {
	if u == nil {
		return 0o700
	}
	return 0o711
}

// ownedByUs refuses a directory of somebody else, who could change it under us: the
// folder for temporary files is shared.
func ownedByUs(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user (uid %d); choose another directory", dir, stat.Uid)
	}
	return nil
}

// canReach tells whether the server user can pass every folder above path and enter it.
func (u *serverUser) canReach(path string) error {
	if u == nil {
		return nil
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("look at %s: %w", dir, err)
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && !u.mayEnter(info.Mode(), stat.Uid, stat.Gid) {
			return fmt.Errorf("running as root, the server runs as the user %s, who cannot enter %s (%s), so cannot reach %s; choose a directory elsewhere, such as %s",
				u.name, dir, info.Mode().Perm(), path, DefaultDir())
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// mayEnter applies the first class that fits, as the kernel does.
func (u *serverUser) mayEnter(mode os.FileMode, uid, gid uint32) bool {
	switch {
	case uid == u.uid:
		return mode&0o100 != 0
	case slices.Contains(u.groups, gid):
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

// DefaultDir is where data goes that is kept between runs: the user's cache folder, and for
// root, whose own folder the server's user could not enter, the system's.
func DefaultDir() string {
	if os.Geteuid() == 0 {
		if info, err := os.Stat("/var/cache"); err == nil && info.IsDir() {
			return "/var/cache/restock"
		}
	} else if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "restock")
	}
	return filepath.Join(os.TempDir(), "restock-"+strconv.Itoa(os.Geteuid()))
}
