package schema

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

// MigrateStore brings the store's database to the newest schema. It runs as the
// database's owner, applies what is missing, each migration in a transaction of
// its own, and can be run again after half of it failed. Two at once wait for
// each other. It returns the names of the migrations that it applied. In any case the
// partitions for the days ahead are there after it.
func MigrateStore(ctx context.Context, dsn string) ([]string, error) {
	return migrate(ctx, dsn, "store", "customers")
}

// MigrateCustomers brings the customers' database to the newest schema, as
// MigrateStore does the store's. It is another database than the store's, in the
// same cluster or in another.
func MigrateCustomers(ctx context.Context, dsn string) ([]string, error) {
	return migrate(ctx, dsn, "customers", "store")
}

// migrate applies two sets of migrations, each with a version table of its own:
// the tables about events, which are written once for every database, and the
// database's own. It refuses the database that belongs to other.
func migrate(ctx context.Context, dsn, own, other string) ([]string, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("migrate %s: %w", own, err)
	}
	db := stdlib.OpenDB(*cfg)
	defer db.Close()
	var taken bool
	var version string
	var number int
	err = db.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL, current_setting('server_version'), current_setting('server_version_num')::int`, "public.migrations_"+other).
		Scan(&taken, &version, &number)
	if err != nil {
		return nil, fmt.Errorf("migrate %s: %w", own, err)
	}
	if err := CheckPostgres(version, number); err != nil {
		return nil, fmt.Errorf("migrate %s: %w", own, err)
	}
	// The two would share one outbox and take each other's rights on it.
	if taken {
		return nil, fmt.Errorf("migrate %s: database %q holds the schema %q: each needs a database of its own", own, cfg.Database, other)
	}
	var applied []string
	for _, set := range []string{"events", own} {
		files, err := fs.Sub(migrations, "migrations/"+set)
		if err != nil {
			return applied, fmt.Errorf("migrate %s: %w", set, err)
		}
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
		if err != nil {
			return applied, fmt.Errorf("migrate %s: %w", set, err)
		}
		provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
			goose.WithTableName("migrations_"+set), goose.WithSessionLocker(locker))
		if err != nil {
			return applied, fmt.Errorf("migrate %s: %w", set, err)
		}
		results, err := provider.Up(ctx)
		for _, r := range results {
			applied = append(applied, set+"/"+r.Source.Path)
		}
		if err != nil {
			return applied, fmt.Errorf("migrate %s: %w", set, withHint(err))
		}
	}
	if _, err := db.ExecContext(ctx, `SELECT ensure_partitions()`); err != nil {
		return applied, fmt.Errorf("migrate %s: ensure partitions: %w", own, err)
	}
	return applied, nil
}

// lockTimeout is Postgres's code for a lock that was not had in time.
const lockTimeout = "55P03"

// withHint adds the mend: that which a migration itself states, which the driver leaves
// out of the error's text, or what to do about a lock that it did not wait for.
func withHint(err error) error {
	var pg *pgconn.PgError
	switch {
	case !errors.As(err, &pg):
		return err
	case pg.Hint != "":
		return fmt.Errorf("%w. %s", err, pg.Hint)
	case pg.Code == lockTimeout:
		return fmt.Errorf("%w. A transaction that has been open for long holds the table, and waiting for it would hold up everybody: "+
			"SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start shows it. When it has ended, run restock migrate again", err)
	}
	return err
}

// PartitionInterval is how often each part calls EnsurePartitions.
const PartitionInterval = time.Hour

// EnsurePartitions makes what is missing of the partitions for the next 14 UTC
// days. Any role of Restock may call it, as often as it likes, and at once.
func EnsurePartitions(ctx context.Context, db Execer) error {
	if _, err := db.Exec(ctx, `SELECT ensure_partitions()`); err != nil {
		return fmt.Errorf("ensure partitions: %w", err)
	}
	return nil
}

// EnsureInboxDay makes the inbox's partition of a day that is past, where that was
// never there: in a database that is younger than the event. Of a day so long ago that
// it may have been removed it makes none.
func EnsureInboxDay(ctx context.Context, db Execer, day time.Time) error {
	if _, err := db.Exec(ctx, `SELECT ensure_inbox_day($1)`, day); err != nil {
		return fmt.Errorf("ensure the inbox's partition of %s: %w", day.Format(time.DateOnly), err)
	}
	return nil
}

// IsNotMigrated tells whether a table, a column or a function is not there, which the
// migrations make.
func IsNotMigrated(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "42P01" || pg.Code == "42703" || pg.Code == "42883")
}

// IsMissingPartition tells whether an insert failed because the day of its row
// has no partition. EnsurePartitions mends it where the day is near, and EnsureInboxDay
// where it is of an inbox and past.
func IsMissingPartition(err error) bool {
	var pg *pgconn.PgError
	// A violated CHECK has the same code, but names its constraint.
	return errors.As(err, &pg) && pg.Code == "23514" && pg.ConstraintName == ""
}
