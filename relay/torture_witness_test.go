package relay_test

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
)

// summonWitness makes a slot beside the relay's that nobody confirms: it tells the
// commit order of all that there was.
func (o *ordeal) summonWitness() {
	o.exec(`SELECT pg_copy_logical_replication_slot($1, $2)`, o.slot, o.witness())
}

func (o *ordeal) witness() string { return o.slot + "_witness" }

// stream is what the witness has seen.
func (o *ordeal) stream() []committed {
	rows, err := o.pool.Query(o.ctx, `SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', $2)`,
		o.witness(), schema.Publication)
	require.NoError(o.t, err)
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(o.t, err)
	var all []committed
	var columns []string
	open := 0 // where the transaction begins
	for _, data := range messages {
		message, err := pglogrepl.Parse(data)
		require.NoError(o.t, err)
		switch m := message.(type) {
		case *pglogrepl.RelationMessage:
			columns = nil
			for _, c := range m.Columns {
				columns = append(columns, c.Name)
			}
		case *pglogrepl.InsertMessage:
			text := func(name string) string { return string(m.Tuple.Columns[slices.Index(columns, name)].Data) }
			all = append(all, committed{id: uuid.MustParse(text("id")), group: text("message_group")})
		case *pglogrepl.CommitMessage:
			for ; open < len(all); open++ {
				all[open].end = m.TransactionEndLSN
			}
		}
	}
	return all
}

func (o *ordeal) confirmedLSN() pglogrepl.LSN {
	var text string
	o.one(&text, `SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1`, o.slot)
	lsn, err := pglogrepl.ParseLSN(text)
	require.NoError(o.t, err)
	return lsn
}

func (o *ordeal) ledgerIDs() idSet {
	rows, err := o.pool.Query(o.ctx, `SELECT event_id FROM ledger`)
	require.NoError(o.t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(o.t, err)
	ledger := make(idSet, len(found))
	for _, id := range found {
		ledger[id] = true
	}
	return ledger
}

// collect gathers what the history is judged by, once nothing goes on any more.
func (o *ordeal) collect() {
	if o.relay != nil {
		_ = o.relay.stop()
	}
	<-o.written
	h := o.history
	h.stream, h.ledger, h.parked = o.stream(), o.ledgerIDs(), o.count(`parked`)
	rows, err := o.pool.Query(o.ctx, `SELECT id, message_group FROM outbox ORDER BY seq`)
	require.NoError(o.t, err)
	for rows.Next() {
		var c committed
		require.NoError(o.t, rows.Scan(&c.id, &c.group))
		h.seq = append(h.seq, c)
	}
	require.NoError(o.t, rows.Err())
	for messages := o.take(); len(messages) > 0; messages = o.take() {
		for _, m := range messages {
			h.delivered = append(h.delivered, committed{id: uuid.MustParse(m.Attributes["MessageDeduplicationId"]), group: m.Attributes["MessageGroupId"]})
		}
	}
}

// take takes messages out of the queue.
func (o *outbox) take() []sqstypes.Message {
	out, err := o.sqs.ReceiveMessage(o.ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &o.queue, MaxNumberOfMessages: 10, MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"},
	})
	require.NoError(o.t, err)
	if len(out.Messages) == 0 {
		return nil
	}
	entries := make([]sqstypes.DeleteMessageBatchRequestEntry, len(out.Messages))
	for i, m := range out.Messages {
		entries[i] = sqstypes.DeleteMessageBatchRequestEntry{Id: m.MessageId, ReceiptHandle: m.ReceiptHandle}
	}
	deleted, err := o.sqs.DeleteMessageBatch(o.ctx, &sqs.DeleteMessageBatchInput{QueueUrl: aws.String(o.queue), Entries: entries})
	require.NoError(o.t, err)
	require.Empty(o.t, deleted.Failed)
	return out.Messages
}
