package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// orders commits n orders of each customer and waits until they are published.
func (w *parkedWorld) orders(n int, customers ...string) map[string][]uuid.UUID {
	w.Helper()
	ids := map[string][]uuid.UUID{}
	for range n {
		for _, c := range customers {
			e, err := schema.New(schema.NewID(), schema.OrderPlaced{OrderID: uuid.New(), CustomerID: c, Quantity: 100, Lines: []schema.Line{{SKU: "CP-1", Quantity: 100}}}, "")
			require.NoError(w, err)
			require.NoError(w, schema.Append(w.Context(), w.pool, e))
			ids[c] = append(ids[c], e.ID)
		}
	}
	w.eventually("published", func() bool { return w.count(`ledger`) == w.count(`outbox`) })
	return ids
}

// subscribe makes a queue that takes what is published from now on.
func (w *parkedWorld) subscribe() (client *sqs.Client, url string) {
	w.Helper()
	client = sqs.NewFromConfig(w.aws.AWSConfig())
	queue, err := client.CreateQueue(w.Context(), &sqs.CreateQueueInput{QueueName: aws.String("q.fifo"), Attributes: map[string]string{
		"FifoQueue": "true", "Policy": `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sqs:SendMessage","Resource":"*"}]}`,
	}})
	require.NoError(w, err)
	is, err := client.GetQueueAttributes(w.Context(), &sqs.GetQueueAttributesInput{QueueUrl: queue.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"}})
	require.NoError(w, err)
	topics := sns.NewFromConfig(w.aws.AWSConfig())
	all, err := topics.ListTopics(w.Context(), &sns.ListTopicsInput{})
	require.NoError(w, err)
	_, err = topics.Subscribe(w.Context(), &sns.SubscribeInput{
		TopicArn: all.Topics[0].TopicArn, Protocol: aws.String("sqs"), Endpoint: aws.String(is.Attributes["QueueArn"]), Attributes: map[string]string{"RawMessageDelivery": "true"},
	})
	require.NoError(w, err)
	return client, *queue.QueueUrl
}

// TestReplayCommand: a replay as an operator sees it, from the selection that was
// mistyped to the audit.
func TestReplayCommand(t *testing.T) {
	w := newParkedWorld(t)
	ids := w.orders(4, "c-1", "c-2")
	file := filepath.Join(t.TempDir(), "ids")
	require.NoError(t, os.WriteFile(file, []byte(ids["c-1"][0].String()+"\nnot an id\n"), 0o600))
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{2, "say which events", nil},
		{2, "the time range runs backwards", []string{"--since", "2026-01-02T00:00:00Z", "--until", "2026-01-01T00:00:00+09:00"}},
		{2, "--since", []string{"--since", "yesterday"}},
		{2, "a sample below 0", []string{"--sku", "CP-1", "--sample=-1", "--plan"}},
		{2, "--since", []string{"--since", "2026-01-02T00:00:00"}},
		{2, "no event type is called", []string{"--type", "order.eaten"}},
		{2, "the events of marketing are in the other outbox: --outbox customers", []string{"--sku", "CP-1", "--consumer", "marketing"}},
		{2, "what vip has handled is in a database that was not given", []string{"--unhandled", "vip"}},
		{2, `line 2 of ` + file + ` is not an event id: "not an id"`, []string{"--ids-file", file}},
		{2, "no such file", []string{"--ids-file", file + "x"}},
		{2, "set --customers-database-url", []string{"--outbox", "customers", "--sku", "CP-1"}},
		{2, "invalid UUID", []string{"lis"}},
		{1, "the outbox does not hold it", []string{uuid.NewString()}},
		{1, "no event is selected", []string{"--customer", "c-3"}},
		{1, "no such replay: restock replay list shows all", []string{"show", uuid.NewString()}},
		{1, "no such replay", []string{"cancel", uuid.NewString()}},
		{1, "no such replay", []string{"resume", uuid.NewString()}},
	} {
		code, _, errs := command(t, w.env, append([]string{"replay"}, c.args...)...)
		require.Equal(t, c.code, code, "%v: %s", c.args, errs)
		require.Contains(t, errs, c.says, c.args)
	}
	code, out, errs := command(t, w.env, "replay", "list")
	require.Zero(t, code, errs)
	require.Equal(t, "nothing was ever replayed\n", out)

	code, out, errs = command(t, w.env, "replay", "--sku", "CP-1", "--plan", "--sample", "1", "--rate", "2")
	require.Zero(t, code, errs)
	require.Regexp(t, `^8 events of 2 groups, 4s at the rate\nfirst .*`+ids["c-1"][0].String()+`  sequence 1\nlast .*`+ids["c-2"][3].String()+`  sequence 8\n`+
		`vip wants 8; what it has handled is in a database that was not given\n(.*\n)+.*c-1 +1 +order.placed +vip unknown\s+and 7 more\n$`, out)
	require.Zero(t, w.count(`replays`))

	code, out, errs = command(t, w.env, "replay", "--sku", "CP-1", "--rate", "0", "--sample", "0")
	require.Zero(t, code, errs)
	require.Contains(t, out, "done: 8 events are replayed, 0 could not be published\n")
	code, out, errs = command(t, w.env, "replay", "--json", ids["c-2"][1].String(), "--force", "--consumer", "vip")
	require.Zero(t, code, errs)
	var one replayed
	require.NoError(t, json.Unmarshal([]byte(out), &one))
	require.Equal(t, []any{"done", int64(1), true, "vip"}, []any{one.Replay.State, one.Replay.Done, one.Replay.Force, one.Replay.Consumer})
	require.Equal(t, ids["c-2"][1], one.Plan.First.EventID)
	code, out, errs = command(t, w.env, "replay", "show", one.Replay.ID.String())
	require.Zero(t, code, errs)
	require.Regexp(t, `for +vip, forced\s(.*\n)* asked +somebody `, out)

	rule := w.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Group: "c-1", Code: "InvalidParameter", Message: "no\x1b[31m", SenderFault: true})
	code, out, errs = command(t, w.env, "replay", "--customer", "c-1", "--sample", "0")
	w.aws.Faults().Remove(rule)
	require.Equal(t, 1, code)
	require.Contains(t, out, "done: 0 events are replayed, 4 could not be published")
	require.Contains(t, errs, "4 of the 4 events could not be published: restock replay show ")
	code, out, errs = command(t, w.env, "replay", "list", "--json")
	require.Zero(t, code, errs)
	var all ops.Page[ops.ReplayState]
	require.NoError(t, json.Unmarshal([]byte(out), &all))
	require.Len(t, all.Items, 3)
	code, out, errs = command(t, w.env, "replay", "show", all.Items[0].ID.String())
	require.Zero(t, code, errs)
	require.Contains(t, out, "InvalidParameter")
	require.NotContains(t, out, "\x1b")
}

// TestNothingToReplay: what is not handled and is not replayed is told of.
func TestNothingToReplay(t *testing.T) {
	w := newParkedWorld(t)
	w.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Code: "InvalidParameter", Message: "no", SenderFault: true})
	e, err := schema.New(schema.NewID(), schema.ReplenishmentRequested{
		ReplenishmentID: uuid.New(), SKU: "CP-1", ProductName: "Donut", Quantity: 10, FactoryID: "FF-500293", Requester: "manager@example.com", CallbackURL: "http://127.0.0.1:1/",
	}, "")
	require.NoError(t, err)
	require.NoError(t, schema.Append(t.Context(), w.pool, e))
	w.eventually("parked", func() bool { return w.count(`parked`) == 1 })
	code, out, errs := command(t, w.env, "replay", "--unhandled", "factory")
	require.Zero(t, code, errs)
	require.Equal(t, "there is none: nothing is to be replayed\nleft out: 1 that are parked\n", out)
}

// TestReplaySurvives: the command is told to stop, and the relay is killed, amid a
// replay: it goes on, and everything comes once, each group in its order. Cancelled,
// it can be resumed.
func TestReplaySurvives(t *testing.T) {
	w := newParkedWorld(t)
	want := w.orders(100, "c-1", "c-2") // so many that it cannot be done before it is stopped
	client, url := w.subscribe()
	var ids strings.Builder
	for _, of := range want {
		for _, id := range of {
			fmt.Fprintln(&ids, id)
		}
	}
	cmd := exec.Command(binary, "replay", "--ids-file", "-", "--rate", "40", "--sample", "0")
	cmd.Env = append(os.Environ(), w.env...)
	cmd.Stdin = strings.NewReader(ids.String())
	var errs strings.Builder
	cmd.Stderr = &errs
	require.NoError(t, cmd.Start())
	some := func(n int) {
		w.eventually("it goes on", func() bool { return w.count(`replays WHERE done > $1`, n) == 1 })
	}
	some(0)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait()
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	var id string
	require.NoError(t, w.pool.QueryRow(t.Context(), `SELECT id::text FROM replays`).Scan(&id))
	require.Contains(t, errs.String(), "the relay goes on; restock replay resume "+id+" watches again")
	w.relay.restart()
	some(12)
	w.relay.kill()
	code, out, stderr := command(t, w.env, "replay", "cancel", id)
	require.Zero(t, code, stderr)
	require.Regexp(t, `cancelled with \d+ of 200 events done: restock replay resume `+id+" goes on", out)
	code, _, stderr = command(t, w.env, "replay", "cancel", id)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "is cancelled already")
	w.relay.start()
	code, out, stderr = command(t, w.env, "replay", "resume", id)
	require.Zero(t, code, stderr)
	require.Contains(t, out, "done: 200 events are replayed")

	got := map[string][]uuid.UUID{}
	for range 200 {
		m, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: &url, WaitTimeSeconds: 20, MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"},
		})
		require.NoError(t, err)
		require.Len(t, m.Messages, 1)
		event, _, _ := strings.Cut(m.Messages[0].Attributes["MessageDeduplicationId"], ":")
		group := m.Messages[0].Attributes["MessageGroupId"]
		got[group] = append(got[group], uuid.MustParse(event))
		_, err = client.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: m.Messages[0].ReceiptHandle})
		require.NoError(t, err)
	}
	require.Equal(t, want, got)
	m, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url})
	require.NoError(t, err)
	require.Empty(t, m.Messages)
}
