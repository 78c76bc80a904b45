package relay

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// parkedEntries are n entries of group g that are parked, each by itself.
func parkedEntries(n int) []*entry {
	entries := published(n)
	for _, e := range entries {
		e.parked, e.reason = errors.New("no"), reasonRejected
	}
	return entries
}

// again is a parked entry once more, as a release brings it, refused for another reason.
func again(e *entry) *entry {
	return &entry{day: e.day, id: e.id, seq: e.seq, group: e.group, release: &release{group: e.group}, parked: errors.New("still no"), reason: reasonRejected}
}

// TestRefusedAfterItWasSent: an event that is being sent is refused once more. It is
// parked again where it still was being sent; where a replay or another relay has sent it
// meanwhile, or somebody has skipped it, it stays so. What is written along with it is
// written in any case.
func TestRefusedAfterItWasSent(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]string{"sending": "parked still no", "parked": "parked still no", "sent": "sent no", "skipped": "skipped no"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			l := newTestLedger(t)
			entries := parkedEntries(1)
			require.NoError(t, l.write(t.Context(), entries))
			_, err := l.pool.Exec(t.Context(), `UPDATE parked SET state = $1, resolved_at = CASE WHEN $1 IN ('sent', 'skipped') THEN now() END`, state)
			require.NoError(t, err)

			require.NoError(t, l.write(t.Context(), append(published(1), again(entries[0]))))

			require.Equal(t, []string{want}, texts(t, l, `SELECT state || ' ' || detail FROM parked`))
			require.Equal(t, []string{"parked", "published"}, texts(t, l, `SELECT outcome FROM ledger ORDER BY 1`))
		})
	}
}
