package relay

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/restock-dev/restock/schema"
)

// TestSplit: into however many shards an outbox is split, each group is in exactly one.
func TestSplit(t *testing.T) {
	t.Parallel()
	long := "restock_a_database_whose_name_is_as_long_as_a_name_may_be_here_"
	require.Len(t, long, maxName)
	for n := 1; n <= MaxShards; n++ {
		shards, names, next := split(long, "restock_outbox", n), map[string]bool{}, 0
		require.Len(t, shards, n)
		for _, s := range shards {
			require.Equal(t, next, s.First, "no gap and no overlap")
			require.GreaterOrEqual(t, s.Last, s.First)
			require.LessOrEqual(t, len(s.Slot), maxName)
			require.LessOrEqual(t, len(s.Publication), maxName)
			names[s.Slot], names[s.Publication] = true, true
			next = s.Last + 1
		}
		require.Equal(t, schema.Buckets, next)
		require.Len(t, names, 2*n)
	}
	require.Equal(t, []Shard{{"s", "p", 0, 255}}, split("s", "p", 1), "an outbox that is not split keeps its names")
	require.Equal(t, []Shard{{"s_1_of_2", "p_1_of_2", 0, 127}, {"s_2_of_2", "p_2_of_2", 128, 255}}, split("s", "p", 2))
}

func TestGroupIsInOneShard(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, MaxShards).Draw(t, "shards")
		group := rapid.StringMatching(`[!-~]{1,128}`).Draw(t, "group")
		holders := 0
		for _, s := range split("s", "p", n) {
			if s.holds(group) {
				holders++
			}
		}
		require.Equal(t, 1, holders)
	})
}

// TestParkedByShards: what is parked, and what of it is to be sent, is known to the
// relay of its shard and to no other.
func TestParkedByShards(t *testing.T) {
	t.Parallel()
	pool := TestStore(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO parked_groups (message_group, event_id, detail, failing_since, state)
		SELECT 'g-' || n, gen_random_uuid(), 'refused', now(), 'sending' FROM generate_series(1, 50) n`)
	require.NoError(t, err)
	all := map[string]bool{}
	for _, s := range split("s", "p", 4) {
		l := &ledger{pool: pool, shard: s}
		parked, err := l.parkedGroups(t.Context())
		require.NoError(t, err)
		asked, err := l.asked(t.Context(), "")
		require.NoError(t, err)
		require.Len(t, asked, len(parked.parked))
		for _, a := range asked {
			require.True(t, s.holds(a.Group))
			require.Contains(t, parked.parked, a.Group)
			all[a.Group] = true
		}
	}
	require.Len(t, all, 50)
}
