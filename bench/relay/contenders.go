package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/schema"
)

var pluginArgs = []string{"proto_version '1'", "publication_names '" + schema.Publication + "'"}

// drainRecvlogical is Postgres's own client, writing to nowhere.
func drainRecvlogical(sslmode string) func(ctx context.Context, b *backlog, slot string) error {
	return func(ctx context.Context, b *backlog, slot string) error {
		server, err := filepath.EvalSymlinks(filepath.Join(b.pg.Bindir(), "postgres"))
		if err != nil {
			return err
		}
		cmd := exec.CommandContext( //nolint:gosec // the server's own client, with arguments of our own
			ctx, filepath.Join(filepath.Dir(server), recvlogical),
			"--host", "127.0.0.1", "--port", strconv.Itoa(b.pg.Port()), "--username", localpg.Owner, "--dbname", b.database, "--slot", slot, "--start", "--no-loop", "--endpos", b.end, "--file", "/dev/null",
			"--option", "proto_version=1", "--option", "publication_names="+schema.Publication)
		cmd.Env = []string{"PGPASSFILE=" + b.pg.Passfile(), "PGSSLMODE=" + sslmode}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
}

// drainNowhere has the server decode everything and send nothing: no reader can be faster.
func drainNowhere(ctx context.Context, b *backlog, slot string) error {
	_, err := ask[int](ctx, b.pg.DSN(b.database), `SELECT count(*) FROM pg_logical_slot_peek_binary_changes($1, $2, NULL,
		'proto_version', '1', 'publication_names', $3)`, slot, b.end, schema.Publication)
	return err
}

// drainPlainLoop is the loop of pglogrepl's own example.
func drainPlainLoop(ctx context.Context, b *backlog, slot string) error {
	cfg, err := pgconn.ParseConfig(b.pg.DSN(b.database))
	if err != nil {
		return err
	}
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := pglogrepl.StartReplication(ctx, conn, slot, 0, pglogrepl.StartReplicationOptions{PluginArgs: pluginArgs}); err != nil {
		return err
	}
	relations := map[uint32]*pglogrepl.RelationMessage{}
	for rows, statusAt := 0, time.Now().Add(10*time.Second); rows < b.rows; {
		if time.Now().After(statusAt) {
			if err := pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{}); err != nil {
				return err
			}
			statusAt = time.Now().Add(10 * time.Second)
		}
		until, cancel := context.WithDeadline(ctx, statusAt)
		message, err := conn.ReceiveMessage(until)
		cancel()
		if err != nil {
			if pgconn.Timeout(err) {
				continue
			}
			return err
		}
		data, ok := message.(*pgproto3.CopyData)
		if !ok {
			return fmt.Errorf("unexpected %T", message)
		}
		if data.Data[0] != pglogrepl.XLogDataByteID {
			continue
		}
		x, err := pglogrepl.ParseXLogData(data.Data[1:])
		if err != nil {
			return err
		}
		parsed, err := pglogrepl.Parse(x.WALData)
		if err != nil {
			return err
		}
		switch m := parsed.(type) {
		case *pglogrepl.RelationMessage:
			relations[m.RelationID] = m
		case *pglogrepl.InsertMessage:
			if relations[m.RelationID] == nil {
				return errors.New("a row of an unknown table")
			}
			rows++
		}
	}
	return nil
}
