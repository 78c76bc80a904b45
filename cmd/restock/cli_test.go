package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
)

// restock runs the program to its end and returns its exit code and what it
// printed.
func restock(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(cmd.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the exit code says it
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// anywhere are the demo's flags for ports that nobody else has.
func anywhere(dir string, more ...string) []string {
	return append([]string{"demo", "--data-dir", dir, "--api-addr", "127.0.0.1:0", "--aws-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"}, more...)
}

func TestDemoOnce(t *testing.T) {
	t.Parallel()
	// What the environment says of real services is not believed.
	env := []string{"AWS_ENDPOINT_URL=http://192.0.2.1", "AWS_REGION=nowhere", "PGHOST=192.0.2.1", "PGSERVICE=none", "PGSSLMODE=verify-full"}
	dir := filepath.Join(t.TempDir(), "data")
	for range 2 { // on an empty data directory, and on one that was used
		code, out, errs := restock(t, env, anywhere(dir, "--once")...)
		require.Zero(t, code, errs)
		lines := strings.Split(out, "\n")
		failed, bought := -1, -1
		for i, line := range lines {
			if strings.Contains(line, "409 구매 실패! 남은 재고: 0") {
				failed = i
			}
			if strings.Contains(line, "200 구매 완료! 남은 재고: 0") {
				bought = i
			}
		}
		require.Positive(t, failed, out)
		require.Greater(t, bought, failed, out)
		for _, want := range []string{"endpoint name=api url=http://127.0.0.1:", "endpoint name=aws url=", "endpoint name=factory url=", "endpoint name=metrics url=", "endpoint name=postgres-customers url=",
			"MessageGroupId=stock-arrival-group", "customer-1 is VIP by order", "customer.promoted of customer-1", "everything happened once"} {
			require.Contains(t, out, want)
		}
		require.NotContains(t, out+errs, "sig=ey")
	}
}

func TestDemoStaysUpUntilItIsStopped(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	demo := launch(t, nil, anywhere(dir)...)
	code, _, errs := restock(t, nil, anywhere(dir)...)
	require.Equal(t, 2, code)
	require.Regexp(t, `^restock: .* in use by process \d+\n$`, errs)

	demo.kill() // the next one cleans up and works
	demo.start()
	require.NoError(t, demo.cmd.Process.Signal(syscall.SIGINT))
	_ = demo.cmd.Wait()
	require.Zero(t, demo.cmd.ProcessState.ExitCode(), demo.log.tail())
}

// TestDemoEndsWithItsPostgres: a demo whose server was killed says so and ends, and the
// next one has the shop.
func TestDemoEndsWithItsPostgres(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	demo := launch(t, nil, anywhere(dir)...)
	conn, err := pgx.Connect(t.Context(), demo.endpoints["postgres"])
	require.NoError(t, err)
	var postmaster int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int`).Scan(&postmaster))
	require.NoError(t, conn.Close(t.Context()))
	require.NoError(t, syscall.Kill(postmaster, syscall.SIGKILL))
	_ = demo.cmd.Wait()
	require.Equal(t, 1, demo.cmd.ProcessState.ExitCode())
	require.Contains(t, demo.log.tail(), "restock: the local Postgres has ended")

	demo.args = anywhere(dir, "--keep")
	demo.start()
	require.Zero(t, demo.stop(), demo.log.tail())
}

// TestCannotBegin: one clear line, and exit code 2.
func TestCannotBegin(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	addr := taken.Addr().String()
	dir := t.TempDir()
	db := []string{"--database-url", "postgres://nobody@127.0.0.1:1/store"}
	aws := []string{"AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "AWS_ENDPOINT_URL=http://127.0.0.1:1"}
	arn := []string{"--topic-arn", "arn:aws:sns:eu-west-1:0:x.fifo"}
	cases := map[string]struct {
		args []string
		want string
	}{
		"no command":                   {nil, "expected one of"},
		"unknown command":              {[]string{"fly"}, "unexpected argument fly"},
		"unknown flag":                 {[]string{"demo", "--fly"}, "unknown flag --fly"},
		"flag of no number":            {append([]string{"relay", "--in-flight", "many"}, append(db, arn...)...), "in-flight"},
		"demo, story of an old shop":   {anywhere(dir, "--once", "--keep"), "--keep and --once can't be used together"},
		"api port taken":               {[]string{"demo", "--data-dir", dir, "--api-addr", addr, "--aws-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"}, addr},
		"aws port taken":               {[]string{"demo", "--data-dir", dir, "--api-addr", "127.0.0.1:0", "--aws-addr", addr, "--admin-addr", "127.0.0.1:0"}, addr},
		"localaws taken":               {[]string{"localaws", "--addr", addr}, addr},
		"factory, odd":                 {[]string{"factory", "--error-rate", "7"}, "shares from 0 to 1"},
		"factory taken":                {[]string{"factory", "--addr", addr}, addr},
		"no Postgres":                  {anywhere(dir, "--pg-bindir", dir), "no Postgres server found"},
		"api, no secret":               {append([]string{"api"}, db...), "RESTOCK_CALLBACK_SECRETS"},
		"api, no public URL":           {append([]string{"api", "--callback-secrets", "0123456789abcdef", "--addr", "0.0.0.0:0"}, db...), "RESTOCK_PUBLIC_URL"},
		"api, no public URL, IPv6":     {append([]string{"api", "--callback-secrets", "0123456789abcdef", "--addr", "[::]:0"}, db...), "RESTOCK_PUBLIC_URL"},
		"api, no public URL, no host":  {append([]string{"api", "--callback-secrets", "0123456789abcdef", "--addr", ":0"}, db...), "RESTOCK_PUBLIC_URL"},
		"api, no database":             {append([]string{"api", "--callback-secrets", "0123456789abcdef"}, db...), "the database cannot be reached"},
		"api, empty URL":               {[]string{"api", "--callback-secrets", "0123456789abcdef", "--database-url", ""}, "set --database-url or RESTOCK_DATABASE_URL"},
		"shards, empty URL":            {[]string{"shards", "1", "--database-url", ""}, "set --database-url or RESTOCK_DATABASE_URL"},
		"replenishments, empty URL":    {[]string{"replenishments", "list", "--database-url", ""}, "set --database-url or RESTOCK_DATABASE_URL"},
		"reconcile, JSON of metrics":   {append([]string{"reconcile", "--every", "1m", "--json"}, db...), "--every and --json can't be used together"},
		"relay, no ARN":                {append([]string{"relay"}, db...), "topic-arn"},
		"relay, no topic":              {append([]string{"relay", "--topic-arn", "x"}, db...), "not the ARN of a FIFO topic"},
		"relay, no db":                 {append(append([]string{"relay"}, db...), arn...), "the database cannot be reached"},
		"consume, whom":                {append([]string{"consume", "nobody"}, db...), "nobody"},
		"consume, no API":              {append([]string{"consume", "factory"}, db...), "--factory-api"},
		"consume, no sender":           {append([]string{"consume"}, db...), "consumer ads: set --ads-from"},
		"consume, no store":            {[]string{"consume", "factory", "--factory-api", "http://127.0.0.1:1"}, "consumer factory: set --database-url or RESTOCK_DATABASE_URL"},
		"consume, no customers":        {append([]string{"consume", "vip"}, db...), "consumer vip: set --customers-database-url or RESTOCK_CUSTOMERS_DATABASE_URL"},
		"consume, customers not there": {[]string{"consume", "vip", "--customers-database-url", "postgres://nobody@127.0.0.1:1/customers"}, "the customers database cannot be reached"},
		"consume, threshold of none":   {append([]string{"consume", "vip", "--vip-threshold", "0"}, db...), "--vip-threshold"},
		"localaws, threshold below":    {[]string{"localaws", "--addr", "127.0.0.1:0", "--vip-threshold=-5"}, "--vip-threshold"},
		"migrate, nothing":             {[]string{"migrate"}, "no database: set --database-url (the store), --customers-database-url, or both"},
		"migrate, no store":            {append([]string{"migrate"}, db...), "the store database cannot be reached"},
		"migrate, no customers":        {[]string{"migrate", "--customers-database-url", "postgres://nobody@127.0.0.1:1/customers"}, "the customers database cannot be reached"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, _, errs := restock(t, aws, append(c.args, "--log-level", "error")...)
			require.Equal(t, 2, code, errs)
			require.Contains(t, errs, c.want)
			require.Regexp(t, `^restock: [^\n]+\n$`, errs, "one line")
		})
	}
}

// TestNotFit: a database without the tables or the rights is one that a command cannot
// begin on, with the mend, and not the answer that it gives where there is no such thing.
func TestNotFit(t *testing.T) {
	t.Parallel()
	empty := emptyDatabase(t).DSN
	db, _ := migratedDatabase(t)
	for name, c := range map[string]struct{ dsn, want string }{
		"not migrated": {empty, "restock migrate"},
		"no right":     {db.DSN + "&options=-c%20role%3Drestock_api", "connect as the role"},
	} {
		for _, command := range []string{"trace --alone 01a221df-56fe-7379-942e-e4c8bd05bd1f", "replay list", "replay show 01a221df-56fe-7379-942e-e4c8bd05bd1f",
			"parked list", "parked send --all", "shards 1"} {
			t.Run(name+", "+command, func(t *testing.T) {
				t.Parallel()
				code, _, errs := restock(t, nil, append(strings.Fields(command), "--database-url", c.dsn)...)
				require.Equal(t, 2, code, errs)
				require.Contains(t, errs, c.want)
				require.Regexp(t, `^restock: [^\n]+\n$`, errs, "one line")
			})
		}
	}
}

// TestWrongLogin: who the database does not let in is told by what to mend.
func TestWrongLogin(t *testing.T) {
	t.Parallel()
	db, _ := migratedDatabase(t)
	gone, err := url.Parse(db.DSN)
	require.NoError(t, err)
	gone.Path = "/gone"
	for name, c := range map[string]struct{ dsn, want string }{
		"password": {db.RoleDSN(schema.RoleMaintenance, "wrong"), `\password ROLE`},
		"database": {gone.String(), "CREATE DATABASE"},
	} {
		for _, command := range []string{"relay --topic-arn arn:aws:sns:eu-west-1:1:t.fifo", "api --addr 127.0.0.1:0 --callback-secrets 0123456789abcdef", "parked list", "migrate"} {
			t.Run(name+", "+command, func(t *testing.T) {
				t.Parallel()
				code, _, errs := restock(t, []string{"AWS_REGION=eu-west-1"}, append(strings.Fields(command), "--database-url", c.dsn)...)
				require.Equal(t, 2, code, errs)
				require.Contains(t, errs, c.want)
			})
		}
	}
}

// TestWrongRole: a part that is connected as another part's role does not pass for one that
// serves.
func TestWrongRole(t *testing.T) {
	t.Parallel()
	db, _ := newDatabase(t, store)
	api := launch(t, []string{"RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleRelay, password), "RESTOCK_CALLBACK_SECRETS=0123456789abcdef"}, "api", "--addr", "127.0.0.1:0")
	res, err := http.Get(api.endpoints["api"] + "/readyz")
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Contains(t, string(body), "restock_relay may not sell: connect as the role")
}

// TestStoppedIsNotDone: a command that is told to stop before its end did not do what it
// was asked to, and whoever waits for its end must not take it for done.
func TestStoppedIsNotDone(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"migrate": {"migrate"}, "replay": {"replay", "--unpublished"}, "parked": {"parked", "list"}, "status": {"status"}, "maintain": {"maintain", "--alone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, conn := migratedDatabase(t)
			_, err := conn.Exec(t.Context(), `BEGIN; LOCK TABLE migrations_events, outbox, parked, shards IN ACCESS EXCLUSIVE MODE`)
			require.NoError(t, err)

			cmd := exec.Command(binary, append(args, "--database-url", db.DSN)...)
			cmd.Env = append(os.Environ(), "AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "AWS_ENDPOINT_URL=http://127.0.0.1:1")
			var said bytes.Buffer
			cmd.Stderr = &said
			require.NoError(t, cmd.Start())
			require.Eventually(t, func() bool {
				var waits bool // for a table: whoever makes a slot waits for every transaction of the server
				return conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation' AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))`).Scan(&waits) == nil && waits
			}, patience, 5*time.Millisecond, "it waits")
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			_ = cmd.Wait()
			require.Equal(t, 1, cmd.ProcessState.ExitCode(), said.String())
			require.Contains(t, said.String(), "stopped before its end")
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, command := range []string{
		"", "demo", "api", "relay", "consume", "migrate", "localaws", "factory", "marketing", "dlq", "dlq list", "parked", "parked send",
		"replay", "status", "reconcile", "doctor", "trace", "replenishments", "replenishments retry", "drill", "healthcheck", "version", "admin",
	} {
		code, out, errs := restock(t, nil, strings.Fields(command+" -h")...)
		require.Zero(t, code, errs)
		require.Contains(t, out, "Usage: restock")
	}
}

// TestHelpOfOneCommand: a command's help, and what is said of a wrong flag or word, are the same
// where the others were left out, which they are for each that can be named.
func TestHelpOfOneCommand(t *testing.T) {
	t.Parallel()
	answers := func(of ...string) (*kong.Kong, func(args ...string) string) {
		var out bytes.Buffer
		parser, err := newParser(&cli{}, of, &out, &out, func(int) {})
		require.NoError(t, err)
		return parser, func(args ...string) string {
			out.Reset()
			_, err := parser.Parse(args) // goes on behind the exit that is none
			return fmt.Sprint(out.String(), err)
		}
	}
	whole, ofWhole := answers()
	for _, command := range whole.Model.Children {
		one, ofOne := answers(command.Name)
		require.Len(t, one.Model.Children, 1, command.Name)
		require.Contains(t, ofOne(command.Name, "-h"), "Usage: restock "+command.Name)
		words := [][]string{{"-h"}, {"--nonsense"}, {"nonsense"}}
		for _, part := range command.Children {
			words = append(words, []string{part.Name, "-h"}, []string{part.Name, "--nonsense"})
		}
		for _, more := range words {
			args := append([]string{command.Name}, more...)
			require.Equal(t, ofWhole(args...), ofOne(args...))
		}
	}
	require.Empty(t, others(nil))
	require.Empty(t, others([]string{"--log-level", "debug", "version"}))
	require.Empty(t, others([]string{"fly"}))
}

// TestNamed: what a name stands for is taken as it is, whatever it means to kong.
func TestNamed(t *testing.T) {
	t.Parallel()
	var c struct {
		Dir string `default:"${dir}-drill"`
	}
	parser, err := kong.New(&c, named(map[string]string{"dir": "/srv/a$$b/${dir}/$"}))
	require.NoError(t, err)
	_, err = parser.Parse(nil)
	require.NoError(t, err)
	require.Equal(t, "/srv/a$$b/${dir}/$-drill", c.Dir)
}

// TestMigrateFromNothing: owners' databases, migrated, are ones that every part
// works on; migrated again, one or both, nothing is done.
func TestMigrateFromNothing(t *testing.T) {
	t.Parallel()
	store, customers := emptyDatabase(t), emptyDatabase(t)
	both := []string{"migrate", "--database-url", store.DSN, "--customers-database-url", customers.DSN}
	code, out, errs := restock(t, nil, append(both, "--json")...)
	require.Zero(t, code, errs)
	type database struct {
		Applied     []string
		Slot        string
		SlotCreated bool
	}
	var got struct{ Store, Customers database }
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Contains(t, got.Store.Applied, "store/00002_checkout.sql")
	require.Contains(t, got.Customers.Applied, "customers/00002_customers.sql")
	for _, applied := range [][]string{got.Store.Applied, got.Customers.Applied} {
		require.Contains(t, applied, "events/00005_publication.sql")
	}
	require.NotContains(t, strings.Join(got.Customers.Applied, " "), "store/")
	require.Equal(t, []string{"restock_" + store.Name, "restock_" + customers.Name}, []string{got.Store.Slot, got.Customers.Slot})
	require.True(t, got.Store.SlotCreated && got.Customers.SlotCreated)

	ofStore, ofCustomers := "store: slot restock_"+store.Name+" is there\n", "customers: slot restock_"+customers.Name+" is there\n"
	for want, args := range map[string][]string{
		ofStore + ofCustomers: both,
		ofStore:               {"migrate", "--database-url", store.DSN},
		ofCustomers:           {"migrate", "--customers-database-url", customers.DSN},
	} {
		code, out, errs = restock(t, nil, args...)
		require.Zero(t, code, errs)
		require.Equal(t, want, out)
	}
	code, out, errs = restock(t, nil, "migrate", "--customers-database-url", customers.DSN, "--json")
	require.Zero(t, code, errs)
	require.JSONEq(t, `{"customers":{"applied":[],"slot":"restock_`+customers.Name+`","slotCreated":false}}`, out)
	code, _, errs = restock(t, nil, "migrate", "--customers-database-url", store.DSN)
	require.Equal(t, 2, code)
	require.Contains(t, errs, "it holds the tables of store")
}

// TestMigrateToLookAt: what would be done is told, the SQL does it, and then nothing is
// left to do.
func TestMigrateToLookAt(t *testing.T) {
	t.Parallel()
	db := emptyDatabase(t)
	url, slot := []string{"--database-url", db.DSN}, "restock_"+db.Name
	code, out, errs := restock(t, nil, append([]string{"migrate", "--plan"}, url...)...)
	require.Zero(t, code, errs)
	require.Contains(t, out, "store: would apply events/00001_roles.sql\n")
	require.Contains(t, out, "store: would create slot "+slot+"\n")
	code, text, errs := restock(t, nil, append([]string{"migrate", "--sql"}, url...)...)
	require.Zero(t, code, errs)
	conn, err := pgx.Connect(t.Context(), db.DSN)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	tables, slotSQL, _ := strings.Cut(text, "-- Waits for") // psql sends each statement by itself
	for _, sql := range []string{tables, "-- Waits for" + slotSQL} {
		_, err = conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	code, out, errs = restock(t, nil, append([]string{"migrate", "--plan"}, url...)...)
	require.Zero(t, code, errs)
	require.Equal(t, "store: nothing to do\n", out)
	code, out, errs = restock(t, nil, append([]string{"migrate", "--plan", "--json"}, url...)...)
	require.Zero(t, code, errs)
	require.JSONEq(t, `{"store":{"pending":[],"slot":"`+slot+`","createSlot":false}}`, out)
	code, out, errs = restock(t, nil, append([]string{"migrate"}, url...)...)
	require.Zero(t, code, errs)
	require.Equal(t, "store: slot "+slot+" is there\n", out)

	code, out, errs = restock(t, nil, "migrate", "--sql")
	require.Zero(t, code, errs)
	require.Contains(t, out, "'restock_customers', 'pgoutput'")
	code, _, _ = restock(t, nil, "migrate", "--sql", "--plan")
	require.Equal(t, 2, code)
	code, _, _ = restock(t, nil, "migrate", "--plan")
	require.Equal(t, 2, code)
}

// TestMigrateByHand: what is committed between the tables and the slot of the SQL is
// published too, also where the slot is as old as another one that lags.
func TestMigrateByHand(t *testing.T) {
	t.Parallel()
	db := emptyDatabase(t)
	s := &stack{t: t, ctx: t.Context()}
	var err error
	s.pool, err = pgxpool.New(s.ctx, db.DSN)
	require.NoError(t, err)
	t.Cleanup(s.pool.Close)
	exec := func(sql string) {
		t.Helper()
		_, err := s.pool.Exec(s.ctx, sql)
		require.NoError(t, err)
	}
	exec(`SELECT pg_create_logical_replication_slot('lags_' || current_database(), 'pgoutput')`)
	code, text, errs := restock(t, nil, "migrate", "--sql", "--database-url", db.DSN)
	require.Zero(t, code, errs)
	tables, slot, _ := strings.Cut(text, "-- Waits for")
	exec(tables)
	exec(`SELECT append_event(gen_random_uuid(), 'x', 'g', NULL, '{}', '{}', NULL)`)
	exec("-- Waits for" + slot)
	exec(`ALTER ROLE restock_relay PASSWORD '` + password + `'`)

	s.aws = launch(t, nil, "localaws", "--addr", "127.0.0.1:0")
	s.clients()
	(&pair{stack: s}).relay(t, db.RoleDSN(schema.RoleRelay, password))
	s.eventually("it is published", func() bool { return s.count(`ledger WHERE outcome = 'published'`) == 1 })
	s.eventually("swept", func() bool { return s.count(`watermarks WHERE sweep IS NULL`) == 1 })
}

// TestMigrateRefusesAGap: where slot and ledger are lost, somebody must say what
// becomes of the events that are there.
func TestMigrateRefusesAGap(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]int{"--accept-gap": 1, "--publish-existing": 0} {
		db, conn := migratedDatabase(t)
		_, err := conn.Exec(t.Context(), `SELECT pg_drop_replication_slot('restock_`+db.Name+`'), append_event(gen_random_uuid(), 'x', 'g', NULL, '{}', '{}', NULL)`)
		require.NoError(t, err)

		code, _, errs := restock(t, nil, "migrate", "--database-url", db.DSN)
		require.Equal(t, 1, code)
		require.Contains(t, errs, "1 events committed since")
		code, _, errs = restock(t, nil, "migrate", "--sql", "--database-url", db.DSN)
		require.Equal(t, 1, code)
		require.Contains(t, errs, "1 events committed since")
		code, _, errs = restock(t, nil, "migrate", "--sql", "--database-url", db.DSN, flag)
		require.Equal(t, want, code, errs)
		code, out, errs := restock(t, nil, "migrate", "--database-url", db.DSN, flag)
		require.Zero(t, code, errs)
		require.Equal(t, "store: slot restock_"+db.Name+" created\n", out)
		var skipped int
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM ledger JOIN parked USING (day, event_id) WHERE outcome = 'parked' AND state = 'skipped'`).Scan(&skipped))
		require.Equal(t, want, skipped)
	}
	code, _, errs := restock(t, nil, "migrate", "--accept-gap", "--publish-existing")
	require.Equal(t, 2, code)
	require.Contains(t, errs, "can't be used together")
}

// TestMigrateRepairsThePublication: one that is missing is made anew.
func TestMigrateRepairsThePublication(t *testing.T) {
	t.Parallel()
	db, conn := migratedDatabase(t)
	_, err := conn.Exec(t.Context(), `DROP PUBLICATION restock_outbox`)
	require.NoError(t, err)
	code, out, errs := restock(t, nil, "migrate", "--database-url", db.DSN)
	require.Zero(t, code, errs)
	require.Equal(t, "store: publication restock_outbox made anew\nstore: slot restock_"+db.Name+" is there\n", out)
}
