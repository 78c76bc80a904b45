package main

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// operator is one who looks after a whole Restock whose factory never delivers, and
// takes every request for a new one.
type operator struct {
	*stack
	env []string
}

func newOperator(t *testing.T) operator {
	t.Helper()
	t.Parallel()
	s := newStack(t, "--delay", "1h", "--ignore-key")
	other := pgtest.NewDatabase(t, customers)
	return operator{s, append(slices.Clone(s.awsEnv),
		"RESTOCK_DATABASE_URL="+s.db.RoleDSN(schema.RoleMaintenance, password), "RESTOCK_CUSTOMERS_DATABASE_URL="+other.RoleDSN(schema.RoleMaintenance, password),
		"RESTOCK_TOPIC_ARN="+s.topic, "RESTOCK_FACTORY_API="+s.factory.endpoints["factory"], "RESTOCK_LOG_LEVEL=error", "RESTOCK_OPERATOR=somebody")}
}

func (o operator) run(args ...string) (code int, stdout, stderr string) {
	o.t.Helper()
	return restock(o.t.(*testing.T), o.env, args...)
}

func (o operator) id(sql string, args ...any) (id uuid.UUID) {
	o.t.Helper()
	require.NoError(o.t, o.pool.QueryRow(o.ctx, sql, args...).Scan(&id))
	return id
}

// TestOperate: what an operator types about a replenishment that hangs.
func TestOperate(t *testing.T) {
	o := newOperator(t)
	o.sell(1, 10, "A")
	require.Equal(t, http.StatusOK, o.checkout(http.DefaultClient, "A", "c"))
	require.Equal(t, http.StatusConflict, o.checkout(http.DefaultClient, "A", "c"))
	accepted := func(production string) func() bool {
		return func() bool {
			return o.count(`replenishments WHERE state = 'accepted' AND production_id IS NOT NULL AND production_id <> $1`, production) == 1
		}
	}
	o.eventually("the factory took it", accepted(""))
	id := o.id(`SELECT id FROM replenishments`).String()
	var first string
	require.NoError(t, o.pool.QueryRow(t.Context(), `SELECT production_id FROM replenishments`).Scan(&first))

	code, out, errs := o.run("replenishments", "list")
	require.Zero(t, code, errs)
	require.Regexp(t, id+` +A +10 +accepted .*`+first+` +done`, out)
	code, out, errs = o.run("replenishments", "list", "--open-for", "1h")
	require.Zero(t, code, errs)
	require.Equal(t, "none is open\n", out)

	code, out, errs = o.run("replenishments", "retry", id, "--reason", "they lost it")
	require.Zero(t, code, errs)
	require.Contains(t, out, "asked again")
	o.eventually("the factory took it again", accepted(first))
	require.Len(t, o.productions("A"), 2)
	require.Equal(t, 1, o.count(`replenishment_acts WHERE act = 'retry' AND was = 'accepted' AND production_id = $1 AND asked_by = 'somebody'`, first))

	code, out, errs = o.run("trace", id)
	require.Zero(t, code, errs)
	for _, want := range []string{"10 of A, accepted", "retry at", "it was accepted, production " + first + ": they lost it", "committed", "published: message", "factory.manufacture ok", "done after 1 attempts", "not received yet"} {
		require.Contains(t, out, want)
	}
	order := o.id(`SELECT id FROM orders`)
	code, out, errs = o.run("trace", order.String(), "--json")
	require.Zero(t, code, errs)
	var traced ops.Trace
	require.NoError(t, json.Unmarshal([]byte(out), &traced))
	require.Equal(t, "c", traced.Order.CustomerID)
	require.Len(t, traced.Events, 1)
	require.Equal(t, schema.TypeOrderPlaced, traced.Events[0].Type)
	code, out, errs = o.run("trace", traced.Events[0].EventID.String())
	require.Zero(t, code, errs)
	require.Contains(t, out, "order.placed "+traced.Events[0].EventID.String())

	code, out, errs = o.run("replenishments", "cancel", id, "--reason", "enough\x1b[31m")
	require.Zero(t, code, errs)
	require.Equal(t, id+": cancelled\n", out)
	for _, act := range []string{"cancel", "retry"} {
		code, _, errs = o.run("replenishments", act, id, "--reason", "x")
		require.Equal(t, 1, code)
		require.Contains(t, errs, "it is cancelled, and not open any more")
		code, _, errs = o.run("replenishments", act, uuid.NewString(), "--reason", "x")
		require.Equal(t, 1, code)
		require.Contains(t, errs, "no replenishment has this id")
		code, _, _ = o.run("replenishments", act, id)
		require.Equal(t, 2, code, "a reason is needed")
	}
	code, out, errs = o.run("trace", id)
	require.Zero(t, code, errs)
	require.NotContains(t, out, "\x1b")
	for want, args := range map[string][]string{"no event, order or replenishment": {"trace", uuid.NewString()}, "no event": {"trace", schema.NewID().String()}} {
		code, _, errs = o.run(args...)
		require.Equal(t, 1, code)
		require.Contains(t, errs, want)
	}
	code, _, errs = o.run("trace", "7")
	require.Equal(t, 2, code, errs)

	require.Equal(t, http.StatusConflict, o.checkout(http.DefaultClient, "A", "c"))
	require.Equal(t, 2, o.count(`replenishments`), "the product could ask again")
}

// TestReconcileAndDoctor: nothing missing, then something, then not to be told; and what
// is well, what is not, and what was not asked.
func TestReconcileAndDoctor(t *testing.T) {
	o := newOperator(t)
	o.reconciles()
	o.examines()
}

func (o operator) reconciles() {
	t := o.t
	o.sell(1, 10, "A")
	require.Equal(t, http.StatusOK, o.checkout(http.DefaultClient, "A", ""))
	require.Equal(t, http.StatusConflict, o.checkout(http.DefaultClient, "A", ""))
	o.eventually("handled", func() bool { return o.count(`inbox WHERE state = 'done'`) == 1 })
	o.eventually("published", func() bool { return o.count(`ledger`) == 2 })
	code, out, errs := o.run("reconcile")
	require.Zero(t, code, errs)
	require.Contains(t, out, "missing: 0")
	// Nobody runs the ads' consumer.
	code, out, errs = o.run("reconcile", "--grace", "1ns")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "heal: restock replay --unhandled ads --since ")
	require.Contains(t, errs, "1 events are missing")
	code, out, _ = o.run("reconcile", "--grace", "1ns", "--json")
	require.Equal(t, 1, code)
	var found ops.Reconciliation
	require.NoError(t, json.Unmarshal([]byte(out), &found))
	require.Equal(t, int64(1), found.Missing)

	for want, args := range map[string][]string{
		"say --alone":       {"reconcile", "--customers-database-url", ""},
		"cannot be reached": {"reconcile", "--database-url", "postgres://127.0.0.1:1/x"},
		"before until":      {"reconcile", "--since", "2026-02-01T00:00:00Z", "--until", "2026-01-01T00:00:00Z"},
		"since":             {"reconcile", "--since", "yesterday"},
		"below 0":           {"reconcile", "--grace", "1ns", "--named=-1"},
		"cannot tell":       {"reconcile", "--alone", "--database-url", o.db.Server.DSN("postgres")},
	} {
		code, _, errs = o.run(args...)
		require.Equal(t, 2, code, "%v: %s", args, errs)
		require.Contains(t, errs, want)
	}

	going := launch(t, o.env, "reconcile", "--every", "1h", "--grace", "1ns", "--log-level", "error")
	o.eventually("it serves what it found", func() bool {
		res, err := http.Get(going.endpoints["reconcile"] + "/metrics")
		require.NoError(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return strings.Contains(string(text), "restock_reconcile_unhandled{consumer=\"ads\"} 1\n")
	})
	require.Zero(t, going.stop())
}

func (o operator) examines() {
	t := o.t
	code, out, errs := o.run("doctor", "--slot", schema.SlotName(o.db.Name))
	require.Equal(t, 1, code, "the customers' slot is not there: %s", out)
	require.Contains(t, errs, "something fails")
	require.Contains(t, out, "restock migrate")
	require.Contains(t, out, "not checked: SES: RESTOCK_ADS_FROM is not set\n")
	code, out, errs = o.run("doctor", "--customers-database-url", "", "--json")
	require.Zero(t, code, "%s %s", out, errs)
	var d diagnosis
	require.NoError(t, json.Unmarshal([]byte(out), &d))
	require.Contains(t, []ops.Level{ops.LevelOK, ops.LevelWarn}, d.Verdict)
	code, out, _ = o.run("doctor", "--database-url", "postgres://nobody:secret@127.0.0.1:1/x", "--topic-arn", "")
	require.Equal(t, 1, code)
	require.Contains(t, out, "pg_hba.conf")
	require.NotContains(t, out, "secret")
}
