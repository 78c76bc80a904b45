package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/awshttp"
	"github.com/restock-dev/restock/internal/localfactory"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

const (
	patience = 90 * time.Second
	password = "only-for-tests"
)

// process is one part of Restock, run as its users run it.
type process struct {
	t         testing.TB
	args      []string
	env       []string
	cmd       *exec.Cmd
	log       *log
	endpoints map[string]string
}

// log keeps what a process printed, to be shown when a test fails.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.buf.String()
	return text[max(0, len(text)-4000):]
}

// race is what the race detector said; a process that is killed has no exit code that tells of it.
func (l *log) race() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.buf.String()
	at := strings.Index(text, "WARNING: DATA RACE")
	if at < 0 {
		return ""
	}
	return text[at:min(at+4000, len(text))]
}

// launch starts a part and waits until it has printed its endpoint.
func launch(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, args: args, env: env, log: &log{}}
	p.start()
	t.Cleanup(func() {
		p.kill()
		assert.Empty(t, p.log.race(), "%v", args)
		if t.Failed() {
			t.Logf("%s printed:\n%s", strings.Join(args, " "), p.log.tail())
		}
	})
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(binary, p.args...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, p.cmd.Start())
	p.endpoints = map[string]string{}
	lines := bufio.NewScanner(out)
	for !p.up() && lines.Scan() {
		var name, url string
		if n, _ := fmt.Sscanf(lines.Text(), "endpoint name=%s url=%s", &name, &url); n == 2 {
			p.endpoints[name] = url
		}
	}
	require.True(p.t, p.up(), "%v ended without an endpoint: %s", p.args, p.log.tail())
	go func() { _, _ = io.Copy(p.log, out) }()
}

// up tells whether it has printed its last endpoint: a part has one, the demo ends
// with metrics.
func (p *process) up() bool {
	if p.args[0] == "demo" {
		return p.endpoints["metrics"] != ""
	}
	return len(p.endpoints) > 0
}

// watching starts restock status --watch, and returns the first line that it prints, after
// which it serves too.
func watching(t testing.TB, env []string, args ...string) string {
	t.Helper()
	cmd, said := exec.Command(binary, args...), &log{}
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), said
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &process{cmd: cmd}
	t.Cleanup(func() {
		p.kill()
		assert.Empty(t, said.race(), "%v", args)
	})
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan(), "%v ended without a line", args)
	return lines.Text()
}

// kill ends it with SIGKILL and waits for its end.
func (p *process) kill() {
	if p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// restart is kill -9 and another start, with the same command.
func (p *process) restart() {
	p.t.Helper()
	p.kill()
	p.start()
}

// stop asks it to end and returns its exit code.
func (p *process) stop() int {
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// residentKiB is the memory that a process holds now.
func (p *process) residentKiB() int {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(p.t, err)
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	var kib int
	_, err = fmt.Sscan(after, &kib)
	require.NoError(p.t, err)
	return kib
}

// stack is a whole Restock: each part a process, on one Postgres and one local
// AWS.
type stack struct {
	t       testing.TB
	ctx     context.Context
	db      *pgtest.Database
	pool    *pgxpool.Pool // of the owner
	sns     *sns.Client
	sqs     *sqs.Client
	topic   string
	awsEnv  []string
	apiURL  string
	aws     *process
	factory *process
	api     *process
	relay   *process
	consume *process
}

// The two databases, with the roles of those who work on them.
var (
	store     = template("store", schema.MigrateStore, schema.RoleAPI, schema.RoleRelay, schema.RoleConsumers, schema.RoleMaintenance)
	customers = template("customers", schema.MigrateCustomers, schema.RoleRelay, schema.RoleCustomers)
)

func template(name string, migrate func(context.Context, string) ([]string, error), roles ...string) pgtest.Template {
	return pgtest.Template{Name: name, Setup: func(ctx context.Context, dsn string) error {
		if _, err := migrate(ctx, dsn); err != nil {
			return err
		}
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		for _, role := range roles {
			if _, err := conn.Exec(ctx, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", role, password)); err != nil {
				return err
			}
		}
		return nil
	}}
}

// newDatabase is a database with its slot, and a pool of its owner.
func newDatabase(t testing.TB, tmpl pgtest.Template) (*pgtest.Database, *pgxpool.Pool) {
	t.Helper()
	db := pgtest.NewDatabase(t, tmpl)
	pool, err := pgxpool.New(t.Context(), db.DSN)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = relay.CreateSlot(t.Context(), db.DSN, schema.SlotName(db.Name), schema.Publication, relay.RefuseExisting, time.Minute)
	require.NoError(t, err)
	return db, pool
}

// newStack starts everything. factory holds the pretend factory's flags.
func newStack(t testing.TB, factory ...string) *stack {
	t.Helper()
	s := &stack{t: t, ctx: t.Context()}
	db, pool := newDatabase(t, store)
	s.db, s.pool = db, pool
	s.aws = launch(t, nil, "localaws", "--addr", "127.0.0.1:0")
	s.clients()
	s.awsEnv = []string{"AWS_ENDPOINT_URL=" + s.aws.endpoints["aws"], "AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local"}
	dsn := func(role string) string { return "RESTOCK_DATABASE_URL=" + db.RoleDSN(role, password) }
	s.factory = launch(t, nil, append([]string{"factory", "--addr", "127.0.0.1:0"}, factory...)...)
	s.api = launch(t, []string{dsn(schema.RoleAPI), "RESTOCK_CALLBACK_SECRETS=0123456789abcdef"}, "api", "--addr", "127.0.0.1:0", "--log-level", "warn")
	s.apiURL = s.api.endpoints["api"]
	// Started again, it must be where it was.
	s.api.args = []string{"api", "--addr", strings.TrimPrefix(s.apiURL, "http://"), "--log-level", "warn"}
	s.relay = launch(t, append(slices.Clone(s.awsEnv), dsn(schema.RoleRelay), "RESTOCK_TOPIC_ARN="+s.topic), "relay")
	s.consume = launch(t, append(slices.Clone(s.awsEnv), dsn(schema.RoleConsumers), "RESTOCK_FACTORY_API="+s.factory.endpoints["factory"]),
		"consume", "factory", "--lease", "2s", "--visibility", "2s", "--log-level", "warn")
	return s
}

func (s *stack) clients() {
	cfg := aws.Config{
		Region: "ap-northeast-2", BaseEndpoint: aws.String(s.aws.endpoints["aws"]), HTTPClient: awshttp.Wrap(nil, 16),
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	}
	s.sns, s.sqs = sns.NewFromConfig(cfg), sqs.NewFromConfig(cfg)
	topics, err := s.sns.ListTopics(s.ctx, &sns.ListTopicsInput{})
	require.NoError(s.t, err)
	require.Len(s.t, topics.Topics, 1)
	s.topic = *topics.Topics[0].TopicArn
}

// sell puts products on sale.
func (s *stack) sell(stock, reorder int, skus ...string) {
	s.t.Helper()
	_, err := s.pool.Exec(s.ctx, `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, max_replenishment, factory_id, manager_email)
		SELECT sku, 'Donut', $2, $2, $3, $3, 'FF-500293', 'manager@example.com' FROM unnest($1::text[]) sku`, skus, stock, reorder)
	require.NoError(s.t, err)
}

// checkout buys one and returns the status, 0 where there was no answer.
func (s *stack) checkout(client *http.Client, sku, customer string) int {
	body := fmt.Sprintf(`{"sku":%q,"quantity":1}`, sku)
	if customer != "" {
		body = fmt.Sprintf(`{"sku":%q,"quantity":1,"customerId":%q}`, sku, customer)
	}
	res, err := client.Post(s.apiURL+"/checkout", "application/json", strings.NewReader(body))
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func (s *stack) count(sql string, args ...any) int {
	s.t.Helper()
	var n int
	require.NoError(s.t, s.pool.QueryRow(s.ctx, "SELECT count(*) FROM "+sql, args...).Scan(&n))
	return n
}

func (s *stack) eventually(what string, happened func() bool) {
	s.t.Helper()
	require.Eventually(s.t, happened, patience, 10*time.Millisecond, what)
}

// productions is what the factory was asked for, of one product.
func (s *stack) productions(sku string) []localfactory.Production {
	s.t.Helper()
	res, err := http.Get(s.factory.endpoints["factory"] + "/api/manufactures")
	require.NoError(s.t, err)
	defer res.Body.Close()
	var all struct{ Productions []localfactory.Production }
	text, err := io.ReadAll(res.Body)
	require.NoError(s.t, err)
	if err := json.Unmarshal(text, &all); err != nil {
		require.NoError(s.t, json.Unmarshal(text, &all.Productions), string(text))
	}
	var of []localfactory.Production
	for _, p := range all.Productions {
		if p.Order.ProductID == sku {
			of = append(of, p)
		}
	}
	return of
}

// settled waits until every event is in the ledger and handled by who wants it.
func (s *stack) settled() {
	s.t.Helper()
	s.eventually("ledger = outbox", func() bool {
		return s.count(`outbox o LEFT JOIN ledger l ON l.day = o.day AND l.event_id = o.id WHERE l.event_id IS NULL`) == 0
	})
	s.eventually("every request is handled", func() bool {
		return s.count(`outbox o LEFT JOIN inbox i ON i.day = o.day AND i.event_id = o.id AND i.consumer = 'factory' AND i.state = 'done'
			WHERE o.type = 'replenishment.requested' AND i.event_id IS NULL`) == 0
	})
	s.eventually("every production is delivered", func() bool { return s.count(`replenishments WHERE state <> 'delivered'`) == 0 })
}

// conserved holds every unit to account.
func (s *stack) conserved() {
	s.t.Helper()
	require.Zero(s.t, s.count(`products p WHERE stock <> initial_stock
		+ coalesce((SELECT sum(delivered_quantity) FROM replenishments r WHERE r.sku = p.sku), 0)
		- coalesce((SELECT sum(quantity) FROM orders o WHERE o.sku = p.sku), 0)`), "units are lost or made")
	require.Zero(s.t, s.count(`orders o FULL JOIN (SELECT body::jsonb->'data'->>'orderId' AS id FROM outbox WHERE type = 'order.placed') e ON e.id = o.id::text
		WHERE o.id IS NULL OR e.id IS NULL`), "an order without its event, or an event without its order")
	require.Zero(s.t, s.count(`parked`))
	require.Zero(s.t, s.count(`inbox WHERE state = 'dead'`))
}

func emptyDatabase(t testing.TB) *pgtest.Database {
	return pgtest.NewDatabase(t, pgtest.Template{Name: "empty"})
}

// migratedDatabase is a store's database as the command makes it, and a connection of its owner's.
func migratedDatabase(t *testing.T) (*pgtest.Database, *pgx.Conn) {
	t.Helper()
	db := emptyDatabase(t)
	code, _, errs := restock(t, nil, "migrate", "--database-url", db.DSN)
	require.Zero(t, code, errs)
	conn, err := pgx.Connect(t.Context(), db.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return db, conn
}
