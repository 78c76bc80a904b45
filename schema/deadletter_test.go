package schema_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
)

func TestDeadLetterID(t *testing.T) {
	t.Parallel()
	event, replay := uuid.New(), uuid.New()
	queue := schema.QueueName(schema.ConsumerMarketing)
	plain := schema.DeadLetterID(event, queue, uuid.Nil, event.String())
	require.Equal(t, event.String()+":"+queue+":0", plain)
	require.Equal(t, event.String()+":"+queue+":"+replay.String(), schema.DeadLetterID(event, queue, replay, ""))

	redriven := schema.DeadLetterID(event, queue, replay, schema.Redrive{ID: uuid.New(), EventID: event}.DeduplicationID())
	other := schema.DeadLetterID(event, queue, replay, schema.Redrive{ID: uuid.New(), EventID: event}.DeduplicationID())
	require.NotEqual(t, redriven, other, "each redrive that dies is another dead letter")
	require.LessOrEqual(t, len(redriven), 128)
	for id, want := range map[string]uuid.UUID{plain: uuid.Nil, redriven: replay} {
		e, r, ok := schema.ParseDeadLetterID(id)
		require.True(t, ok, id)
		require.Equal(t, event, e)
		require.Equal(t, want, r)
	}
	for _, id := range []string{"", event.String(), "x:q:0", event.String() + ":q:", event.String() + ":q:1"} {
		_, _, ok := schema.ParseDeadLetterID(id)
		require.False(t, ok, id)
	}
}

func TestRedriveID(t *testing.T) {
	t.Parallel()
	r := schema.Redrive{ID: uuid.New(), EventID: uuid.New(), Day: time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)}
	require.LessOrEqual(t, len(r.DeduplicationID()), 128)
	read, ok := schema.ParseRedrive(r.DeduplicationID())
	require.True(t, ok)
	require.Equal(t, r, read)
	for _, id := range []string{"", r.EventID.String(), "redrive:a:b:c", "redrive:" + r.EventID.String()} {
		_, ok := schema.ParseRedrive(id)
		require.False(t, ok, id)
	}
}

func TestUnwrap(t *testing.T) {
	t.Parallel()
	text, attributes, ok := schema.Unwrap(`{"Type":"Notification","Message":"{\"a\":1}","MessageAttributes":{"replay":{"Type":"String","Value":"x"}}}`)
	require.True(t, ok)
	require.JSONEq(t, `{"a":1}`, text)
	require.Equal(t, map[string]string{"replay": "x"}, attributes)
	for _, body := range []string{"", "hello", `{"type":"Notification","message":"x"}`, `{"Type":"Other","Message":"x"}`, `{"Type":"Notification","Message":7}`} {
		_, _, ok := schema.Unwrap(body)
		require.False(t, ok, body)
	}
}
