package schema_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/schema"
)

func pgtestDatabase(t *testing.T) *pgtest.Database {
	t.Helper()
	return pgtest.NewDatabase(t, store)
}

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func TestMigrateAgainAppliesNothing(t *testing.T) {
	t.Parallel()
	db := pgtestDatabase(t)
	applied, err := schema.MigrateStore(t.Context(), db.DSN)
	require.NoError(t, err)
	require.Empty(t, applied)
	applied, err = schema.MigrateCustomers(t.Context(), pgtest.NewDatabase(t, customers).DSN)
	require.NoError(t, err)
	require.Empty(t, applied)
}

// TestMigrateAtOnce migrates empty databases of one cluster, stores and
// customers, each twice, all at once, where none of the roles is there yet: the
// roles are shared, the tables are not.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t, localpg.Config{})
	g, ctx := errgroup.WithContext(t.Context())
	for name, migrate := range map[string]func(context.Context, string) ([]string, error){
		"store_a": schema.MigrateStore, "store_b": schema.MigrateStore,
		"customers_a": schema.MigrateCustomers, "customers_b": schema.MigrateCustomers,
	} {
		require.NoError(t, server.CreateDatabase(t.Context(), name, ""))
		for range 2 {
			g.Go(func() error {
				_, err := migrate(ctx, server.DSN(name))
				return err
			})
		}
	}
	require.NoError(t, g.Wait())
	var roles int
	require.NoError(t, connect(t, server.DSN("customers_b")).QueryRow(t.Context(), `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'restock\_%'`).Scan(&roles))
	require.Equal(t, 5, roles)
}

// TestMigrateKeepsTheDatabasesApart points the migration of each database at the
// other one.
func TestMigrateKeepsTheDatabasesApart(t *testing.T) {
	t.Parallel()
	_, err := schema.MigrateCustomers(t.Context(), pgtestDatabase(t).DSN)
	require.ErrorContains(t, err, `holds the schema "store": each needs a database of its own`)
	_, err = schema.MigrateStore(t.Context(), pgtest.NewDatabase(t, customers).DSN)
	require.ErrorContains(t, err, `holds the schema "customers": each needs a database of its own`)
}

// TestMigrateGoesOnAfterHalfFailed makes the third migration fail, mends the
// cause and migrates again.
func TestMigrateGoesOnAfterHalfFailed(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t, pgtest.Template{Name: "empty"})
	conn := connect(t, db.DSN)
	_, err := conn.Exec(t.Context(), `CREATE FUNCTION ensure_partitions(ahead integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'`)
	require.NoError(t, err)
	_, err = schema.MigrateStore(t.Context(), db.DSN)
	require.ErrorContains(t, err, "ensure_partitions")
	_, err = conn.Exec(t.Context(), `DROP FUNCTION ensure_partitions`)
	require.NoError(t, err)
	applied, err := schema.MigrateStore(t.Context(), db.DSN)
	require.NoError(t, err)
	require.Contains(t, applied, "events/00003_partitions.sql")
	require.NotContains(t, applied, "events/00002_events.sql")
}

// TestMigrateBesideALongTransaction: where the outbox is held, a migration gives up rather
// than hold up checkouts behind it, says what to do, and is applied by the next try.
func TestMigrateBesideALongTransaction(t *testing.T) {
	t.Parallel()
	db := pgtestDatabase(t)
	holder, other := connect(t, db.DSN), connect(t, db.DSN)
	_, err := other.Exec(t.Context(), `DROP TABLE shards, replay_shards; DROP TRIGGER outbox_bucket ON outbox; ALTER TABLE outbox DROP COLUMN bucket;
		DROP FUNCTION set_bucket, bucket_of; DELETE FROM migrations_events WHERE version_id >= 11`)
	require.NoError(t, err)
	tx, err := holder.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM outbox`)
	require.NoError(t, err)
	_, err = schema.MigrateStore(t.Context(), db.DSN)
	require.ErrorContains(t, err, "run restock migrate again")
	_, err = other.Exec(t.Context(), insertOutbox)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(t.Context()))
	applied, err := schema.MigrateStore(t.Context(), db.DSN)
	require.NoError(t, err)
	require.Equal(t, []string{"events/00011_cheaper_checks.sql", "events/00012_checks_hold.sql", "events/00013_shards.sql", "events/00014_bucket_given.sql", "events/00015_size_holds.sql", "events/00016_inbox_day.sql", "events/00017_safe_path.sql", "events/00018_sending_index.sql"}, applied)
	var unsure int
	require.NoError(t, other.QueryRow(t.Context(), `SELECT count(*) FROM pg_constraint WHERE contype = 'c' AND NOT convalidated`).Scan(&unsure))
	require.Zero(t, unsure)
}

// TestMigrateBesideACheckout: a migration comes between the statements of a checkout that
// has locked its product, and waits until that is through.
func TestMigrateBesideACheckout(t *testing.T) {
	t.Parallel()
	db := pgtestDatabase(t)
	buyer, other := connect(t, db.DSN), connect(t, db.DSN)
	_, err := other.Exec(t.Context(), `DROP TRIGGER products_keep_ordered ON products; DROP FUNCTION keep_ordered;
		ALTER TABLE orders ADD CONSTRAINT orders_sku_fkey FOREIGN KEY (sku) REFERENCES products;
		DO $$ BEGIN EXECUTE (SELECT 'DROP FUNCTION ' || oid::regprocedure FROM pg_proc WHERE 'p_buckets' = ANY (proargnames)); END $$;
		DROP FUNCTION checkout_alone;
		DELETE FROM migrations_store WHERE version_id >= 10`)
	require.NoError(t, err)
	tx, err := buyer.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM products WHERE sku = 'CP-502101' FOR NO KEY UPDATE`)
	require.NoError(t, err)
	var applied []string
	var g errgroup.Group
	g.Go(func() (err error) {
		applied, err = schema.MigrateStore(context.WithoutCancel(t.Context()), db.DSN)
		return err
	})
	require.Eventually(t, func() bool {
		var waits bool
		err := other.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits)
		return err == nil && waits
	}, 10*time.Second, 10*time.Millisecond)
	_, err = tx.Exec(t.Context(), `UPDATE products SET stock = stock - 1 WHERE sku = 'CP-502101';
		INSERT INTO orders (id, sku, quantity, remaining_stock) VALUES (gen_random_uuid(), 'CP-502101', 1, 9)`)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, g.Wait())
	require.Equal(t, []string{"store/00010_checkout_lighter.sql", "store/00011_checkout_alone.sql", "store/00012_safe_path.sql", "store/00013_checkout_in_place.sql"}, applied)
}

// TestMigrateKeepsTheLargest: a row that was as large as the check allowed stays when the
// check measures otherwise, and holds nothing up.
func TestMigrateKeepsTheLargest(t *testing.T) {
	t.Parallel()
	db := pgtestDatabase(t)
	conn := connect(t, db.DSN)
	const largest = `INSERT INTO outbox (id, type, message_group, attributes, body) VALUES (gen_random_uuid(), 'x', 'g',
		'{"a": {"type": "String", "value": "x"}}', repeat('x', 200 * 1024 - octet_length('{"a": {"type": "String", "value": "x"}}')))`
	_, err := conn.Exec(t.Context(), `ALTER TABLE outbox DROP CONSTRAINT outbox_bucket_check, DROP CONSTRAINT outbox_size,
			ADD CONSTRAINT outbox_size CHECK (octet_length(body) + octet_length(attributes::text) <= 200 * 1024);
		DELETE FROM migrations_events WHERE version_id >= 14;`+largest)
	require.NoError(t, err)
	applied, err := schema.MigrateStore(t.Context(), db.DSN)
	require.NoError(t, err)
	require.Equal(t, []string{"events/00014_bucket_given.sql", "events/00015_size_holds.sql", "events/00016_inbox_day.sql", "events/00017_safe_path.sql", "events/00018_sending_index.sql"}, applied)
	_, err = conn.Exec(t.Context(), largest)
	require.Equal(t, "23514", sqlState(err))
	_, err = conn.Exec(t.Context(), `SELECT ensure_partitions(20)`)
	require.NoError(t, err)
}

func TestPartitionsReachAhead(t *testing.T) {
	t.Parallel()
	for _, tmpl := range []pgtest.Template{store, customers} {
		conn := connect(t, pgtest.NewDatabase(t, tmpl).DSN)
		rows, err := conn.Query(t.Context(), `SELECT p.relname, count(*) FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
			WHERE p.relkind = 'p' GROUP BY 1`)
		require.NoError(t, err)
		counts := map[string]int{}
		for rows.Next() {
			var name string
			var n int
			require.NoError(t, rows.Scan(&name, &n))
			counts[name] = n
		}
		require.NoError(t, rows.Err())
		// Yesterday, today and 14 days.
		require.Equal(t, map[string]int{"outbox": 16, "ledger": 16, "parked": 16, "inbox": 16, "effects": 16}, counts, tmpl.Name)
	}
}

// TestPartitionsBesideAnOpenInsert makes partitions while another session has an
// uncommitted row in the table, and inserts while a partition is being made:
// neither waits for the other.
func TestPartitionsBesideAnOpenInsert(t *testing.T) {
	t.Parallel()
	db := pgtestDatabase(t)
	writer, maker := connect(t, db.DSN), connect(t, db.RoleDSN(schema.RoleAPI, password))
	for _, c := range []string{"lock_timeout", "statement_timeout"} {
		_, err := maker.Exec(t.Context(), `SET `+c+` = '20s'`)
		require.NoError(t, err)
		_, err = writer.Exec(t.Context(), `SET `+c+` = '20s'`)
		require.NoError(t, err)
	}
	insert := func() {
		e, err := schema.New(schema.NewID(), schema.StockReplenished{ReplenishmentID: schema.NewID(), SKU: "a", Quantity: 1}, "")
		require.NoError(t, err)
		require.NoError(t, schema.Append(t.Context(), writer, e))
	}
	tx, err := writer.Begin(t.Context())
	require.NoError(t, err)
	insert()
	var made int
	require.NoError(t, maker.QueryRow(t.Context(), `SELECT ensure_partitions(20)`).Scan(&made))
	require.Equal(t, 6*5, made)
	require.NoError(t, tx.Commit(t.Context()))

	making, err := maker.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, maker.QueryRow(t.Context(), `SELECT ensure_partitions(21)`).Scan(&made))
	insert()
	require.NoError(t, making.Commit(t.Context()))
	require.Equal(t, 5, made)
}

// TestMigrateEnsuresPartitions: where nothing ran for weeks, migrating again makes the
// partitions that are missing.
func TestMigrateEnsuresPartitions(t *testing.T) {
	t.Parallel()
	dsn := pgtestDatabase(t).DSN
	conn := connect(t, dsn)
	tomorrow := "ledger_" + time.Now().UTC().AddDate(0, 0, 1).Format("20060102")
	_, err := conn.Exec(t.Context(), `DROP TABLE `+tomorrow)
	require.NoError(t, err)
	applied, err := schema.MigrateStore(t.Context(), dsn)
	require.NoError(t, err)
	require.Empty(t, applied)
	var there bool
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT to_regclass($1) IS NOT NULL`, tomorrow).Scan(&there))
	require.True(t, there)
}

func TestMissingPartitionIsTold(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtestDatabase(t).DSN)
	insert := `INSERT INTO ledger (day, event_id, outcome) VALUES ($1, gen_random_uuid(), $2)`
	_, err := conn.Exec(t.Context(), insert, time.Now().AddDate(1, 0, 0), "published")
	require.True(t, schema.IsMissingPartition(err), err)
	_, err = conn.Exec(t.Context(), insert, time.Now(), "eaten")
	require.Error(t, err)
	require.False(t, schema.IsMissingPartition(err), "a CHECK is not a missing partition")
	require.NoError(t, schema.EnsurePartitions(t.Context(), conn))
}

// TestInboxDay makes an inbox's partition of a day that is past, and of no day that
// retention may have removed.
func TestInboxDay(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		tmpl pgtest.Template
		role string
	}{{store, schema.RoleConsumers}, {customers, schema.RoleCustomers}} {
		db := pgtest.NewDatabase(t, test.tmpl)
		owner, consumer := connect(t, db.DSN), connect(t, db.RoleDSN(test.role, password))
		today := time.Now().UTC()
		for _, ago := range []int{0, 1, 2, 45, 2, 46, 60, -1, -20} {
			require.NoError(t, schema.EnsureInboxDay(t.Context(), consumer, today.AddDate(0, 0, -ago)))
		}
		for ago, want := range map[int]bool{2: true, 45: true, 3: false, 46: false, 60: false, -20: false} {
			for _, table := range []string{"inbox", "effects", "outbox"} {
				var there bool
				require.NoError(t, owner.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass($1))`,
					table+"_"+today.AddDate(0, 0, -ago).Format("20060102")).Scan(&there))
				require.Equal(t, want && table != "outbox", there, "%s %d days ago", table, ago)
			}
		}
	}
}

// TestOutboxRefuses holds rows written by hand to what can be published.
func TestOutboxRefuses(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtestDatabase(t).DSN)
	insert := func(group, attributes, body string) error {
		_, err := conn.Exec(t.Context(), `INSERT INTO outbox (id, type, message_group, attributes, body) VALUES (gen_random_uuid(), 'x', $1, $2, $3)`, group, attributes, body)
		return err
	}
	require.NoError(t, insert("g", `{}`, `{}`))
	for name, err := range map[string]error{
		"group with a space":   insert("a b", `{}`, `{}`),
		"empty group":          insert("", `{}`, `{}`),
		"attributes no object": insert("g", `[]`, `{}`),
		"ten attributes":       insert("g", `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1}`, `{}`),
		"body over 200 KiB":    insert("g", `{}`, strings.Repeat("x", 200<<10)),
	} {
		require.Equal(t, "23514", sqlState(err), name)
	}
	_, err := conn.Exec(t.Context(), `INSERT INTO outbox (id, type, message_group, bucket, attributes, body) VALUES (gen_random_uuid(), 'x', 'g', 256, '{}', '{}')`)
	require.Equal(t, "23514", sqlState(err), "a bucket that no shard has")
}

// denied is Postgres's code for a right that is missing.
const denied = "42501"

const insertOutbox = `INSERT INTO outbox (id, type, message_group, attributes, body) VALUES (gen_random_uuid(), 'x', 'g', '{}', '{}')`

// right is a statement and the code that it ends with for a role.
type right struct{ role, sql, want string }

func requireRights(t *testing.T, db *pgtest.Database, rights []right) {
	t.Helper()
	for _, r := range rights {
		t.Run(r.role+": "+r.sql, func(t *testing.T) {
			conn := connect(t, db.RoleDSN(r.role, password))
			_, err := conn.Exec(t.Context(), r.sql)
			require.Equal(t, r.want, sqlState(err), err)
		})
	}
}

// TestOrderedProductStays: a product that was ordered is neither deleted nor renamed, also
// where the order commits only after the deletion was tried; any other one may be.
func TestOrderedProductStays(t *testing.T) {
	t.Parallel()
	db := pgtestDatabase(t)
	buyer, seller := connect(t, db.DSN), connect(t, db.DSN)
	_, err := seller.Exec(t.Context(), `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
		SELECT sku, 'Donut', 9, 9, 9, 'f', 'm@example.com' FROM unnest(ARRAY['ordered', 'other']) sku`)
	require.NoError(t, err)
	var outcome string
	require.NoError(t, buyer.QueryRow(t.Context(), `SELECT outcome FROM checkout(gen_random_uuid(), 'ordered', 1, NULL, '1 min', gen_random_uuid(), 'order.placed', 'g', NULL, '{}', '{}', NULL)`).Scan(&outcome))
	require.Equal(t, "bought", outcome)
	refused := func(sql string) {
		t.Helper()
		_, err := seller.Exec(t.Context(), sql)
		require.ErrorContains(t, err, `product 'ordered' was ordered`)
		require.ErrorContains(t, err, "SQLSTATE 23503")
	}
	refused(`DELETE FROM products WHERE sku = 'ordered'`)
	refused(`UPDATE products SET sku = 'renamed' WHERE sku = 'ordered'`)
	_, err = seller.Exec(t.Context(), `UPDATE products SET sku = sku, name = 'New' WHERE sku = 'ordered'; DELETE FROM products WHERE sku = 'other';
		GRANT DELETE ON products TO restock_consumers`)
	require.NoError(t, err)
	_, err = connect(t, db.RoleDSN(schema.RoleConsumers, password)).Exec(t.Context(), `DELETE FROM products WHERE sku = 'ordered'`)
	require.Equal(t, "23503", sqlState(err), "who may not see the orders is told the same")

	_, err = seller.Exec(t.Context(), `DELETE FROM orders`)
	require.NoError(t, err)
	tx, err := buyer.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM checkout_alone(gen_random_uuid(), 'ordered', 1, NULL, '1 min', gen_random_uuid(), 'order.placed', 'g', bucket_of('g'), '{}', '{"a":1}', NULL)`)
	require.NoError(t, err)
	tried := make(chan error, 1)
	go func() {
		_, err := seller.Exec(context.WithoutCancel(t.Context()), `DELETE FROM products WHERE sku = 'ordered'`)
		tried <- err
	}()
	other := connect(t, db.DSN)
	require.Eventually(t, func() bool {
		var waits bool
		err := other.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'DELETE FROM products%')`).Scan(&waits)
		return err == nil && waits
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, tx.Commit(t.Context()))
	require.ErrorContains(t, <-tried, `product 'ordered' was ordered`)
}

// TestRoles holds each role to what it may do in the store.
func TestRoles(t *testing.T) {
	t.Parallel()
	db := pgtestDatabase(t)
	requireRights(t, db, []right{
		{schema.RoleAPI, insertOutbox, ""},
		{schema.RoleAPI, `UPDATE outbox SET body = ''`, denied},
		{schema.RoleAPI, `DELETE FROM outbox`, denied},
		{schema.RoleAPI, `TRUNCATE outbox`, denied},
		{schema.RoleAPI, `UPDATE products SET initial_stock = 99`, denied},
		{schema.RoleAPI, `SELECT * FROM ledger`, denied},
		{schema.RoleAPI, `SELECT ensure_partitions()`, ""},
		{schema.RoleRelay, `SELECT * FROM outbox`, ""},
		{schema.RoleRelay, insertOutbox, denied},
		{schema.RoleRelay, `DELETE FROM outbox`, denied},
		{schema.RoleRelay, `DELETE FROM ledger`, denied},
		{schema.RoleRelay, `DELETE FROM parked`, denied},
		{schema.RoleRelay, `DELETE FROM parked_groups`, ""},
		{schema.RoleRelay, `SELECT * FROM products`, denied},
		{schema.RoleConsumers, `SELECT * FROM inbox`, ""},
		{schema.RoleConsumers, `UPDATE products SET stock = 99`, denied},
		{schema.RoleConsumers, `DELETE FROM inbox`, denied},
		{schema.RoleConsumers, `SELECT ensure_inbox_day(now()::date)`, ""},
		{schema.RoleAPI, `SELECT ensure_inbox_day(now()::date)`, denied},
		{schema.RoleRelay, `UPDATE replays SET done = 0`, ""},
		{schema.RoleRelay, `UPDATE replays SET events = 0`, denied},
		{schema.RoleRelay, `INSERT INTO replay_items VALUES (gen_random_uuid(), 1, now(), gen_random_uuid())`, denied},
		{schema.RoleConsumers, `SELECT * FROM replays`, denied},
		{schema.RoleMaintenance, `INSERT INTO replay_items VALUES (gen_random_uuid(), 1, now(), gen_random_uuid())`, ""},
		{schema.RoleMaintenance, `UPDATE replays SET state = 'cancelled', cancelled_by = 'x', ended_at = now()`, ""},
		{schema.RoleMaintenance, `UPDATE replays SET done = 0`, denied},
		{schema.RoleMaintenance, `DELETE FROM replays`, denied},
		{schema.RoleMaintenance, `SELECT count(*) FROM parked`, ""},
		{schema.RoleMaintenance, `UPDATE parked SET state = 'sending', asked_by = 'x', asked_at = now()`, ""},
		{schema.RoleMaintenance, `UPDATE parked SET reason = 'held'`, denied},
		{schema.RoleMaintenance, `UPDATE parked_groups SET state = 'sending', asked_by = 'x', asked_at = now()`, ""},
		{schema.RoleMaintenance, `DELETE FROM parked_groups`, denied},
		{schema.RoleMaintenance, `DELETE FROM outbox`, denied},
	})
	var replicates bool
	require.NoError(t, connect(t, db.DSN).QueryRow(context.Background(),
		`SELECT rolreplication FROM pg_roles WHERE rolname = $1`, schema.RoleRelay).Scan(&replicates))
	require.True(t, replicates)
}

// TestNobodyBorrowsTheOwnersRights: where everybody may create in public, as in a database
// that was made before Postgres 15, what stands there is not called with the owner's rights.
func TestNobodyBorrowsTheOwnersRights(t *testing.T) {
	t.Parallel()
	db := pgtestDatabase(t)
	owner := connect(t, db.DSN)
	_, err := owner.Exec(t.Context(), `GRANT CREATE ON SCHEMA public TO PUBLIC; GRANT SELECT, DELETE ON products TO restock_api;
		INSERT INTO orders (id, sku, quantity, remaining_stock) VALUES (gen_random_uuid(), 'CP-502101', 1, 9)`)
	require.NoError(t, err)
	// Each fits its call better than Postgres's own.
	_, err = connect(t, db.RoleDSN(schema.RoleRelay, password)).Exec(t.Context(), `
		CREATE FUNCTION borrowed() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called as %', current_user; END $$;
		CREATE FUNCTION to_char(date, text) RETURNS text LANGUAGE sql AS 'SELECT public.borrowed()';
		CREATE FUNCTION format(text, text) RETURNS text LANGUAGE sql AS 'SELECT public.borrowed()'`)
	require.NoError(t, err)
	call := func(role, sql string) error {
		_, err := connect(t, db.RoleDSN(role, password)).Exec(t.Context(), sql)
		return err
	}
	require.NoError(t, call(schema.RoleAPI, `SELECT ensure_partitions(20)`))
	require.NoError(t, call(schema.RoleConsumers, `SELECT ensure_inbox_day((now() AT TIME ZONE 'UTC')::date - 40)`))
	require.ErrorContains(t, call(schema.RoleAPI, `DELETE FROM products`), `product 'CP-502101' was ordered`)
}

// TestRolesOfCustomers holds each role to what it may do in the customers
// database: the shop's roles, which are the same cluster's, may do nothing.
func TestRolesOfCustomers(t *testing.T) {
	t.Parallel()
	promote := `INSERT INTO customers AS c (id, type, promoted_at, promoted_by_order) VALUES ('c', 'vip', now(), gen_random_uuid())
		ON CONFLICT (id) DO UPDATE SET type = 'vip', promoted_at = now() WHERE c.type = 'normal'`
	requireRights(t, pgtest.NewDatabase(t, customers), []right{
		{schema.RoleCustomers, promote, ""},
		{schema.RoleCustomers, insertOutbox, ""},
		{schema.RoleCustomers, `SELECT append_event(gen_random_uuid(), 'x', 'g', NULL, '{}', '{}', NULL)`, ""},
		{schema.RoleCustomers, `SELECT * FROM outbox`, denied},
		{schema.RoleCustomers, `UPDATE outbox SET body = ''`, denied},
		{schema.RoleCustomers, `DELETE FROM outbox`, denied},
		{schema.RoleCustomers, `SELECT name FROM customers`, denied},
		{schema.RoleCustomers, `UPDATE customers SET mail = 'm@m'`, denied},
		{schema.RoleCustomers, `UPDATE customers SET id = 'd'`, denied},
		{schema.RoleCustomers, `DELETE FROM customers`, denied},
		{schema.RoleCustomers, `SELECT * FROM inbox`, ""},
		{schema.RoleCustomers, `DELETE FROM inbox`, denied},
		{schema.RoleCustomers, `SELECT * FROM effects`, ""},
		{schema.RoleCustomers, `UPDATE effects SET detail = ''`, denied},
		{schema.RoleCustomers, `SELECT * FROM ledger`, denied},
		{schema.RoleCustomers, `SELECT ensure_partitions()`, ""},
		{schema.RoleCustomers, `SELECT ensure_inbox_day(now()::date)`, ""},
		{schema.RoleConsumers, `SELECT ensure_inbox_day(now()::date)`, denied},
		{schema.RoleRelay, `SELECT * FROM outbox`, ""},
		{schema.RoleRelay, `SELECT ensure_partitions()`, ""},
		{schema.RoleRelay, `SELECT id FROM customers`, denied},
		{schema.RoleAPI, insertOutbox, denied},
		{schema.RoleAPI, `SELECT id FROM customers`, denied},
		{schema.RoleAPI, `SELECT ensure_partitions()`, denied},
		{schema.RoleConsumers, insertOutbox, denied},
		{schema.RoleConsumers, `SELECT * FROM inbox`, denied},
		{schema.RoleConsumers, `SELECT id FROM customers`, denied},
		{schema.RoleMaintenance, `SELECT id, type FROM customers`, ""},
		{schema.RoleMaintenance, `SELECT mail FROM customers`, denied},
	})
}

// TestCustomersRefuses holds rows written by hand to what a customer can be.
func TestCustomersRefuses(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewDatabase(t, customers).DSN)
	insert := func(columns, values string) error {
		_, err := conn.Exec(t.Context(), `INSERT INTO customers (`+columns+`) VALUES (`+values+`)`)
		return err
	}
	require.NoError(t, insert("id, type", "'by hand', 'vip'"))
	require.NoError(t, insert("id", "repeat('🍩', 128)"))
	for name, err := range map[string]error{
		"an empty id":                insert("id", "''"),
		"an id of 129":               insert("id", "repeat('x', 129)"),
		"another type":               insert("id, type", "'c', 'gold'"),
		"normal and promoted":        insert("id, promoted_at, promoted_by_order", "'c', now(), gen_random_uuid()"),
		"promoted without an order":  insert("id, type, promoted_at", "'c', 'vip', now()"),
		"an order, but not promoted": insert("id, type, promoted_by_order", "'c', 'vip', gen_random_uuid()"),
	} {
		require.Equal(t, "23514", sqlState(err), name)
	}
}
