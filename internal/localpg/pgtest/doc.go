// Package pgtest gives a test a Postgres database of its own. All tests of one test
// binary share one private server, started at the first use; a database is a copy of
// a template that is set up once, so it costs tens of milliseconds, not a migration.
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
//	var store = pgtest.Template{Name: "store", Setup: func(ctx context.Context, dsn string) error {
//		return schema.MigrateStore(ctx, dsn)
//	}}
//
//	func TestCheckout(t *testing.T) {
//		t.Parallel()
//		db := pgtest.NewDatabase(t, store)
//		conn, err := pgx.Connect(t.Context(), db.DSN)
//		...
//	}
//
// A test that stops or kills the server, or needs other settings, takes a server of its
// own with [NewServer].
//
// The server is the first that localpg finds, so another version is a matter of PATH:
//
//	PATH=/usr/lib/postgresql/17/bin:$PATH go test ./...
//
// # Promises
//
// A database is seen by its test alone and is gone after it, with its sessions and its replication
// slots, whether the test has closed them or not. Names are short and unique, since slot names,
// which belong to the whole server, carry them. Roles belong to the whole server too: a
// setup must create them idempotently (setups never run at the same time).
//
// Creating a logical slot waits for the transactions open at that moment in any
// database of the server, so a test that holds one open for long delays other tests' slots.
// The helpers fail the test on any error; none of them skips it.
package pgtest
