package main

import (
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/schema"
)

// enough is a function's time-out that no test reaches.
const enough = 60 * time.Second

func (w *world) startFactory(env ...string) {
	w.Helper()
	w.start(append([]string{"RESTOCK_CONSUMER=factory", "RESTOCK_DATABASE_URL=" + w.db.RoleDSN(schema.RoleConsumers, password)}, env...)...)
}

// Five messages of two groups, one of which fails: it and its group's later one
// stay, the latter untried.
func TestPartialBatch(t *testing.T) {
	w := newWorld(t)
	w.startFactory()
	w.answer("A2", http.StatusInternalServerError)
	ids := map[string]uuid.UUID{}
	for _, sku := range []string{"A1", "A2", "A3", "B1", "B2"} {
		ids[sku] = w.request(sku[:1], sku)
	}
	event, received := w.batch()
	require.Len(t, received, 5)
	o := w.invoke(event, enough)
	require.JSONEq(t, `{"batchItemFailures":[{"itemIdentifier":"`+*received[1].MessageId+`"},{"itemIdentifier":"`+*received[2].MessageId+`"}]}`, string(o.body))
	require.Len(t, w.settle(received, o), 2)
	require.Equal(t, []string{"done", "failed", "", "done", "done"},
		[]string{w.state(ids["A1"]), w.state(ids["A2"]), w.state(ids["A3"]), w.state(ids["B1"]), w.state(ids["B2"])})
	require.NotContains(t, w.asked, "A3")

	// Once the factory is well they go, in order.
	w.answer("A2", http.StatusOK)
	w.aws.Faults().ExpireVisibility(schema.QueueName("factory"))
	event, received = w.batch()
	require.Len(t, received, 2)
	o = w.invoke(event, enough)
	require.JSONEq(t, `{"batchItemFailures":[]}`, string(o.body))
	require.Empty(t, w.settle(received, o))
	require.Equal(t, []string{"A2", "A3"}, w.asked[len(w.asked)-2:])

	// The same batch again, as after an answer that was lost: nobody is asked again.
	asked := len(w.asked)
	o = w.invoke(event, enough)
	require.JSONEq(t, `{"batchItemFailures":[]}`, string(o.body))
	require.Len(t, w.asked, asked)
}

// What can never be handled is dead-lettered as the worker does it, and through.
func TestDeadLettersOfABatch(t *testing.T) {
	w := newWorld(t)
	w.startFactory()
	w.answer("A2", http.StatusBadRequest)
	w.send("A", "hello <world>")
	refused := w.request("A", "A2")
	good := w.request("A", "A3")
	event, received := w.batch()
	require.Len(t, received, 3)
	require.Empty(t, w.settle(received, w.invoke(event, enough)))
	require.Equal(t, "dead", w.state(refused))
	require.Equal(t, "done", w.state(good))
	dead := w.deadLetters()
	require.Len(t, dead, 2)
	require.Equal(t, "hello <world>", *dead[0].Body)
	require.Equal(t, "blue", *dead[0].MessageAttributes["color"].StringValue)
	require.Equal(t, []byte{0, 255}, dead[0].MessageAttributes["blob"].BinaryValue)
	require.Contains(t, dead[1].Attributes["MessageDeduplicationId"], refused.String())
	require.Equal(t, "A", dead[1].Attributes["MessageGroupId"])
	var reason string
	require.NoError(t, w.owner.QueryRow(t.Context(), `SELECT last_error FROM inbox WHERE event_id = $1`, refused).Scan(&reason))
	require.Contains(t, reason, "400 Bad Request")
}

// Without the database nothing is tried and the batch stays, attempts unburned.
func TestBatchWithoutDatabase(t *testing.T) {
	w := newWorld(t)
	w.start("RESTOCK_CONSUMER=factory", "RESTOCK_DATABASE_URL=postgres://127.0.0.1:1/x")
	w.request("A", "A1")
	w.request("A", "A2")
	event, received := w.batch()
	require.Len(t, w.settle(received, w.invoke(event, enough)), 2)
	require.Empty(t, w.asked)
}

// An invocation that has no time left begins nothing.
func TestBatchOutOfTime(t *testing.T) {
	w := newWorld(t)
	w.startFactory()
	id := w.request("A", "A1")
	event, received := w.batch()
	require.Len(t, w.settle(received, w.invoke(event, -time.Second)), 1)
	require.Empty(t, w.state(id))
}

// The shortest function that Terraform makes has time for a whole call, and for its
// record.
func TestTerraformLeavesTimeForACall(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deployments/terraform/compute/lambda.tf")
	require.NoError(t, err)
	found := regexp.MustCompile(`condition += var\.queue_visibility_seconds >= (\d+)`).FindStringSubmatch(string(text))
	require.NotNil(t, found, "nothing bounds the visibility timeout, whose sixth a function takes")
	visibility, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	function := time.Duration(visibility/6) * time.Second
	for _, call := range []time.Duration{consumers.DefaultFactoryTimeout, consumers.DefaultMailTimeout, consumers.DefaultMarketingTimeout} {
		require.Greater(t, function, call+recordTime)
	}
}

func TestWrongTrigger(t *testing.T) {
	w := newWorld(t)
	w.startFactory()
	w.request("A", "A1")
	event, _ := w.batch()
	w.queue.ARN = "arn:aws:sqs:ap-northeast-2:000000000000:other.fifo"
	for _, r := range event["Records"].([]map[string]any) {
		r["eventSourceARN"] = w.queue.ARN
	}
	o := w.invoke(event, enough)
	require.True(t, o.failed)
	require.Contains(t, string(o.body), "mend its trigger")
	require.Empty(t, w.asked)
	// The function lives on.
	require.JSONEq(t, `{"batchItemFailures":[]}`, string(w.invoke(map[string]any{"Records": nil}, enough).body))
}

// An emulator may say another account or region than the queue has. What tells a
// wrong trigger is the queue's name.
func TestTriggerOfAnotherAccount(t *testing.T) {
	w := newWorld(t)
	w.startFactory()
	w.request("A", "A1")
	event, received := w.batch()
	for _, r := range event["Records"].([]map[string]any) {
		r["eventSourceARN"] = "arn:aws:sqs:us-east-1:123456789012:" + schema.QueueName("factory")
	}
	require.Empty(t, w.settle(received, w.invoke(event, enough)))
	require.Equal(t, []string{"A1"}, w.asked)
}

func TestCannotBegin(t *testing.T) {
	t.Parallel()
	for want, env := range map[string][]string{
		"missing flags":                       {},
		"no function \"baker\": there are":    {"RESTOCK_CONSUMER=baker", "RESTOCK_DATABASE_URL=postgres://x"},
		"no factory: set RESTOCK_FACTORY_API": {"RESTOCK_CONSUMER=factory", "RESTOCK_DATABASE_URL=postgres://x"},
		"set RESTOCK_CALLBACK_SECRETS":        {"RESTOCK_CONSUMER=stock-increase", "RESTOCK_DATABASE_URL=postgres://x"},
	} {
		cmd := exec.Command(binary)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Equal(t, 2, cmd.ProcessState.ExitCode())
		require.Contains(t, string(out), want)
	}
}
