package schema

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrRole is a role that may not do what it is connected for.
var ErrRole = errors.New("permission denied")

// Mend says what to do about a database that answers and is of no use: an old Postgres, a
// schema that is not there, a role that may not, a wrong password. It is empty where err is of
// something else, which may pass.
func Mend(err error) string {
	const role = "connect as the role that the command takes; restock doctor says what it lacks"
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, ErrOldPostgres):
		return "upgrade it"
	case IsNotMigrated(err):
		return "the database is not migrated, or is another one: restock migrate, as its owner"
	case errors.Is(err, ErrRole):
		return role
	case !errors.As(err, &pg):
		return ""
	}
	switch pg.Code {
	case "42501": // no right
		// Postgres names no attribute where it may be in any language, but the place.
		if pg.Routine == "CheckSlotPermissions" || pg.Routine == "InitPostgres" {
			return "the role may not use slots: ALTER ROLE … REPLICATION, as an administrator; on RDS: GRANT rds_replication TO …"
		}
		return role
	case "28P01", "28000": // no such user, or not with this password, or not from here
		return "user or password in the connection string are not what the database has, or its pg_hba.conf lets none in from here; " +
			"restock migrate makes the roles without a password, and \\password ROLE gives one"
	case "3D000":
		return "the connection string names a database that is not there: mend it, or CREATE DATABASE and restock migrate"
	}
	return ""
}

// WithMend is err with what to do about it, where Mend knows that, and else err as it is.
func WithMend(err error) error {
	if mend := Mend(err); mend != "" {
		return fmt.Errorf("%w: %s", err, mend)
	}
	return err
}
