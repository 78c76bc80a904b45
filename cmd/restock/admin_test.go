package main

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/schema"
)

// TestAdmin: the admin listener as a process: it asks for the token, looks, serves its
// probes elsewhere, and stops in order while somebody watches.
func TestAdmin(t *testing.T) {
	t.Parallel()
	db, other := pgtest.NewDatabase(t, store), pgtest.NewDatabase(t, customers)
	aws := launch(t, nil, "localaws", "--addr", "127.0.0.1:0", "--log-level", "warn")
	env := []string{
		"AWS_ENDPOINT_URL=" + aws.endpoints["aws"], "AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
		"RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleMaintenance, password), "RESTOCK_CUSTOMERS_DATABASE_URL=" + other.RoleDSN(schema.RoleMaintenance, password),
	}
	const token = "0123456789abcdef0123"
	p := launch(t, append(slices.Clone(env), "RESTOCK_ADMIN_TOKENS=kim:"+token+",lee:"+token+"1"), "admin", "--addr", "127.0.0.1:0", "--interval", "100ms")
	ask := func(path, with string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.endpoints["console"]+path, nil)
		require.NoError(t, err)
		if with != "" {
			req.Header.Set("Authorization", "Bearer "+with)
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	require.Equal(t, http.StatusUnauthorized, ask("/api/status", "").StatusCode)
	require.Equal(t, http.StatusUnauthorized, ask("/api/status?token="+token, "").StatusCode)
	require.Equal(t, http.StatusOK, ask("/", "").StatusCode, "the page is no secret")
	require.Eventually(t, func() bool { return ask("/api/status", token+"1").StatusCode == http.StatusOK }, patience, 20*time.Millisecond)
	require.Eventually(t, func() bool { return ask("/api/reconcile", token).StatusCode == http.StatusOK }, patience, 20*time.Millisecond)
	watching := ask("/api/live", token)
	_, err := io.ReadFull(watching.Body, make([]byte, len("retry: 3000\n\n")))
	require.NoError(t, err)
	require.Zero(t, p.stop())
	require.NotContains(t, p.log.tail(), token)

	// With one database down it starts, and so do the commands tell what they can.
	down := append(slices.Clone(env), "RESTOCK_ADMIN_TOKENS=kim:"+token, "RESTOCK_CUSTOMERS_DATABASE_URL=postgres://u:hunter2@127.0.0.1:1/x")
	p = launch(t, down, "admin", "--addr", "127.0.0.1:0")
	answer, err := io.ReadAll(ask("/api/events", token).Body)
	require.NoError(t, err)
	require.Contains(t, string(answer), `"unreachable":[{"database":"customers","error":"failed to connect`)
	require.Zero(t, p.stop())
	require.Contains(t, p.log.tail(), "a database cannot be reached")
	require.NotContains(t, p.log.tail(), "hunter2")
	for says, args := range map[string][]string{
		"missing: 0 or more":                         {"reconcile"},
		"restock-factory-dlq.fifo: 0 waiting":        {"dlq", "list"},
		"0 planned, 0 sent, 0 handled":               {"dlq", "redrive", "--all"},
		"nothing that can be reached knows it":       {"trace", uuid.NewString()},
		"what vip has handled cannot be asked":       {"replay", "--unhandled", "vip"},
		"the customers database cannot be reached: ": {"replay", "list", "--outbox", "customers"},
	} {
		code, out, errs := command(t, down, args...)
		require.Equal(t, 2, code, "%v: %s%s", args, out, errs)
		require.Contains(t, out+errs, says)
		require.Contains(t, errs, "the customers database cannot be reached: ")
		require.NotContains(t, out+errs, "hunter2")
	}
	code, out, errs := command(t, down, "replay", "list")
	require.Zero(t, code, errs)
	require.Contains(t, out, "nothing was ever replayed")

	for why, args := range map[string][]string{
		"set a token":          {"--addr", "0.0.0.0:0", "--host", "admin.example"},
		"name the hosts":       {"--addr", "0.0.0.0:0", "--token", token},
		"it must be random":    {"--token", "secret"},
		"want HOST:PORT":       {"--addr", "8089"},
		"--interval must be":   {"--interval", "1ms"},
		"RESTOCK_DATABASE_URL": {"--database-url", ""},
		"the port is taken":    {"--addr", strings.TrimPrefix(aws.endpoints["aws"], "http://")},
		"cannot parse":         {"--customers-database-url", "postgres://127.0.0.1:port/x"},
	} {
		code, _, errs := command(t, env, append([]string{"admin", "--log-level", "error"}, args...)...)
		require.Equal(t, 2, code, "%v: %s", args, errs)
		require.Contains(t, errs, why)
	}
}
