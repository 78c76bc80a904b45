package relay

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// parseDSN reads the database's address, that of a pool too, with what each connection
// of a relay needs whatever the defaults of its role and its database are.
func parseDSN(dsn string) (*pgxpool.Config, error) {
	pc, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("parse the database address: %w", err)
	}
	pc.ConnConfig.RuntimeParams["datestyle"] = "ISO"
	pc.ConnConfig.RuntimeParams["timezone"] = "UTC"
	// Another ledger, of the shop that this is, must not be taken for ours.
	pc.ConnConfig.RuntimeParams["search_path"] = "public"
	// Where policies hide rows it is an error to ask for them, and not as if there were none.
	pc.ConnConfig.RuntimeParams["row_security"] = "off"
	// Functions of ours have a backslash in a text.
	pc.ConnConfig.RuntimeParams["standard_conforming_strings"] = "on"
	pc.ConnConfig.AfterConnect = asStored
	return pc, nil
}

// connectOnce is one connection for what is done once.
func connectOnce(ctx context.Context, dsn string) (*pgx.Conn, error) {
	pc, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, pc.ConnConfig)
}

// asStored has texts come as they are in the database: one that another encoding lacks a
// character for would end the stream again and again.
func asStored(ctx context.Context, conn *pgconn.PgConn) error {
	return conn.Exec(ctx, `SELECT set_config('client_encoding', current_setting('server_encoding'), false)`).Close()
}
