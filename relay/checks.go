package relay

import (
	"context"
	"fmt"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"
)

// check refuses a server that the relay would stall or be of no use on.
func check(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	var level, standbys string
	err := conn.QueryRow(ctx, `SELECT current_setting('wal_level'), current_setting('synchronous_standby_names')`).Scan(&level, &standbys)
	switch {
	case err != nil:
		return fmt.Errorf("read the server's settings: %w", err)
	case level != "logical":
		return refusal("wal_level is %s: set wal_level = logical and restart Postgres", level)
	}
	return checkStandbyNames(standbys, cfg.Slot)
}

// checkStandbyNames refuses when commits would wait for this relay, and so for
// SNS. A walsender is a synchronous standby if the list names its application.
// https://www.postgresql.org/docs/15/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES
func checkStandbyNames(names, application string) error {
	listed := strings.FieldsFunc(names, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`,()"`, r) })
	for _, name := range listed {
		if name == "*" || strings.EqualFold(name, application) {
			return refusal("synchronous_standby_names = '%s' names the relay (%s), so every commit would wait for SNS: "+
				"name only real standbys there and reload Postgres", names, application)
		}
	}
	return nil
}
