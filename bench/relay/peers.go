package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/schema"
)

// drainPolling is an outbox without logical replication, and without publishing: a hundred
// rows at a time, taken with SKIP LOCKED and marked.
func drainPolling(ctx context.Context, b *backlog, _ string) error {
	conn, err := pgx.Connect(ctx, b.pg.DSN(b.database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for left := b.rows; left > 0; {
		rows, err := conn.Query(ctx, `UPDATE polled SET published = true WHERE seq IN (
			SELECT seq FROM polled WHERE NOT published ORDER BY seq LIMIT 100 FOR UPDATE SKIP LOCKED) RETURNING id, message_group, attributes, body`)
		if err != nil {
			return err
		}
		got := 0
		for rows.Next() {
			got++
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if got == 0 {
			return errors.New("rows are missing")
		}
		left -= got
	}
	return nil
}

// preparePolling copies the backlog into a table to poll.
func preparePolling(ctx context.Context, b *backlog) error {
	return execute(ctx, b.pg.DSN(b.database), "DROP TABLE IF EXISTS polled",
		"CREATE TABLE polled (seq bigint PRIMARY KEY, id uuid, message_group text, attributes jsonb, body text, published boolean DEFAULT false)",
		"INSERT INTO polled SELECT seq, id, message_group, attributes, body FROM outbox ORDER BY seq DESC LIMIT "+strconv.Itoa(b.rows),
		"CREATE INDEX ON polled (seq) WHERE NOT published", "ANALYZE polled")
}

// drainNode is npm's pg-logical-replication.
func drainNode(ctx context.Context, b *backlog, slot string) error {
	return output(exec.CommandContext(ctx, "node", filepath.Join(peerDir(b, "node"), "drain.mjs"), //nolint:gosec // arguments of our own
		b.pg.DSN(b.database), slot, schema.Publication, strconv.Itoa(b.rows)))
}

// prepareNode installs it.
func prepareNode(ctx context.Context, b *backlog) error {
	dir := peerDir(b, "node")
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err == nil {
		return nil
	}
	if err := os.CopyFS(dir, os.DirFS("bench/relay/peers/node")); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund")
	cmd.Dir = dir
	return output(cmd)
}

// watermillShare is the share of the rows that watermill-sql reads: it would be at all
// of them for minutes.
const watermillShare = 20

// drainWatermill is watermill-sql, which keeps a table of its own.
func drainWatermill(ctx context.Context, b *backlog, slot string) error {
	return output(exec.CommandContext(ctx, filepath.Join(peerDir(b, "watermill"), "watermill"), //nolint:gosec // arguments of our own
		b.pg.DSN(b.database), slot, strconv.Itoa(b.rows/watermillShare)))
}

// prepareWatermill builds it and fills its table.
func prepareWatermill(ctx context.Context, b *backlog) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(peerDir(b, "watermill"), "watermill"), ".") //nolint:gosec // arguments of our own
	cmd.Dir = "bench/relay/peers/watermill"
	if err := output(cmd); err != nil {
		return err
	}
	return execute(ctx, b.pg.DSN(b.database), `DROP TABLE IF EXISTS watermill_drain_watermill_sql, watermill_offsets_drain_watermill_sql`,
		`CREATE TABLE watermill_drain_watermill_sql ("offset" bigserial, uuid varchar(36) NOT NULL, created_at timestamp NOT NULL DEFAULT now(),
			payload json, metadata json, transaction_id xid8 NOT NULL, PRIMARY KEY (transaction_id, "offset"))`,
		fmt.Sprintf(`INSERT INTO watermill_drain_watermill_sql (uuid, payload, metadata, transaction_id)
			SELECT id, body::json, '{}', pg_current_xact_id() FROM outbox LIMIT %d`, b.rows/watermillShare))
}

// peerDir is where a peer is installed.
func peerDir(b *backlog, name string) string {
	return filepath.Join(filepath.Dir(b.pg.DataDir()), "peers", name)
}

func output(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
