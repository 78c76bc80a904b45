package main

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/schema"
)

// TestConsumersLeaveReadOnlyServer: consumers whose connection leads to a server that only
// reads, as a name does that is looked up too early after a failover, write as soon as a new
// one leads elsewhere.
func TestConsumersLeaveReadOnlyServer(t *testing.T) {
	t.Parallel()
	db, owner := newDatabase(t, store)
	setting := func(act string) {
		_, err := owner.Exec(t.Context(), `ALTER ROLE restock_consumers IN DATABASE "`+db.Name+`" `+act)
		require.NoError(t, err)
	}
	setting(`SET default_transaction_read_only = on`)
	p := &pools{metrics: prometheus.NewRegistry()}
	pool, err := p.once(t.Context(), "store", db.RoleDSN(schema.RoleConsumers, password), "", "")()
	require.NoError(t, err)
	defer pool.Close()
	write := func() error {
		_, err := pool.Exec(t.Context(), `UPDATE inbox SET attempt = attempt WHERE false`)
		return err
	}
	require.Error(t, write())
	setting(`RESET default_transaction_read_only`)
	require.NoError(t, write())
}

// TestPasswordApart: whatever a password holds, it comes out as it went in, and nothing
// else changes.
func TestPasswordApart(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://restock_api@db.example:5433/store?sslmode=require", "postgresql://restock_api:old@db.example:5433/store?sslmode=require",
		"postgres://restock_api@db.example:5433/store?password=old&sslmode=require",
		"host=db.example port=5433 user=restock_api dbname=store sslmode=require",
	} {
		for _, password := range []string{"plain", `p@ss:/?#[]%20&=+ '"\`, "비밀"} {
			got, err := withPassword(dsn, password)
			require.NoError(t, err)
			cfg, err := pgx.ParseConfig(got)
			require.NoError(t, err, got)
			require.Equal(t, []any{password, "restock_api", "db.example", uint16(5433), "store"}, []any{cfg.Password, cfg.User, cfg.Host, cfg.Port, cfg.Database}, dsn)
		}
		got, err := withPassword(dsn, "")
		require.NoError(t, err)
		require.Equal(t, dsn, got)
	}
	for _, dsn := range []string{"host=db.example sslmode=any", "host=db.example pool_max_conns=many", "host='db.example"} {
		_, err := withPassword(dsn, `it's a secret`)
		require.ErrorContains(t, err, "db.example")
		require.NotContains(t, err.Error(), "secret")
	}
	for _, dsn := range []string{"postgres://db.example/store", "postgres://%zz@db.example/store"} {
		_, err := withPassword(dsn, "secret")
		require.ErrorContains(t, err, "names its user")
		require.NotContains(t, err.Error(), "secret")
	}
}

// TestPasswordsByVariable: a part's own and the two of a command that needs both, and every
// command that is given a database takes its password apart.
func TestPasswordsByVariable(t *testing.T) {
	for name, value := range map[string]string{
		"RESTOCK_DATABASE_URL": "postgres://a@h/store", "RESTOCK_DATABASE_PASSWORD": "1",
		"RESTOCK_CUSTOMERS_DATABASE_URL": "postgres://b@h/customers", "RESTOCK_CUSTOMERS_DATABASE_PASSWORD": "2",
	} {
		t.Setenv(name, value)
	}
	var c cli
	parser, err := newParser(&c, nil, nil, nil, func(int) {})
	require.NoError(t, err)
	_, err = parser.Parse([]string{"maintain"})
	require.NoError(t, err)
	require.Equal(t, "postgres://a:1@h/store", c.Maintain.DatabaseURL)
	require.Equal(t, "postgres://b:2@h/customers", c.Maintain.CustomersDatabaseURL)
	_, err = parser.Parse([]string{"api"})
	require.NoError(t, err)
	require.Equal(t, "postgres://a:1@h/store", c.API.DatabaseURL)
	for _, command := range parser.Model.Leaves(false) {
		flags := map[string]bool{}
		for _, f := range command.Flags {
			flags[f.Name] = true
		}
		for name := range flags {
			if of, is := strings.CutSuffix(name, "database-url"); is {
				require.True(t, flags[of+"database-password"], "%s --%s", command.FullPath(), name)
			}
		}
	}
	for command, url := range map[string]*string{
		"dlq": &c.DLQ.List.CustomersDatabaseURL, "parked": &c.Parked.List.CustomersDatabaseURL, "replay": &c.Replay.List.CustomersDatabaseURL,
	} {
		_, err = parser.Parse([]string{command, "list"})
		require.NoError(t, err)
		require.Equal(t, "postgres://b:2@h/customers", *url)
	}
	_, err = parser.Parse([]string{"replenishments", "list"})
	require.NoError(t, err)
	require.Equal(t, "postgres://a:1@h/store", c.Replenishments.List.DatabaseURL)
	_, err = parser.Parse([]string{"load"})
	require.NoError(t, err)
	require.Equal(t, "postgres://a:1@h/store", c.Load.AuditURL)
}

// TestDatabasesSwapped: whoever is given one database for the other does not begin.
func TestDatabasesSwapped(t *testing.T) {
	t.Parallel()
	one, other := pgtest.NewDatabase(t, store), pgtest.NewDatabase(t, customers)
	env := []string{"RESTOCK_DATABASE_URL=" + other.DSN, "RESTOCK_CUSTOMERS_DATABASE_URL=" + one.DSN, "AWS_ENDPOINT_URL=http://127.0.0.1:1",
		"AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local", "RESTOCK_CALLBACK_SECRETS=0123456789abcdef"}
	for _, args := range [][]string{
		{"api", "--addr", "127.0.0.1:0"}, {"consume", "vip", "--http-addr", "127.0.0.1:0"}, {"consume", "factory", "--factory-api", "http://127.0.0.1:1", "--http-addr", "127.0.0.1:0"},
		{"migrate"}, {"migrate", "--plan"}, {"maintain", "--dry-run"}, {"reconcile"}, {"replenishments", "list"}, {"parked", "list"}, {"replay", "list"},
	} {
		code, _, errs := command(t, env, args...)
		require.Equal(t, 2, code, "%v: %s", args, errs)
		require.Contains(t, errs, "it holds the tables of", args)
	}
}
