package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

// patient is an operator before a demo who does what he is told, word for word.
type patient struct {
	*testing.T
	env              []string
	store, customers *pgxpool.Pool // of the owners
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := launch(t, nil, anywhere(filepath.Join(t.TempDir(), "data"), "--factory-delay", "1ms")...)
	w := &patient{T: t, env: []string{
		"AWS_ENDPOINT_URL=" + p.endpoints["aws"], "AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local", "RESTOCK_LOG_LEVEL=error",
		"RESTOCK_DATABASE_URL=" + p.endpoints["postgres"], "RESTOCK_CUSTOMERS_DATABASE_URL=" + p.endpoints["postgres-customers"],
	}}
	for pool, dsn := range map[**pgxpool.Pool]string{&w.store: p.endpoints["postgres"], &w.customers: p.endpoints["postgres-customers"]} {
		made, err := pgxpool.New(t.Context(), dsn)
		require.NoError(t, err)
		t.Cleanup(made.Close)
		*pool = made
	}
	for _, body := range []string{`{"sku":"CP-502102","quantity":100,"customerId":"c-1"}`, `{"sku":"CP-502102","quantity":100,"customerId":"c-2"}`, `{"sku":"CP-502102","quantity":999,"customerId":"c-3"}`} {
		res, err := http.Post(p.endpoints["api"]+"/checkout", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
	}
	return w
}

func (w *patient) exec(db *pgxpool.Pool, sql string, args ...any) {
	w.Helper()
	tag, err := db.Exec(w.Context(), sql, args...)
	require.NoError(w, err)
	require.Positive(w, tag.RowsAffected(), sql)
}

// reconciled is what restock reconcile says.
func (w *patient) reconciled() (found ops.Reconciliation) {
	w.Helper()
	_, out, errs := restock(w.T, w.env, "reconcile", "--grace", "1ns", "--json")
	require.NoError(w, json.Unmarshal([]byte(out), &found), errs)
	return found
}

// well waits until everything is handled.
func (w *patient) well(wanted int64) {
	w.Helper()
	require.Eventually(w, func() bool {
		found, all := w.reconciled(), int64(0)
		for _, c := range found.Consumers {
			all += c.Wanted
			if c.Done != c.Wanted || c.Dead > 0 {
				return false
			}
		}
		return found.Missing == 0 && all == wanted
	}, patience, 50*time.Millisecond)
}

// types carries out a command as it was printed.
func (w *patient) types(line string) {
	w.Helper()
	code, out, errs := restock(w.T, w.env, strings.Fields(line)[1:]...)
	require.Zero(w, code, "%s: %s%s", line, out, errs)
}

// mends are the commands with which a mend is told.
func mends(text string) []string {
	return regexp.MustCompile(`restock (?:parked|dlq) (?:list|send|redrive)[^,]*`).FindAllString(text, -1)
}

// TestHeals: every command that reconcile and status print to heal something does, as it
// is printed, and nothing is missing after it.
func TestHeals(t *testing.T) {
	t.Parallel()
	w := newPatient(t)
	w.well(7) // 2 orders of VIPs, 2 promotions, a request with its mail, and the mail of its delivery

	// Each event of each outbox is lost somewhere.
	w.exec(w.store, `DELETE FROM inbox`)
	w.exec(w.customers, `DELETE FROM inbox`)
	for _, db := range []*pgxpool.Pool{w.store, w.customers} {
		w.exec(db, `DELETE FROM ledger WHERE event_id IN (SELECT id FROM outbox ORDER BY seq DESC LIMIT 1)`)
	}
	found := w.reconciled()
	var kinds []string
	for _, f := range found.Findings {
		kinds = append(kinds, f.Kind+" "+f.Database+" "+f.Consumer)
		w.types(f.Heal)
	}
	require.Equal(t, []string{"unpublished store ", "unhandled store factory", "unhandled store ads", "unhandled store vip", "unpublished customers ", "unhandled customers marketing"}, kinds)
	w.well(7)

	// One of each outbox is parked, and one of each consumer is dead.
	for _, db := range []*pgxpool.Pool{w.store, w.customers} {
		w.exec(db, `INSERT INTO parked (day, event_id, message_group, seq, reason, detail)
			SELECT day, id, message_group, seq, 'rejected', 'x' FROM outbox ORDER BY seq LIMIT 1`)
		w.exec(db, `UPDATE ledger SET outcome = 'parked' WHERE event_id IN (SELECT event_id FROM parked)`)
	}
	for _, in := range schema.Interests(schema.DefaultVIPThreshold) {
		w.die(in)
	}
	_, out, errs := restock(t, w.env, "status", "--json")
	var report ops.StatusReport
	require.NoError(t, json.Unmarshal([]byte(out), &report), errs)
	typed := 0
	for _, c := range report.Concerns {
		for _, line := range mends(c.Mend) {
			w.types(line)
			typed++
		}
	}
	require.Equal(t, 2*2+4*2, typed, out)
	w.well(7)
	require.Eventually(t, func() bool {
		code, _, _ := restock(t, w.env, "status")
		return code == 0
	}, patience, 50*time.Millisecond)
}

// die leaves an event of a consumer as its worker does that gave it up.
func (w *patient) die(in schema.Interest) {
	w.Helper()
	inbox, outbox := w.store, w.store
	if in.Consumer == schema.ConsumerVIP || in.Consumer == schema.ConsumerMarketing {
		inbox = w.customers
	}
	if in.Consumer == schema.ConsumerMarketing {
		outbox = w.customers
	}
	var id uuid.UUID
	var group, body string
	var seq int64
	require.NoError(w, outbox.QueryRow(w.Context(), `SELECT id, message_group, body, seq FROM outbox WHERE `+in.SQL()+` ORDER BY seq DESC LIMIT 1`).Scan(&id, &group, &body, &seq))
	w.exec(inbox, `UPDATE inbox SET state = 'dead', last_error = 'x', replay_id = $3 WHERE consumer = $1 AND event_id = $2`, in.Consumer, id, uuid.Nil)
	body, err := schema.WithSequence(body, seq)
	require.NoError(w, err)
	client := w.sqs()
	queue, err := topology.FindQueue(w.Context(), client, in.Consumer)
	require.NoError(w, err)
	_, err = client.SendMessage(w.Context(), &sqs.SendMessageInput{
		QueueUrl: &queue.DLQURL, MessageBody: &body, MessageGroupId: &group, MessageDeduplicationId: aws.String(schema.DeadLetterID(id, schema.QueueName(in.Consumer), uuid.Nil, "")),
	})
	require.NoError(w, err)
}

func (w *patient) sqs() *sqs.Client {
	endpoint := strings.TrimPrefix(w.env[0], "AWS_ENDPOINT_URL=")
	return sqs.New(sqs.Options{BaseEndpoint: &endpoint, Region: "ap-northeast-2", Credentials: credentials.NewStaticCredentialsProvider("local", "local", "")})
}

// TestDoctorHeals: what doctor says to type, as the owner, mends what it found.
func TestDoctorHeals(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t, store)
	conn, err := pgx.Connect(t.Context(), db.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	_, err = conn.Exec(t.Context(), `REVOKE SELECT ON outbox FROM restock_relay; DROP PUBLICATION `+schema.Publication)
	require.NoError(t, err)
	env := []string{"RESTOCK_DATABASE_URL=" + db.DSN, "RESTOCK_LOG_LEVEL=error"}
	unwell := func() map[string]string {
		_, out, errs := restock(t, env, "doctor", "--json")
		var d struct{ Checks []ops.Check }
		require.NoError(t, json.Unmarshal([]byte(out), &d), errs)
		found := map[string]string{}
		for _, c := range d.Checks {
			if c.Level == ops.LevelFail {
				found[c.Name] = c.Mend
			}
		}
		return found
	}
	before := unwell()
	require.Contains(t, before, "publication")
	for name, mend := range before {
		if command, is := strings.CutPrefix(mend, "restock "); is {
			code, out, errs := restock(t, env, strings.Fields(command)...)
			require.Zero(t, code, "%s: %s: %s%s", name, mend, out, errs)
			continue
		}
		_, err := conn.Exec(t.Context(), mend)
		require.NoError(t, err, "%s: %s", name, mend)
	}
	require.Empty(t, unwell())
}
