package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// parkedWorld is a relay, as a process, on a topic that can be told to refuse.
type parkedWorld struct {
	*testing.T
	pool  *pgxpool.Pool // of the owner
	aws   *localaws.Server
	relay *process
	env   []string // of the operator
}

func newParkedWorld(t *testing.T) *parkedWorld {
	t.Helper()
	t.Parallel()
	w := &parkedWorld{T: t}
	db, pool := newDatabase(t, store)
	w.pool = pool
	var err error
	w.aws, err = localaws.Start(localaws.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.aws.Close()) })
	topic, err := sns.NewFromConfig(w.aws.AWSConfig()).CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("t.fifo"), Attributes: map[string]string{"FifoTopic": "true"}})
	require.NoError(t, err)
	w.relay = launch(t, []string{
		"AWS_ENDPOINT_URL=" + *w.aws.AWSConfig().BaseEndpoint, "AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
		"RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleRelay, password), "RESTOCK_TOPIC_ARN=" + *topic.TopicArn, "RESTOCK_HOLD_AFTER=50ms",
	}, "relay", "--log-level", "error")
	w.env = []string{"RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleMaintenance, password), "RESTOCK_LOG_LEVEL=error", "RESTOCK_OPERATOR=somebody"}
	return w
}

func (w *parkedWorld) count(sql string, args ...any) (n int) {
	w.Helper()
	require.NoError(w, w.pool.QueryRow(w.Context(), `SELECT count(*) FROM `+sql, args...).Scan(&n))
	return n
}

func (w *parkedWorld) eventually(what string, happened func() bool) {
	w.Helper()
	require.Eventually(w, happened, patience, 10*time.Millisecond, what)
}

// commit adds n events of a group, each in a transaction of its own.
func (w *parkedWorld) commit(group string, n int) {
	w.Helper()
	for range n {
		_, err := w.pool.Exec(w.Context(), `SELECT append_event(gen_random_uuid(), 'x', $1, NULL, '{}', '{}', NULL)`, group)
		require.NoError(w, err)
	}
}

// park has a group of n events parked.
func (w *parkedWorld) park(group string, n int) {
	w.Helper()
	rule := w.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Group: group, Code: "InternalError", Message: "no\x1b[31m"})
	w.commit(group, n)
	w.eventually("parked", func() bool {
		w.commit("other", 1)
		return w.count(`parked WHERE message_group = $1`, group) == n
	})
	w.aws.Faults().Remove(rule)
}

// TestParkedCommand: a parked group from its listing to its release, as an operator
// sees it.
func TestParkedCommand(t *testing.T) {
	w := newParkedWorld(t)
	w.park("it's", 3)
	code, out, errs := command(t, w.env, "parked", "list")
	require.Zero(t, code, errs)
	require.Regexp(t, `it's +3 .* held +InternalError`, out)
	require.NotContains(t, out, "\x1b")
	code, out, errs = command(t, w.env, "parked", "list", "--json")
	require.Zero(t, code, errs)
	var groups ops.Page[ops.ParkedGroup]
	require.NoError(t, json.Unmarshal([]byte(out), &groups))
	require.Len(t, groups.Items, 1)
	require.Equal(t, 3, groups.Items[0].Events)
	first := groups.Items[0].Head.String()
	code, out, errs = command(t, w.env, "parked", "list", "it's")
	require.Zero(t, code, errs)
	require.Contains(t, out, "its group waits behind event "+first)
	code, out, errs = command(t, w.env, "parked", "show", first)
	require.Zero(t, code, errs)
	require.Contains(t, out, "InternalError")
	require.NotContains(t, out, "\x1b")

	for want, args := range map[string][]string{
		"name groups":         {"parked", "send"},
		"only one of these":   {"parked", "send", "--all", "--group", "x"},
		"say --yes":           {"parked", "skip", first, "--reason", "x"},
		"missing flags":       {"parked", "skip", first, "--yes"},
		"cannot be reached":   {"parked", "list", "--database-url", "postgres://127.0.0.1:1/x"},
		"unexpected argument": {"parked", "show", first, "--group"},
	} {
		code, _, errs = command(t, w.env, args...)
		require.Equal(t, 2, code, "%v: %s", args, errs)
		if want != "unexpected argument" {
			require.Contains(t, errs, want)
		}
	}
	code, _, errs = command(t, w.env, "parked", "send", first)
	require.Equal(t, 1, code)
	require.Contains(t, errs, "held with its group")
	code, _, errs = command(t, w.env, "parked", "show", uuid.NewString())
	require.Equal(t, 1, code)
	require.Contains(t, errs, "not parked")

	code, out, errs = command(t, w.env, "parked", "skip", first, "--reason", "too old", "--yes")
	require.Zero(t, code, errs)
	require.Equal(t, "1 events skipped\n", out)
	code, out, errs = command(t, w.env, "parked", "send", "--all", "--dry-run")
	require.Zero(t, code, errs)
	require.Equal(t, "it's: 2 events would be sent in order, and the group goes on\n", out)
	require.Zero(t, w.count(`parked WHERE state = 'sent'`))
	code, out, errs = command(t, w.env, "parked", "send", "--group", "it's")
	require.Zero(t, code, errs)
	require.Contains(t, out, "done: 0 events are parked again\n")
	require.Equal(t, 2, w.count(`parked WHERE state = 'sent' AND asked_by = 'somebody'`))
	code, out, errs = command(t, w.env, "parked", "show", first)
	require.Zero(t, code, errs)
	require.Contains(t, out, "too old")
	code, out, errs = command(t, w.env, "parked", "list")
	require.Zero(t, code, errs)
	require.Equal(t, "nothing is parked\n", out)
	for _, args := range [][]string{{"parked", "send", "--all"}, {"parked", "send", "--all", "--dry-run"}} {
		code, out, errs = command(t, w.env, args...)
		require.Zero(t, code, errs)
		require.Equal(t, "nothing is parked\n", out)
	}
	code, out, errs = command(t, w.env, "parked", "send", "--group", "it's", "--json")
	require.Equal(t, 1, code, "there is nothing to send")
	require.Contains(t, errs, "1 that were named are not parked")
	var report sent
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Equal(t, []string{"it's"}, report.Missing)
}

// TestParkedSendWithoutARelay: whoever waits for a relay that is not there is told so.
func TestParkedSendWithoutARelay(t *testing.T) {
	w := newParkedWorld(t)
	w.park("bad", 2)
	w.relay.kill()
	cmd, said := exec.Command(binary, "parked", "send", "--group", "bad"), &log{}
	cmd.Env = append(os.Environ(), w.env...)
	cmd.Stderr = said
	require.NoError(t, cmd.Start())
	w.eventually("it says so", func() bool { return strings.Contains(said.tail(), "is restock relay running on this database") })
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait()
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	w.relay.start()
	w.eventually("sent", func() bool { return w.count(`parked WHERE state = 'sent'`) == 2 })
}

// TestKillTheRelayWhileItReleases kills the relay again and again amid a release,
// with new events of the group coming. All of it is published, in its order.
func TestKillTheRelayWhileItReleases(t *testing.T) {
	w := newParkedWorld(t)
	w.park("bad", 400)
	// So that something is left to be sent when it is killed.
	slow := w.aws.Faults().Add(localaws.Rule{Effect: localaws.Delay, Service: "sns", Group: "bad", Delay: 3 * time.Millisecond})
	code, _, errs := command(t, w.env, "parked", "send", "--group", "bad", "--no-wait")
	require.Zero(t, code, errs)
	for range 3 {
		before := w.count(`parked WHERE state = 'sent'`)
		coming := 50 // not for ever: faster than one a round trip, the release would wait
		w.eventually("it releases", func() bool {
			if coming--; coming > 0 {
				w.commit("bad", 1)
			}
			return w.count(`parked WHERE state = 'sent'`) > before+20
		})
		w.relay.restart()
	}
	w.aws.Faults().Remove(slow)
	w.eventually("released", func() bool { return w.count(`parked_groups`) == 0 })
	w.eventually("all is published", func() bool {
		return w.count(`outbox o WHERE NOT EXISTS (SELECT FROM ledger l WHERE l.event_id = o.id AND l.outcome = 'published')`) == 0
	})
	require.Zero(t, w.count(`(SELECT sequence_number < lag(sequence_number) OVER (ORDER BY seq) AS early
		FROM outbox JOIN ledger ON event_id = id WHERE message_group = 'bad') AS s WHERE early`), "out of order")
}
