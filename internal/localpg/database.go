package localpg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// objectInUse is Postgres's code for a template that somebody is connected to and for
// a slot that a client still reads.
const objectInUse = "55006"

// inUsePatience is how long such a state may last.
const inUsePatience = 10 * time.Second

// CreateDatabase creates a database as a copy of template, or an empty one if that is "".
func (s *Server) CreateDatabase(ctx context.Context, name, template string) error {
	if template == "" {
		template = "template1"
	}
	conn, err := s.connect(ctx, "")
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	defer func() { _ = conn.Close(ctx) }()
	err = whileInUse(ctx, func() error {
		_, err := conn.Exec(ctx, "CREATE DATABASE "+quote(name)+" TEMPLATE "+quote(template))
		return err
	})
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// DropDatabase drops a database whoever uses it: it ends the sessions, drops the
// logical replication slots, which belong to one database though their names are the
// cluster's, and then the database. One that is not there is no error.
func (s *Server) DropDatabase(ctx context.Context, name string) error {
	conn, err := s.connect(ctx, "")
	if err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	defer func() { _ = conn.Close(ctx) }()
	err = whileInUse(ctx, func() error {
		for _, sql := range []string{
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
			"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1",
		} {
			if _, err := conn.Exec(ctx, sql, name); err != nil {
				return err
			}
		}
		_, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)")
		return err
	})
	if err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// whileInUse repeats op as long as Postgres says that others use what it works on.
func whileInUse(ctx context.Context, op func() error) error {
	var err error
	waited := poll(ctx, inUsePatience, func() bool {
		err = op()
		var pg *pgconn.PgError
		return !errors.As(err, &pg) || pg.Code != objectInUse
	})
	if waited != nil {
		return errors.Join(waited, err)
	}
	return err
}
