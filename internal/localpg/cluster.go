package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ensureCluster makes the cluster unless there is one, and returns the owner's password.
func ensureCluster(ctx context.Context, cfg Config, f files, bin binaries, user *serverUser) (password string, err error) {
	leftovers, _ := filepath.Glob(f.unfinished()) // the pattern is sound
	for _, dir := range leftovers {
		cfg.Logger.Warn().Str("dir", dir).Msg("removing a Postgres cluster whose making was cut short")
		if err := os.RemoveAll(dir); err != nil {
			return "", fmt.Errorf("remove an unfinished cluster: %w", err)
		}
	}

	_, err = os.Stat(f.cluster())
	switch {
	case err == nil:
		text, err := os.ReadFile(f.password())
		if err != nil {
			return "", fmt.Errorf("read the password of the cluster: %w", err)
		}
		return strings.TrimSpace(string(text)), nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("look at the cluster: %w", err)
	}

	password = rand.Text()
	if err := replaceFile(f.password(), password+"\n", 0o600); err != nil {
		return "", err
	}
	if err := replaceFile(f.pgpass(), "127.0.0.1:*:*:"+Owner+":"+password+"\n", 0o600); err != nil {
		return "", err
	}
	if err := makeCluster(ctx, cfg, f, bin, user, password); err != nil {
		return "", fmt.Errorf("make the cluster: %w", err)
	}
	return password, nil
}

// makeCluster runs initdb in a folder aside and moves the result into place, so that
// a cluster is there whole or not at all.
func makeCluster(ctx context.Context, cfg Config, f files, bin binaries, user *serverUser, password string) error {
	aside, err := os.MkdirTemp(f.dir, filepath.Base(f.unfinished()))
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(aside) }()
	pwfile := filepath.Join(aside, "password")
	if err := os.WriteFile(pwfile, []byte(password), 0o600); err != nil {
		return err
	}
	if err := errors.Join(user.give(pwfile), user.give(aside)); err != nil {
		return err
	}

	made := filepath.Join(aside, "cluster")
	args := []string{
		"--pgdata=" + made, "--username=" + Owner, "--pwfile=" + pwfile, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--no-instructions",
	}
	if !cfg.Fsync {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin.dir, "initdb"), args...) //nolint:gosec // the folder is the user's choice
	cmd.Dir = aside
	cmd.Env = childEnv()
	cmd.SysProcAttr = childAttr(user, syscall.SIGKILL)
	out, err := output(cmd)
	switch {
	case err != nil && ctx.Err() != nil: // it was killed for that, and what it printed explains nothing
		return fmt.Errorf("run initdb: %w", ctx.Err())
	case err != nil:
		return fmt.Errorf("run initdb: %w:\n%s", err, strings.TrimSpace(out))
	}

	conf, err := os.OpenFile(filepath.Join(made, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(conf, "\ninclude = '../%s'\n", filepath.Base(f.settings()))
	if err := errors.Join(err, conf.Close()); err != nil {
		return err
	}
	return os.Rename(made, f.cluster())
}

// writeSettings writes what this package decides. They are in a file, not on the command
// line, so that ALTER SYSTEM can still override them.
func writeSettings(cfg Config, f files, port int) error {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": "",
		"max_connections":         "300",
		"wal_level":               "logical",
		"max_replication_slots":   "64",
		"max_wal_senders":         "64",
		"wal_sender_timeout":      "60s",
		"jit":                     "off",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"lc_messages":             "C", // we read the log
		"log_destination":         "stderr",
		"logging_collector":       "off",
		"log_line_prefix":         "%m [%p] %q%u@%d ",
		"log_checkpoints":         "off",
		"cluster_name":            "restock",
	}
	if !cfg.Fsync {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	maps.Copy(settings, cfg.Settings)

	var text strings.Builder
	text.WriteString("# Written at every start; use ALTER SYSTEM to override.\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	return replaceFile(f.settings(), text.String(), 0o644) // no secrets in it, and the server's user reads it
}
