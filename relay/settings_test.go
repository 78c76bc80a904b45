package relay_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/relay"
)

// TestSettingsOfItsRole: no default of a role or a database makes a difference.
func TestSettingsOfItsRole(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.exec(`CREATE SCHEMA theirs; GRANT USAGE ON SCHEMA theirs TO PUBLIC; CREATE TABLE theirs.ledger (account int); CREATE TABLE theirs.shards ()`)
	for _, setting := range []string{
		"search_path = theirs, public",
		"standard_conforming_strings = off", "client_encoding = 'LATIN1'", "datestyle = 'SQL, DMY'", "timezone = 'Asia/Seoul'", "intervalstyle = 'sql_standard'",
		"bytea_output = 'escape'", "default_transaction_isolation = 'serializable'", "wal_sender_timeout = 0", "statement_timeout = '5s'",
		"lock_timeout = '1s'", "idle_in_transaction_session_timeout = '1s'", "idle_session_timeout = '1s'", "synchronous_commit = off",
	} {
		o.exec(`ALTER DATABASE ` + o.database + ` SET ` + setting)
	}
	o.start(func(c *relay.Config) { c.DSN += "&pool_max_conns=3&default_query_exec_mode=exec" })
	for _, text := range []string{"é", "도너츠"} { // the one is in LATIN1, the other is not
		e := event("a", 1)
		e.Body = `{"data":"` + text + `"}`
		id := o.commit(e)
		require.Equal(t, id, o.received(1)["a"])
	}
	o.settled()
	o.confirmedUpToNow()
}
