package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/restock-dev/restock/internal/awshttp"
	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "restock-lambda-*")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "bootstrap")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		panic(err)
	}
	code := pgtest.Main(m)
	_ = os.RemoveAll(dir)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

const (
	password = "only-for-tests"
	secret   = "0123456789abcdef"
	patience = 60 * time.Second
)

var store = pgtest.Template{Name: "store", Setup: func(ctx context.Context, dsn string) error {
	if _, err := schema.MigrateStore(ctx, dsn); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, role := range []string{schema.RoleAPI, schema.RoleConsumers} {
		if _, err := conn.Exec(ctx, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", role, password)); err != nil {
			return err
		}
	}
	return nil
}}

// runtime stands in for the Lambda runtime API: it hands one invocation at a time
// to the function and takes its answer.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
type runtime struct {
	t       *testing.T
	server  *httptest.Server
	todo    chan invocation
	answers chan outcome
	closing chan struct{}
}

type invocation struct {
	id       string
	payload  []byte
	deadline time.Time
}

// outcome is a response, or the error that the function reported.
type outcome struct {
	id     string
	failed bool
	body   []byte
}

func newRuntime(t *testing.T) *runtime {
	r := &runtime{t: t, todo: make(chan invocation), answers: make(chan outcome), closing: make(chan struct{})}
	const base = "/2018-06-01/runtime/invocation/"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+base+"next", func(w http.ResponseWriter, req *http.Request) {
		select {
		case i := <-r.todo:
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", i.id)
			w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(i.deadline.UnixMilli()))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:ap-northeast-2:000000000000:function:restock")
			_, _ = w.Write(i.payload)
		case <-r.closing:
		case <-req.Context().Done():
		}
	})
	take := func(failed bool) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			body, _ := io.ReadAll(req.Body)
			w.WriteHeader(http.StatusAccepted)
			select {
			case r.answers <- outcome{id: req.PathValue("id"), failed: failed, body: body}:
			case <-r.closing:
			}
		}
	}
	mux.HandleFunc("POST "+base+"{id}/response", take(false))
	mux.HandleFunc("POST "+base+"{id}/error", take(true))
	r.server = httptest.NewServer(mux)
	return r
}

// invoke has the function handle a payload.
func (r *runtime) invoke(payload any, limit time.Duration) outcome {
	r.t.Helper()
	text, err := json.Marshal(payload)
	require.NoError(r.t, err)
	i := invocation{id: uuid.NewString(), payload: text, deadline: time.Now().Add(limit)}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case r.todo <- i:
	case <-timeout.C:
		require.Fail(r.t, "the function does not ask for work")
	}
	select {
	case o := <-r.answers:
		require.Equal(r.t, i.id, o.id)
		return o
	case <-timeout.C:
		require.Fail(r.t, "the function does not answer")
	}
	return outcome{}
}

// lockedBuffer is what a function logged.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// world is a database, an AWS and a factory, and one function on them.
type world struct {
	*testing.T
	*runtime
	db     *pgtest.Database
	owner  *pgxpool.Pool
	aws    *localaws.Server
	queues *sqs.Client
	queue  topology.Queue
	log    *lockedBuffer

	mu     sync.Mutex
	status map[string]int // the factory's, by SKU, where it is not 200
	asked  []string       // SKUs in the order asked for
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	w := &world{T: t, db: pgtest.NewDatabase(t, store), log: &lockedBuffer{}, status: map[string]int{}}
	pool, err := pgxpool.New(context.Background(), w.db.DSN)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	w.owner = pool
	w.aws, err = localaws.Start(localaws.Config{})
	require.NoError(t, err)
	client := awshttp.Wrap(nil, 8)
	cfg := w.aws.AWSConfig()
	cfg.HTTPClient = client
	t.Cleanup(func() {
		client.CloseIdleConnections()
		require.NoError(t, w.aws.Close())
	})
	w.queues = sqs.NewFromConfig(cfg)
	made, err := topology.Create(t.Context(), sns.NewFromConfig(cfg), w.queues, schema.Interests(schema.DefaultVIPThreshold))
	require.NoError(t, err)
	w.queue = made.Queues[schema.ConsumerFactory]
	return w
}

// start starts the function.
func (w *world) start(env ...string) {
	w.Helper()
	w.runtime = newRuntime(w.T)
	factory := httptest.NewServer(http.HandlerFunc(w.manufacture))
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), append([]string{
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(w.server.URL, "http://"),
		"AWS_ENDPOINT_URL=" + w.aws.URL(), "AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
		"RESTOCK_FACTORY_API=" + factory.URL,
	}, env...)...)
	cmd.Stdout, cmd.Stderr = w.log, w.log
	require.NoError(w, cmd.Start())
	w.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		close(w.closing)
		w.server.Close()
		factory.Close()
		if w.Failed() {
			w.Logf("the function logged:\n%s", w.log)
		}
	})
}

func (w *world) manufacture(res http.ResponseWriter, req *http.Request) {
	var order struct {
		SKU string `json:"MessageAttributeProductId"`
	}
	_ = json.NewDecoder(req.Body).Decode(&order)
	w.mu.Lock()
	w.asked = append(w.asked, order.SKU)
	status := w.status[order.SKU]
	w.mu.Unlock()
	if status == 0 {
		status = http.StatusOK
	}
	res.WriteHeader(status)
	fmt.Fprintf(res, `{"data":{"data":{},"id":%q,"reqestor":"r"}}`, uuid.NewString())
}

// request opens a replenishment and puts its event into the queue, in a group.
func (w *world) request(group, sku string) uuid.UUID {
	w.Helper()
	p := schema.ReplenishmentRequested{
		ReplenishmentID: uuid.New(), SKU: sku, ProductName: "Donut", Quantity: 10, FactoryID: "FF-500293",
		Requester: "manager@example.com", CallbackURL: "http://127.0.0.1:1/x",
	}
	e, err := schema.New(schema.NewID(), p, "")
	require.NoError(w, err)
	require.NoError(w, schema.Append(w.Context(), w.owner, e))
	require.NoError(w, w.owner.QueryRow(w.Context(), `SELECT body FROM outbox WHERE id = $1`, e.ID).Scan(&e.Body))
	_, err = w.owner.Exec(w.Context(), `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
		VALUES ($1, 'Donut', 0, 0, 10, 'FF-500293', 'manager@example.com')`, sku)
	require.NoError(w, err)
	_, err = w.owner.Exec(w.Context(), `INSERT INTO replenishments (id, sku, quantity, event_id) VALUES ($1, $2, 10, $3)`, p.ReplenishmentID, sku, e.ID)
	require.NoError(w, err)
	w.send(group, e.Body)
	return e.ID
}

func (w *world) send(group, body string) {
	w.Helper()
	_, err := w.queues.SendMessage(w.Context(), &sqs.SendMessageInput{
		QueueUrl: &w.queue.URL, MessageBody: &body, MessageGroupId: &group, MessageDeduplicationId: aws.String(uuid.NewString()),
		MessageAttributes: map[string]sqstypes.MessageAttributeValue{
			"color": {DataType: aws.String("String"), StringValue: aws.String("blue")},
			"blob":  {DataType: aws.String("Binary"), BinaryValue: []byte{0, 255}},
		},
	})
	require.NoError(w, err)
}

// batch receives as an event source does, and returns the event that it invokes
// the function with, with each record's body by its id.
func (w *world) batch() (event map[string]any, received []sqstypes.Message) {
	w.Helper()
	out, err := w.queues.ReceiveMessage(w.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: &w.queue.URL, MaxNumberOfMessages: 10, VisibilityTimeout: 600,
		MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"},
	})
	require.NoError(w, err)
	var records []map[string]any
	for _, m := range out.Messages {
		attributes := map[string]any{}
		for name, a := range m.MessageAttributes {
			v := map[string]any{"dataType": *a.DataType, "stringListValues": []string{}, "binaryListValues": []string{}}
			if a.StringValue != nil {
				v["stringValue"] = *a.StringValue
			} else {
				v["binaryValue"] = a.BinaryValue
			}
			attributes[name] = v
		}
		records = append(records, map[string]any{
			"messageId": *m.MessageId, "receiptHandle": *m.ReceiptHandle, "body": *m.Body, "attributes": m.Attributes, "messageAttributes": attributes,
			"eventSource": "aws:sqs", "eventSourceARN": w.queue.ARN, "awsRegion": "ap-northeast-2",
		})
	}
	return map[string]any{"Records": records}, out.Messages
}

// settle deletes what the function did not report, as an event source does.
func (w *world) settle(received []sqstypes.Message, o outcome) (failed []string) {
	w.Helper()
	require.False(w, o.failed, string(o.body))
	var response struct {
		BatchItemFailures *[]struct{ ItemIdentifier string }
	}
	require.NoError(w, json.Unmarshal(o.body, &response))
	require.NotNil(w, response.BatchItemFailures, "a batch without failures says so")
	for _, f := range *response.BatchItemFailures {
		failed = append(failed, f.ItemIdentifier)
	}
	for _, m := range received {
		if !strings.Contains(strings.Join(failed, " "), *m.MessageId) {
			_, err := w.queues.DeleteMessage(w.Context(), &sqs.DeleteMessageInput{QueueUrl: &w.queue.URL, ReceiptHandle: m.ReceiptHandle})
			require.NoError(w, err)
		}
	}
	return failed
}

// state is the state of an event's inbox row, empty without one.
func (w *world) state(event uuid.UUID) string {
	w.Helper()
	var state string
	err := w.owner.QueryRow(w.Context(), `SELECT state FROM inbox WHERE event_id = $1`, event).Scan(&state)
	if err != nil {
		require.ErrorIs(w, err, pgx.ErrNoRows)
	}
	return state
}

func (w *world) answer(sku string, status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status[sku] = status
}

func (w *world) deadLetters() []sqstypes.Message {
	w.Helper()
	out, err := w.queues.ReceiveMessage(w.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: &w.queue.DLQURL, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"},
		MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"},
	})
	require.NoError(w, err)
	return out.Messages
}
