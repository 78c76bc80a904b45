package schema

import (
	"errors"
	"fmt"
)

// leastPostgres is the first version whose publications have columns and row filters.
// https://www.postgresql.org/docs/15/sql-createpublication.html
const leastPostgres = 15

// ErrOldPostgres is of a server that is older.
var ErrOldPostgres = errors.New("Postgres is too old")

// CheckPostgres refuses an older server by its server_version and server_version_num.
func CheckPostgres(version string, number int) error {
	if number/10000 < leastPostgres {
		return fmt.Errorf("%w: it is %s, and %d or newer is needed", ErrOldPostgres, version, leastPostgres)
	}
	return nil
}
