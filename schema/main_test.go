package schema_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	_ "github.com/restock-dev/restock/internal/pinned" // property tests
	"github.com/restock-dev/restock/schema"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const password = "only-for-tests"

var store = pgtest.Template{Name: "store", Setup: func(ctx context.Context, dsn string) error {
	if _, err := schema.MigrateStore(ctx, dsn); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, role := range []string{schema.RoleAPI, schema.RoleRelay, schema.RoleConsumers, schema.RoleMaintenance} {
		if _, err := conn.Exec(ctx, "ALTER ROLE "+role+" PASSWORD '"+password+"'"); err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
		VALUES ('CP-502101', 'Donut', 10, 10, 10, 'FF-500293', 'manager@example.com')`)
	return err
}}

var customers = pgtest.Template{Name: "customers", Setup: func(ctx context.Context, dsn string) error {
	if _, err := schema.MigrateCustomers(ctx, dsn); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, role := range []string{schema.RoleAPI, schema.RoleRelay, schema.RoleConsumers, schema.RoleCustomers, schema.RoleMaintenance} {
		if _, err := conn.Exec(ctx, "ALTER ROLE "+role+" PASSWORD '"+password+"'"); err != nil {
			return err
		}
	}
	return nil
}}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	return conn
}
