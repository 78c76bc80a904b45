package ops_test

import (
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// 1,500 dead events of 90 groups, far more than memory may hold and than the
// queue shows at once: all are listed, and all go, in order.
func TestMany(t *testing.T) {
	const events, groups = 1500, 90
	w := setup(t, func(c *ops.DLQConfig) { c.Memory = 600 << 10 })
	w.bury(events, groups)
	require.Len(t, w.list("factory"), events)
	w.requireDead(events)

	last := make(map[string]int64)
	report, err := w.dlq.Redrive(t.Context(), everything, ops.RedriveOptions{Progress: func(p ops.Progress) {
		require.Greater(t, p.Event.Sequence, last[p.Event.Group])
		last[p.Event.Group] = p.Event.Sequence
	}})
	require.NoError(t, err)
	require.Equal(t, events, report.Count(ops.OutcomeSent))
	w.requireDead(0)
	waiting, held := w.counts(w.queue.URL)
	require.Equal(t, events, waiting+held)
	require.Equal(t, map[string]int{"failed": events}, w.states())
}

// bury puts dead events where a worker would have put them.
func (w *world) bury(events, groups int) {
	w.Helper()
	rows, err := w.owner.Query(w.Context(), `
		WITH made AS (
			SELECT gen_random_uuid() AS id, 'G' || n % $2 AS message_group FROM generate_series(1, $1) n
		), appended AS (
			INSERT INTO outbox (id, type, message_group, attributes, body)
			SELECT id, 'replenishment.requested', message_group, '{}',
			       '{"specversion":"1.0","id":"' || id || '","time":"' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') ||
			       '","type":"replenishment.requested","dataschema":"urn:restock:replenishment.requested:1","data":{},"filler":"' || repeat('x', 2000) || '"}'
			  FROM made RETURNING day, id, seq, message_group, body
		), dead AS (
			INSERT INTO inbox (day, consumer, event_id, state, attempt, last_error) SELECT day, 'factory', id, 'dead', 1, 'refused' FROM appended
		)
		SELECT id, seq, message_group, body FROM appended ORDER BY seq`, events, groups)
	require.NoError(w, err)
	var batch []sqstypes.SendMessageBatchRequestEntry
	var id uuid.UUID
	var seq int64
	var group, body string
	_, err = pgx.ForEachRow(rows, []any{&id, &seq, &group, &body}, func() error {
		text, err := schema.WithSequence(body, seq)
		if err != nil {
			return err
		}
		batch = append(batch, sqstypes.SendMessageBatchRequestEntry{
			Id: aws.String(strconv.Itoa(len(batch))), MessageBody: &text, MessageGroupId: aws.String(group),
			MessageDeduplicationId: aws.String(schema.DeadLetterID(id, schema.QueueName(schema.ConsumerFactory), uuid.Nil, "")),
		})
		if len(batch) == 10 {
			_, err = w.queues.SendMessageBatch(w.Context(), &sqs.SendMessageBatchInput{QueueUrl: &w.queue.DLQURL, Entries: batch})
			batch = nil
		}
		return err
	})
	require.NoError(w, err)
	require.Empty(w, batch)
}
