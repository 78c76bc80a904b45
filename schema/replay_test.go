package schema_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
)

func TestReplayAttribute(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("0193b0c4-5a1e-7c3d-8f21-6b0a7c9d4e11")
	for text, want := range map[string]schema.Replay{
		id.String():                         {ID: id},
		id.String() + ";force":              {ID: id, Force: true},
		id.String() + ";consumer=factory":   {ID: id, Consumer: "factory"},
		id.String() + ";consumer=vip;force": {ID: id, Consumer: "vip", Force: true},
	} {
		require.Equal(t, text, want.String())
		got, err := schema.ParseReplay(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"", "yes", ";force", uuid.Nil.String(), id.String() + ";", id.String() + ";consumer=", id.String() + ";faster", id.String() + " ;force"} {
		_, err := schema.ParseReplay(text)
		require.Error(t, err, text)
	}
}

// TestDeduplicationID: a replay has its own for each event, always the same, and
// within what SNS takes.
func TestDeduplicationID(t *testing.T) {
	t.Parallel()
	e := schema.Event{ID: uuid.New()}
	require.Equal(t, e.ID.String(), e.DeduplicationID())
	e.Replay = schema.Replay{ID: uuid.New(), Consumer: "factory", Force: true}
	require.Equal(t, e.ID.String()+":"+e.Replay.ID.String(), e.DeduplicationID())
	require.LessOrEqual(t, len(e.DeduplicationID()), 128)
}
