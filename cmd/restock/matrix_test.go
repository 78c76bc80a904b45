package main

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/matrix"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

// kill is a point at which a consumer is killed.
type kill struct {
	name    string
	reach   func(*victim) // sends the event, and kills the consumer there
	want    matrix.Cell
	without map[string]string // why a consumer has no such point
}

var kills = []kill{
	{
		name: "kill -9 before the effect", reach: beforeTheEffect,
		want: matrix.Cell{Events: 1, Effects: 1, Calls: 2, Keys: 1, Uncertain: 1, Attempts: 2},
	},
	{
		name: "kill -9 between effect and record", reach: betweenEffectAndRecord,
		want:    matrix.Cell{Events: 1, Effects: 1, Calls: 2, Keys: 1, Repeated: 1, Uncertain: 1, Attempts: 2},
		without: map[string]string{schema.ConsumerVIP: "effect and record are one"},
	},
	{
		name: "kill -9 between record and delete", reach: betweenRecordAndDelete,
		want: matrix.Cell{Events: 1, Effects: 1, Calls: 1, Keys: 1, Attempts: 1},
	},
}

// victim is one consumer, run as its users run it, and all that it needs in this
// process.
type victim struct {
	*testing.T
	subject *matrix.Subject
	db      *pgxpool.Pool // of the owner
	aws     *localaws.Server
	sqs     *sqs.Client
	queue   topology.Queue
	process *process
	event   schema.Event
}

// TestMatrixOfKills kills each consumer with SIGKILL at each point around its
// effect, and starts it again. It completes the matrix of the consumers' package.
func TestMatrixOfKills(t *testing.T) {
	t.Parallel()
	names := make([]string, len(kills))
	for i, k := range kills {
		names[i] = k.name
	}
	table := matrix.NewTable("matrix_kills", names...)
	t.Run("cells", func(t *testing.T) {
		for _, k := range kills {
			for _, consumer := range matrix.Consumers {
				if why, ok := k.without[consumer]; ok {
					table.Without(k.name, consumer, why)
					continue
				}
				t.Run(k.name+"/"+consumer, func(t *testing.T) { k.try(t, table, consumer) })
			}
		}
	})
	table.Print(os.Stdout)
}

func (k kill) try(t *testing.T, table *matrix.Table, consumer string) {
	t.Parallel()
	want := k.want
	var got matrix.Cell
	defer func() { table.Tried(k.name, consumer, got, want, t.Failed()) }()
	v := newVictim(t, consumer)
	if v.subject.Outside == nil {
		want.Calls, want.Keys = 0, 0
	}
	k.reach(v)
	v.aws.Faults().ExpireVisibility(schema.QueueName(consumer))
	v.process.start()
	v.eventually("the event is through", func() bool { return v.messages(v.queue.URL) == 0 })
	require.Zero(t, v.process.stop(), "a stop in order")
	got = v.subject.Tally(v.event.ID)
	require.Equal(t, want, got)
	require.Equal(t, "done", v.state())
	require.Zero(t, v.messages(v.queue.DLQURL))
}

func newVictim(t *testing.T, consumer string) *victim {
	t.Helper()
	v := &victim{T: t}
	database, role, setting := store, schema.RoleConsumers, "RESTOCK_DATABASE_URL="
	if consumer == schema.ConsumerVIP || consumer == schema.ConsumerMarketing {
		database, role, setting = customers, schema.RoleCustomers, "RESTOCK_CUSTOMERS_DATABASE_URL="
	}
	db := pgtest.NewDatabase(t, database)
	var err error
	v.db, err = pgxpool.New(t.Context(), db.DSN)
	require.NoError(t, err)
	t.Cleanup(v.db.Close)
	v.aws, err = localaws.Start(localaws.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.aws.Close()) })
	v.sqs = sqs.NewFromConfig(v.aws.AWSConfig())
	made, err := topology.Create(t.Context(), sns.NewFromConfig(v.aws.AWSConfig()), v.sqs, schema.Interests(schema.DefaultVIPThreshold))
	require.NoError(t, err)
	v.queue = made.Queues[consumer]
	v.subject = matrix.NewSubject(t, consumer, v.db, v.aws)
	v.event = v.subject.Event("G")
	env := []string{
		setting + db.RoleDSN(role, password),
		"AWS_ENDPOINT_URL=" + v.aws.URL(), "AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
	}
	if v.subject.Outside != nil {
		v.subject.Outside.Up()
		url := v.subject.Outside.URL
		env = append(env, "RESTOCK_FACTORY_API="+url, "AWS_ENDPOINT_URL_SESV2="+url, "RESTOCK_ADS_FROM=ads@restock.example",
			"RESTOCK_MARKETING_WEBHOOK_URL="+url+"/webhooks", "RESTOCK_MARKETING_SECRETS="+matrix.WebhookSecret, "RESTOCK_MARKETING_ALLOW=127.0.0.0/8")
	}
	v.process = launch(t, env, "consume", consumer, "--lease", "10m", "--log-level", "warn")
	return v
}

func beforeTheEffect(v *victim) {
	v.dies(false)
	require.Zero(v, v.subject.Tally(v.event.ID).Effects)
}

func betweenEffectAndRecord(v *victim) { v.dies(true) }

func betweenRecordAndDelete(v *victim) {
	faults := v.aws.Faults()
	cut := faults.Add(localaws.Rule{Effect: localaws.Cut, Service: "sqs", Action: "DeleteMessageBatch"})
	v.send()
	v.eventually("it cannot be deleted", func() bool { return faults.Hits(cut) > 0 })
	v.process.kill()
	require.Equal(v, "done", v.state())
	faults.Remove(cut)
}

// dies sends the event and kills the consumer in its call, before that is taken or
// after. Its lease is made to end.
func (v *victim) dies(afterTaken bool) {
	v.Helper()
	held, leave := v.subject.Hold("G", afterTaken)
	v.send()
	v.eventually("the call is held", func() bool { return held() == 1 })
	v.process.kill()
	if v.subject.Outside != nil {
		v.subject.Outside.Fail(matrix.Fault{}) // the call that is held ends with its client
	} else {
		leave()
	}
	v.eventually("its sessions are gone", func() bool {
		return v.count(`pg_stat_activity WHERE datname = current_database() AND usename IN ($1, $2)`, schema.RoleConsumers, schema.RoleCustomers) == 0
	})
	require.Equal(v, "claimed", v.state())
	_, err := v.db.Exec(v.Context(), `UPDATE inbox SET lease_until = now()`)
	require.NoError(v, err)
}

func (v *victim) send() {
	v.Helper()
	_, err := v.sqs.SendMessage(v.Context(), &sqs.SendMessageInput{
		QueueUrl: &v.queue.URL, MessageBody: &v.event.Body, MessageGroupId: &v.event.Group, MessageDeduplicationId: aws.String(v.event.ID.String()),
	})
	require.NoError(v, err)
}

// messages counts those of a queue, in flight or not.
func (v *victim) messages(url string) int {
	v.Helper()
	out, err := v.sqs.GetQueueAttributes(context.Background(), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{"All"}})
	require.NoError(v, err)
	sum := 0
	for _, name := range []string{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"} {
		n, err := strconv.Atoi(out.Attributes[name])
		require.NoError(v, err)
		sum += n
	}
	return sum
}

func (v *victim) count(from string, args ...any) (n int) {
	v.Helper()
	require.NoError(v, v.db.QueryRow(v.Context(), `SELECT count(*) FROM `+from, args...).Scan(&n))
	return n
}

// state is the event's in the inbox.
func (v *victim) state() (state string) {
	v.Helper()
	require.NoError(v, v.db.QueryRow(v.Context(), `SELECT state FROM inbox`).Scan(&state))
	return state
}

func (v *victim) eventually(what string, happened func() bool) {
	v.Helper()
	require.Eventually(v, happened, patience, 10*time.Millisecond, what)
}
