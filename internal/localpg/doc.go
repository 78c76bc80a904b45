// Package localpg runs a private Postgres for the demo and for tests: it finds the
// server binaries (or fetches them), makes a cluster in a directory of its own, starts
// it on a free port of the loopback address and stops it again.
//
//	pg, err := localpg.Start(ctx, localpg.Config{DataDir: dir, Fsync: true})
//	...
//	defer pg.Stop(ctx)
//	conn, err := pgx.Connect(ctx, pg.DSN("postgres"))
//
// Tests use package pgtest, which gives each test a database of its own.
//
// # Promises
//
//   - Private: it listens on 127.0.0.1 only, has no Unix socket, and asks every role for a
//     password by SCRAM. The owner's password is random and kept in a file that only
//     its owner reads.
//   - One at a time: the directory is locked. A second Start on it gets a [LockedError] that
//     names the process that holds it.
//   - Nothing of others is touched: a directory that is not empty and was not made
//     by this package is refused, never changed, never removed.
//   - Nothing is left over: Stop stops the server and waits for its end. Where the process that
//     started it is killed, Linux stops the server at once; elsewhere the next Start on the
//     directory finds the orphan, stops it and goes on with the data intact. A cluster
//     whose making was cut short is made anew.
//   - Root is no obstacle: Postgres refuses to run as root, so root runs it as the user
//     postgres, else nobody, and the cluster in the directory is that user's.
//
// Postgres 15 or newer is needed. Windows is not supported.
package localpg
