package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/restock-dev/restock/internal/localpg"
)

// offerTLS lets pg take connections with TLS as well. The server writes its key and
// certificate itself, so that they belong to the user that it runs as.
func offerTLS(ctx context.Context, pg *localpg.Server) error {
	identity := httptest.NewTLSServer(nil)
	identity.Close()
	pair := identity.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return err
	}
	directory, err := ask[string](ctx, pg.DSN("postgres"), "SHOW data_directory")
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"server.key": {Type: "PRIVATE KEY", Bytes: key},
		"server.crt": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
	} {
		object, err := ask[uint32](ctx, pg.DSN("postgres"), "SELECT lo_from_bytea(0, $1)", pem.EncodeToMemory(block))
		if err != nil {
			return err
		}
		path := filepath.Join(directory, name)
		if _, err = ask[int](ctx, pg.DSN("postgres"), "SELECT lo_export($1, $2)", object, path); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
	}
	return execute(ctx, pg.DSN("postgres"), "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
}

// withTLS is dsn, over TLS.
func withTLS(dsn string) string { return strings.Replace(dsn, "sslmode=disable", "sslmode=require", 1) }
