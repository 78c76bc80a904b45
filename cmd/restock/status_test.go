package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

// TestStatusCommand: healthy with a relay at work, degraded without, and both told by
// exit code, by text and by JSON.
func TestStatusCommand(t *testing.T) {
	t.Parallel()
	db, _ := newDatabase(t, store)
	server, err := localaws.Start(localaws.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	cfg := server.AWSConfig()
	made, err := topology.Create(t.Context(), sns.NewFromConfig(cfg), sqs.NewFromConfig(cfg), schema.Interests(schema.DefaultVIPThreshold))
	require.NoError(t, err)
	aws := []string{"AWS_ENDPOINT_URL=" + *cfg.BaseEndpoint, "AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local"}
	env := append([]string{"RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleMaintenance, password)}, aws...)

	code, out, errs := command(t, env, "status")
	require.Equal(t, 1, code, errs)
	require.Contains(t, out, "degraded store: no relay is active on slot restock_"+db.Name+"\n  -> start restock relay on the store database\n")
	require.Contains(t, errs, "restock: degraded: 1 concerns\n")

	relay := launch(t, append([]string{"RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleRelay, password), "RESTOCK_TOPIC_ARN=" + made.TopicARN}, aws...), "relay", "--log-level", "error")
	require.Eventually(t, func() bool {
		code, out, errs = command(t, env, "status", "--json")
		return code == 0
	}, patience, 1)
	require.Empty(t, errs)
	var r ops.StatusReport
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Equal(t, ops.Healthy, r.Health)
	require.Len(t, r.Relays, 1)
	require.Len(t, r.Queues, 2, "vip and marketing keep their inbox elsewhere")
	res, err := http.Get(relay.endpoints["relay"] + "/progressz")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)

	code, _, errs = command(t, append(env, "RESTOCK_CUSTOMERS_DATABASE_URL=postgres://nobody@127.0.0.1:1/x"), "status")
	require.Equal(t, 2, code)
	require.Contains(t, errs, "not all could be asked")
	for want, args := range map[string][]string{
		"--http-addr needs --watch":       {"--http-addr", "127.0.0.1:0"},
		"a limit must be above 0":         {"--max-lag", "0s"},
		"cannot parse `postgres://%`":     {"--database-url", "postgres://%"},
		"no database: set --database-url": {"--database-url", ""},
		"the port is taken by another":    {"--watch", "--http-addr", strings.TrimPrefix(relay.endpoints["relay"], "http://")},
	} {
		code, _, errs = command(t, env, append([]string{"status"}, args...)...)
		require.Equal(t, 2, code, errs)
		require.Contains(t, errs, want)
	}
}

// TestStatusWatch: one object a line, until it is told to stop, which is no failure.
func TestStatusWatch(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t, store)
	cmd := exec.Command(binary, "status", "--watch", "--interval", "100ms", "--json", "--database-url", db.RoleDSN(schema.RoleMaintenance, password))
	cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL=http://127.0.0.1:1", "AWS_REGION=x", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "AWS_MAX_ATTEMPTS=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for range 2 {
		require.True(t, lines.Scan())
		var r ops.StatusReport
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		require.Equal(t, ops.Unknown, r.Health)
		require.Equal(t, "missing", r.Relays[0].SlotState)
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Wait())
}
