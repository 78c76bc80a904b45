package schema_test

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/schema"
)

// Products from before the ads tell their manager, in Korean; so does a new one
// that names nobody.
func TestAdManagerOfEveryProduct(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t, pgtest.Template{Name: "empty"})
	const insert = `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email) VALUES ($1, 'Donut', 0, 0, 10, 'F', $2)`
	migrateTo(t, db.DSN, "events", goose.MaxVersion)
	migrateTo(t, db.DSN, "store", 2)
	conn := connect(t, db.DSN)
	_, err := conn.Exec(t.Context(), insert, "old", "old@example.com")
	require.NoError(t, err)
	applied, err := schema.MigrateStore(t.Context(), db.DSN)
	require.NoError(t, err)
	require.Contains(t, applied, "store/00003_ads.sql")
	_, err = conn.Exec(t.Context(), insert, "new", "new@example.com")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email, ad_manager_email, language)
		VALUES ('own', 'Donut', 0, 0, 10, 'F', 'm@example.com', 'own@example.com', 'en')`)
	require.NoError(t, err)
	rows, err := conn.Query(t.Context(), `SELECT sku || ' ' || ad_manager_email || ' ' || language FROM products ORDER BY sku`)
	require.NoError(t, err)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"new new@example.com ko", "old old@example.com ko", "own own@example.com en"}, got)
	for _, change := range []string{`ad_manager_email = NULL`, `ad_manager_email = ''`, `language = NULL`, `language = 'de'`} {
		_, err := conn.Exec(t.Context(), `UPDATE products SET `+change)
		require.Contains(t, []string{"23502", "23514"}, sqlState(err), change)
	}
}

// migrateTo applies the migrations of one set up to a version.
func migrateTo(t *testing.T, dsn, set string, version int64) {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	db := stdlib.OpenDB(*cfg)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS("migrations/"+set), goose.WithTableName("migrations_"+set))
	require.NoError(t, err)
	_, err = provider.UpTo(t.Context(), version)
	require.NoError(t, err)
}

// What each role may do with the ads' rows.
func TestAdsRoles(t *testing.T) {
	t.Parallel()
	db := pgtestDatabase(t)
	const denied = "42501"
	const id = `'01932b6e-7c00-7000-8000-000000000001'`
	_, err := connect(t, db.DSN).Exec(t.Context(), `INSERT INTO replenishments (id, sku, quantity, event_id) VALUES (`+id+`, 'CP-502101', 1, gen_random_uuid())`)
	require.NoError(t, err)
	for _, c := range []struct{ role, sql, want string }{
		{schema.RoleConsumers, `INSERT INTO ads_mails (replenishment_id, sku, stop, stop_sequence) VALUES (` + id + `, 'CP-502101', 'sending', 1)`, ""},
		{schema.RoleConsumers, `UPDATE ads_mails SET stop = 'sent', stopped_at = now(), resume = 'unneeded'`, ""},
		{schema.RoleConsumers, `UPDATE ads_mails SET stop = 'sent', stopped_at = NULL`, "23514"},
		{schema.RoleConsumers, `UPDATE ads_mails SET stop = 'eaten'`, "23514"},
		{schema.RoleConsumers, `UPDATE ads_mails SET sku = 'x'`, denied},
		{schema.RoleConsumers, `DELETE FROM ads_mails`, denied},
		{schema.RoleConsumers, `UPDATE products SET ad_manager_email = 'x@y'`, denied},
		{schema.RoleMaintenance, `SELECT * FROM ads_mails`, ""},
		{schema.RoleMaintenance, `DELETE FROM ads_mails`, denied},
		{schema.RoleAPI, `SELECT * FROM ads_mails`, denied},
		{schema.RoleRelay, `SELECT * FROM ads_mails`, denied},
	} {
		_, err := connect(t, db.RoleDSN(c.role, password)).Exec(t.Context(), c.sql)
		require.Equal(t, c.want, sqlState(err), "%s: %s: %v", c.role, c.sql, err)
	}
}
