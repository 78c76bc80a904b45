package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/awshttp"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

// command runs restock to its end.
func command(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// One dead event, from its listing to its redrive and its purge, as an operator
// sees it.
func TestDLQCommand(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t, store)
	pool, err := pgxpool.New(t.Context(), db.DSN)
	require.NoError(t, err)
	defer pool.Close()
	server := launch(t, nil, "localaws", "--addr", "127.0.0.1:0", "--log-level", "warn")
	client := sqs.NewFromConfig(aws.Config{
		Region: "ap-northeast-2", BaseEndpoint: aws.String(server.endpoints["aws"]), HTTPClient: awshttp.Wrap(nil, 4),
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
	env := []string{
		"AWS_ENDPOINT_URL=" + server.endpoints["aws"], "AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
		"RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleMaintenance, password), "RESTOCK_LOG_LEVEL=error",
	}

	// As the worker leaves an event that is refused.
	queue, err := topology.FindQueue(t.Context(), client, schema.ConsumerFactory)
	require.NoError(t, err)
	id := uuid.New()
	_, err = pool.Exec(t.Context(), `INSERT INTO inbox (day, consumer, event_id, state, attempt, last_error)
		VALUES ((now() AT TIME ZONE 'UTC')::date, 'factory', $1, 'dead', 3, 'refused' || chr(27) || '[31m')`, id)
	require.NoError(t, err)
	_, err = client.SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: &queue.DLQURL, MessageBody: aws.String(`{"specversion":"1.0"}`), MessageGroupId: aws.String("G"),
		MessageDeduplicationId: aws.String(schema.DeadLetterID(id, schema.QueueName("factory"), uuid.Nil, "")),
	})
	require.NoError(t, err)

	code, out, errs := command(t, env, "dlq", "list")
	require.Zero(t, code, errs)
	require.Contains(t, out, id.String())
	require.Contains(t, out, "restock-factory-dlq.fifo: 1 waiting")
	require.NotContains(t, out, "\x1b", "nothing that others sent reaches the terminal as it is")
	code, out, errs = command(t, env, "dlq", "list", "factory", "--json")
	require.Zero(t, code, errs)
	var listing ops.Listing
	require.NoError(t, json.Unmarshal([]byte(out), &listing))
	require.Equal(t, id, listing.Events[0].EventID)
	require.Equal(t, 3, listing.Events[0].Attempts)
	for _, name := range []string{"restock-factory.fifo", "restock-factory-dlq.fifo", "restock-factory-sub-dlq.fifo"} {
		code, out, errs = command(t, env, "dlq", "list", name)
		require.Zero(t, code, errs)
		require.Contains(t, out, id.String())
	}
	code, out, errs = command(t, env, "dlq", "show", id.String())
	require.Zero(t, code, errs)
	require.Contains(t, out, `  "specversion": "1.0"`)
	require.Contains(t, out, id.String(), "as dlq redrive takes it")

	code, out, errs = command(t, env, "dlq", "redrive", "--all", "--dry-run")
	require.Zero(t, code, errs)
	require.Contains(t, out, "planned factory G "+id.String())
	code, out, errs = command(t, env, "dlq", "redrive", id.String())
	require.Zero(t, code, errs)
	require.Contains(t, out, "1/1 sent factory "+id.String())
	require.Contains(t, out, "0 planned, 1 sent, 0 handled already, 0 failed")
	code, out, errs = command(t, env, "dlq", "redrive", id.String(), "--json")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "1 are in no dead-letter queue")
	var report ops.RedriveReport
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Equal(t, []uuid.UUID{id}, report.Missing)

	for _, args := range [][]string{
		{"dlq", "purge", "factory"}, // nobody can be asked here
		{"dlq", "redrive"},
		{"dlq", "redrive", "--all", "--consumer", "factory"},
		{"dlq", "redrive", "no-uuid"},
		{"dlq", "list", "nobody"},
		{"dlq", "list", "restock-nobody-dlq.fifo"},
		{"dlq", "list", "vip"}, // without the customers' database
		{"dlq", "list", "--database-url", "postgres://127.0.0.1:1/x"},
	} {
		code, _, errs = command(t, env, args...)
		require.Equal(t, 2, code, "%v: %s", args, errs)
	}
	code, out, errs = command(t, env, "dlq", "purge", "factory", "--yes")
	require.Zero(t, code, errs)
	require.Contains(t, out, "restock-factory-dlq.fifo: about 0 messages purged")
}

// A redrive goes on to its end when the reader of what it prints is gone, as head is after
// ten lines: else the rest would stay hidden in its queue, and nobody be told.
func TestRedriveWithoutAReader(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t, store)
	server := launch(t, nil, "localaws", "--addr", "127.0.0.1:0", "--log-level", "warn")
	client := sqs.NewFromConfig(aws.Config{
		Region: "ap-northeast-2", BaseEndpoint: aws.String(server.endpoints["aws"]), HTTPClient: awshttp.Wrap(nil, 4),
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
	queue, err := topology.FindQueue(t.Context(), client, schema.ConsumerFactory)
	require.NoError(t, err)
	const dead = 30 // of three groups
	for i := range dead {
		_, err = client.SendMessage(t.Context(), &sqs.SendMessageInput{
			QueueUrl: &queue.DLQURL, MessageBody: aws.String(`{"specversion":"1.0"}`), MessageGroupId: aws.String(fmt.Sprintf("G%d", i%3)),
			MessageDeduplicationId: aws.String(schema.DeadLetterID(uuid.New(), schema.QueueName("factory"), uuid.Nil, "")),
		})
		require.NoError(t, err)
	}
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, reader.Close())
	cmd := exec.Command(binary, "dlq", "redrive", "--all")
	cmd.Env = append(os.Environ(),
		"AWS_ENDPOINT_URL="+server.endpoints["aws"], "AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
		"RESTOCK_DATABASE_URL="+db.RoleDSN(schema.RoleMaintenance, password), "RESTOCK_LOG_LEVEL=error")
	cmd.Stdout = writer
	said := &log{}
	cmd.Stderr = said
	require.NoError(t, cmd.Run(), said.tail())
	require.NoError(t, writer.Close())

	for url, want := range map[string][2]string{queue.URL: {"30", "0"}, queue.DLQURL: {"0", "0"}} {
		out, err := client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{"All"}})
		require.NoError(t, err)
		require.Equal(t, want, [2]string{out.Attributes["ApproximateNumberOfMessages"], out.Attributes["ApproximateNumberOfMessagesNotVisible"]}, url)
	}
}

// A redrive that is told to stop has not done what it was asked for.
func TestRedriveThatIsStopped(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t, store)
	server := launch(t, nil, "localaws", "--addr", "127.0.0.1:0", "--log-level", "warn")
	to, err := url.Parse(server.endpoints["aws"])
	require.NoError(t, err)
	next, receiving := httputil.NewSingleHostReverseProxy(to), make(chan struct{}, 10)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") != "AmazonSQS.ReceiveMessage" {
			next.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // only then is it seen that the client is gone
		receiving <- struct{}{}
		<-r.Context().Done()
	}))
	defer slow.Close()
	cmd := exec.Command(binary, "dlq", "redrive", "--consumer", "factory")
	cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+slow.URL, "AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
		"RESTOCK_DATABASE_URL="+db.DSN)
	var errs strings.Builder
	cmd.Stderr = &errs
	require.NoError(t, cmd.Start())
	<-receiving
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.ErrorAs(t, cmd.Wait(), new(*exec.ExitError))
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, errs.String(), "stopped before its end")
}

// Who has had enough of what is printed is told nothing, but of what went wrong beside it.
func TestReaderIsGone(t *testing.T) {
	t.Parallel()
	gone := fmt.Errorf("print: %w", &fs.PathError{Op: "write", Path: os.Stdout.Name(), Err: syscall.EPIPE})
	require.True(t, readerIsGone(gone))
	require.False(t, readerIsGone(errors.Join(gone, errors.New("not all was sent"))))
	require.False(t, readerIsGone(&fs.PathError{Op: "write", Path: "file", Err: syscall.EPIPE}))
	require.False(t, readerIsGone(nil))
}
