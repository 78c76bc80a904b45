package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/restock-dev/restock/internal/awshttp"
	"github.com/restock-dev/restock/internal/console"
	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

const (
	password = "only-for-tests"
	patience = 30 * time.Second
	secret   = "a-token-that-nobody-guesses"
)

var (
	store     = template("store", schema.MigrateStore)
	customers = template("customers", schema.MigrateCustomers)
)

func template(name string, migrate func(context.Context, string) ([]string, error)) pgtest.Template {
	return pgtest.Template{Name: name, Setup: func(ctx context.Context, dsn string) error {
		if _, err := migrate(ctx, dsn); err != nil {
			return err
		}
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", schema.RoleMaintenance, password))
		return err
	}}
}

// world is two databases, the queues, and a console of them; no relay is at work.
type world struct {
	*testing.T
	store, customers *pgxpool.Pool // of the owners
	queues           *sqs.Client
	topology         topology.Topology
	cfg              console.Config
	client           *http.Client
	url              string
	readTimeout      time.Duration // of the server
	log              *bytes.Buffer // of the console; to be read once it has stopped
	stop             func()        // stops the console and waits for it
}

func setup(t *testing.T, change ...func(*console.Config)) *world {
	t.Helper()
	t.Parallel()
	return newWorld(t, change...)
}

func newWorld(t *testing.T, change ...func(*console.Config)) *world {
	t.Helper()
	w := &world{T: t, log: &bytes.Buffer{}, readTimeout: service.DefaultReadTimeout}
	one, other := pgtest.NewDatabase(t, store), pgtest.NewDatabase(t, customers)
	w.store, w.customers = w.connect(one.DSN), w.connect(other.DSN)
	server, err := localaws.Start(localaws.Config{})
	require.NoError(t, err)
	wire := awshttp.Wrap(nil, 16)
	cfg := server.AWSConfig()
	cfg.HTTPClient = wire
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	t.Cleanup(func() {
		wire.CloseIdleConnections()
		require.NoError(t, server.Close())
	})
	w.queues = sqs.NewFromConfig(cfg)
	w.topology, err = topology.Create(t.Context(), sns.NewFromConfig(cfg), w.queues, schema.Interests(schema.DefaultVIPThreshold))
	require.NoError(t, err)
	p := ops.Pipeline{
		Store: w.connect(one.RoleDSN(schema.RoleMaintenance, password)), Customers: w.connect(other.RoleDSN(schema.RoleMaintenance, password)),
		SQS: w.queues, VIPThreshold: schema.DefaultVIPThreshold,
		Find: func(_ context.Context, consumer string) (ops.Queues, error) {
			q := w.topology.Queues[consumer]
			return ops.Queues{URL: q.URL, DLQURL: q.DLQURL, SubscriptionDLQURL: q.SubscriptionDLQURL}, nil
		},
	}
	guard, err := console.NewGuard("127.0.0.1:0", []console.Token{{Name: "kim", Secret: secret}})
	require.NoError(t, err)
	w.cfg = console.Config{
		Guard: guard, Pipeline: p, Status: p.Status(ops.StatusConfig{Sample: time.Millisecond}), Interval: 50 * time.Millisecond, Logger: zerolog.New(zerolog.SyncWriter(w.log)),
		DLQ: ops.DLQConfig{Wait: -1},
	}
	for _, c := range change {
		c(&w.cfg)
	}
	w.serve()
	return w
}

func (w *world) serve() {
	w.Helper()
	ln, err := service.Listen("127.0.0.1:0")
	require.NoError(w, err)
	w.url = "http://" + ln.Addr().String()
	transport := &http.Transport{}
	w.client = &http.Client{Transport: transport}
	c := console.New(w.cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	// Hasty, so that whatever must outlive the server's time is seen to.
	go func() {
		ended <- service.Run(ctx, c.Run, service.HTTP(ln, c.Handler(), service.WithTimeouts(w.readTimeout, 300*time.Millisecond)))
	}()
	stopped := false
	w.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(w, <-ended)
		}
		transport.CloseIdleConnections()
	}
	w.Cleanup(w.stop)
}

func (w *world) connect(dsn string) *pgxpool.Pool {
	w.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(w, err)
	cfg.MaxConns = 6
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(w, err)
	w.Cleanup(pool.Close)
	return pool
}

func (w *world) exec(db *pgxpool.Pool, sql string, args ...any) {
	w.Helper()
	_, err := db.Exec(w.Context(), sql, args...)
	require.NoError(w, err)
}

// call asks the API as kim and returns the status and the body.
func (w *world) call(method, path string, body any) (int, string) {
	w.Helper()
	var text []byte
	if body != nil {
		var err error
		text, err = json.Marshal(body)
		require.NoError(w, err)
	}
	req, err := http.NewRequestWithContext(w.Context(), method, w.url+path, bytes.NewReader(text))
	require.NoError(w, err)
	req.Header.Set("Authorization", "Bearer "+secret)
	if method != http.MethodGet {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := w.client.Do(req)
	require.NoError(w, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	require.NoError(w, err)
	if res.StatusCode >= 400 {
		require.Equal(w, "application/problem+json", res.Header.Get("Content-Type"))
	}
	return res.StatusCode, string(answer)
}

// get and post return what the API answers, which must be well.
func get[T any](w *world, path string) (v T) {
	w.Helper()
	status, body := w.call("GET", path, nil)
	require.Equal(w, http.StatusOK, status, body)
	require.NoError(w, json.Unmarshal([]byte(body), &v), body)
	return v
}

func post[T any](w *world, path string, body any) (v T) {
	w.Helper()
	status, text := w.call("POST", path, body)
	require.Equal(w, http.StatusOK, status, text)
	require.NoError(w, json.Unmarshal([]byte(text), &v), text)
	return v
}

// refuses holds the API to an answer that says why not.
func (w *world) refuses(status int, why, method, path string, body any) {
	w.Helper()
	got, text := w.call(method, path, body)
	require.Equal(w, status, got, "%s %s: %s", method, path, text)
	var p struct {
		Status int
		Detail string
	}
	require.NoError(w, json.Unmarshal([]byte(text), &p), text)
	require.Equal(w, status, p.Status)
	require.Contains(w, p.Detail, why)
}

type object = map[string]any

// commit adds an event to the store's outbox, and to its ledger where it is published.
func (w *world) commit(payload schema.Payload, outcome string) schema.Event {
	w.Helper()
	e, err := schema.New(schema.NewID(), payload, "")
	require.NoError(w, err)
	require.NoError(w, schema.Append(w.Context(), w.store, e))
	require.NoError(w, w.store.QueryRow(w.Context(), `SELECT day, seq FROM outbox WHERE id = $1`, e.ID).Scan(&e.Day, &e.Seq))
	if outcome != "" {
		w.exec(w.store, `INSERT INTO ledger (day, event_id, outcome, message_id) VALUES ($1, $2, $3, 'm')`, e.Day, e.ID, outcome)
	}
	return e
}

func request(sku string) schema.ReplenishmentRequested {
	return schema.ReplenishmentRequested{
		ReplenishmentID: uuid.New(), SKU: sku, ProductName: "Donut", Quantity: 10, FactoryID: "F", Requester: "m@example.com", CallbackURL: "http://127.0.0.1:1/?sig=secret",
	}
}

// park adds an event that was parked by itself.
func (w *world) park(sku string) schema.Event {
	w.Helper()
	e := w.commit(request(sku), "parked")
	w.exec(w.store, `INSERT INTO parked (day, event_id, message_group, seq, reason, detail) VALUES ($1, $2, $3, $4, 'rejected', 'InvalidParameter: <b>no</b>')`,
		e.Day, e.ID, e.Group, e.Seq)
	return e
}

// kill adds an event that the factory's consumer gave up, as its worker leaves it.
func (w *world) kill(sku string) schema.Event {
	w.Helper()
	e := w.commit(request(sku), "published")
	w.exec(w.store, `INSERT INTO inbox (day, consumer, event_id, state, attempt, last_error) VALUES ($1, 'factory', $2, 'dead', 3, 'the factory answered 400 <script>')`, e.Day, e.ID)
	body, err := schema.WithSequence(e.Body, e.Seq)
	require.NoError(w, err)
	_, err = w.queues.SendMessage(w.Context(), &sqs.SendMessageInput{
		QueueUrl: aws.String(w.topology.Queues[schema.ConsumerFactory].DLQURL), MessageBody: &body, MessageGroupId: &e.Group,
		MessageDeduplicationId: aws.String(schema.DeadLetterID(e.ID, schema.QueueName(schema.ConsumerFactory), uuid.Nil, "")),
	})
	require.NoError(w, err)
	return e
}

func (w *world) count(sql string, args ...any) (n int) {
	w.Helper()
	require.NoError(w, w.store.QueryRow(w.Context(), "SELECT count(*) FROM "+sql, args...).Scan(&n))
	return n
}

// frames reads server-sent events: what is sent before each empty line.
func (w *world) frames(body io.Reader, n int) []string {
	w.Helper()
	var all []string
	var text strings.Builder
	for one := make([]byte, 1); len(all) < n; {
		_, err := body.Read(one)
		require.NoError(w, err)
		text.Write(one)
		if strings.HasSuffix(text.String(), "\n\n") {
			all = append(all, text.String())
			text.Reset()
		}
	}
	return all
}
