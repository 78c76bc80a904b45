package relay

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
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

// parksGroup makes entries those of a group that is parked, the first one its head.
func parksGroup(entries ...*entry) {
	for _, e := range entries {
		e.parked, e.reason = errors.New("no"), reasonHeld
	}
	entries[0].trouble = &trouble{first: time.Now(), parks: true}
}

// TestGroupParkedTooLate: a relay that lost its lock writes that a group is parked, when
// the next one has published all of it. The group goes on. Only when something of it is
// then held because nobody has published it is the group parked, so that it can be sent.
func TestGroupParkedTooLate(t *testing.T) {
	t.Parallel()
	l := newTestLedger(t)
	entries := published(4)
	require.NoError(t, l.write(t.Context(), entries[:3]))
	parksGroup(entries...)

	require.NoError(t, l.write(t.Context(), entries[:3]))
	require.Empty(t, texts(t, l, `SELECT message_group FROM parked_groups UNION ALL SELECT event_id::text FROM parked`))

	require.NoError(t, l.write(t.Context(), entries[3:]))
	require.Equal(t, []string{"g parked"}, texts(t, l, `SELECT message_group || ' ' || state FROM parked_groups`))
	require.Equal(t, []string{entries[3].id.String()}, texts(t, l, `SELECT event_id::text FROM parked WHERE state = 'parked' AND reason = 'held'`))
}

// TestParkedWithoutTheLock: a relay was cut off between its decision to park and the write,
// and has lost its lock when the database answers again. What it had published it records,
// and parks nothing, neither for the first time nor once more.
func TestParkedWithoutTheLock(t *testing.T) {
	t.Parallel()
	l := newTestLedger(t)
	g, err := openGuard(t.Context(), Config{DSN: l.pool.Config().ConnString(), Slot: "slot", Publication: "publication", SenderTimeout: 3 * time.Second}, nil)
	require.NoError(t, err)
	t.Cleanup(g.close)
	l.held = g.held
	watched := make(chan error)
	go func() { watched <- g.watch(t.Context(), func() {}) }()
	entries := append(parkedEntries(1), published(3)...)
	require.Eventually(t, g.watched.Load, 10*time.Second, time.Millisecond)
	require.NoError(t, l.record(t.Context(), entries[:1]))
	_, err = l.pool.Exec(t.Context(), `UPDATE parked SET state = 'sending'`)
	require.NoError(t, err)

	_, err = l.pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'slot_guard' AND datname = current_database()`)
	require.NoError(t, err)
	require.Error(t, <-watched)
	require.Eventually(t, func() bool { return !g.holds(time.Now()) }, 10*time.Second, time.Millisecond)
	parksGroup(entries[1:3]...)
	require.ErrorIs(t, l.record(t.Context(), append(entries[1:], again(entries[0]))), errLockLost)

	require.Equal(t, []string{"sending no"}, texts(t, l, `SELECT state || ' ' || detail FROM parked`))
	require.Empty(t, texts(t, l, `SELECT message_group FROM parked_groups`))
	require.Equal(t, []string{entries[3].id.String()}, texts(t, l, `SELECT event_id::text FROM ledger WHERE outcome = 'published'`))
}

// TestParkedWhenTheLockIsSure: as long as it may still be held, what is parked waits for that
// to be sure.
func TestParkedWhenTheLockIsSure(t *testing.T) {
	t.Parallel()
	l := newTestLedger(t)
	tries := 0
	l.held = func() error {
		if tries++; tries < 3 {
			return errLockUnsure
		}
		return nil
	}
	require.NoError(t, l.record(t.Context(), parkedEntries(2)))
	require.Equal(t, 3, tries)
	require.Len(t, texts(t, l, `SELECT event_id::text FROM parked`), 2)
}

// TestGroupParkedByWhatWasReleased: events that were parked by themselves are being sent,
// and park their group. What of them a replay has sent stays sent; the group is parked
// with the rest, and is not where nothing is left.
func TestGroupParkedByWhatWasReleased(t *testing.T) {
	t.Parallel()
	for sent, want := range map[int][]string{0: {"parked held", "parked held"}, 1: {"sent rejected", "parked held"}, 2: {"sent rejected", "sent rejected"}} {
		t.Run(fmt.Sprint(sent), func(t *testing.T) {
			t.Parallel()
			l := newTestLedger(t)
			entries := parkedEntries(2)
			require.NoError(t, l.write(t.Context(), entries))
			_, err := l.pool.Exec(t.Context(), `UPDATE parked SET state = CASE WHEN place > $1 THEN 'sending' ELSE 'sent' END,
				resolved_at = CASE WHEN place <= $1 THEN now() END`, sent)
			require.NoError(t, err)
			released := []*entry{again(entries[0]), again(entries[1])}
			parksGroup(released...)

			require.NoError(t, l.write(t.Context(), released))

			require.Equal(t, want, texts(t, l, `SELECT state || ' ' || reason FROM parked ORDER BY place`))
			require.Equal(t, sent < 2, len(texts(t, l, `SELECT message_group FROM parked_groups WHERE state = 'parked'`)) == 1)
		})
	}
}

// TestAskedReadsNothingElse: what is to be sent is asked for each second. Of what is parked
// nothing is read for that, whether the tables were analyzed or not.
func TestAskedReadsNothingElse(t *testing.T) {
	t.Parallel()
	l := newTestLedger(t)
	l.shard = wholeOutbox("slot", "publication")
	_, err := l.pool.Exec(t.Context(), `INSERT INTO parked (day, event_id, message_group, seq, reason, detail, state)
		SELECT (now() AT TIME ZONE 'UTC')::date, gen_random_uuid(), 'g' || i % 100, i, 'rejected', 'no', CASE WHEN i > 20000 THEN 'sending' ELSE 'parked' END
		FROM generate_series(1, 20003) i`)
	require.NoError(t, err)
	for _, before := range []string{``, `ANALYZE parked`} {
		_, err = l.pool.Exec(t.Context(), before)
		require.NoError(t, err)
		all, err := l.asked(t.Context(), "")
		require.NoError(t, err)
		require.Len(t, all, 3)
		for _, line := range texts(t, l, `EXPLAIN (ANALYZE) `+askedQuery, maxAsked, 0, schema.Buckets-1, "") {
			require.NotContains(t, line, "Rows Removed by Filter")
		}
	}
}

// TestLoadsWhatIsPublished: what is released and what is replayed is read from the table
// that is published, whatever its name.
func TestLoadsWhatIsPublished(t *testing.T) {
	t.Parallel()
	l := newTestLedger(t)
	l.table, l.shard = pgx.Identifier{"public", "Bob's \"outbox\""}, wholeOutbox("slot", "publication")
	entries, replay := parkedEntries(1), uuid.New()
	require.NoError(t, l.write(t.Context(), entries))
	exec := func(sql string, args ...any) {
		_, err := l.pool.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	exec(`UPDATE parked SET state = 'sending'`)
	exec(`CREATE TABLE ` + l.table.Sanitize() + ` (LIKE outbox INCLUDING DEFAULTS)`)
	exec(`INSERT INTO `+l.table.Sanitize()+` (day, id, seq, type, message_group, attributes, body)
		VALUES ($1, $2, 7, 'some.type', 'g', '{}', '{"specversion":"1.0"}')`, entries[0].day, entries[0].id)
	exec(`INSERT INTO replays (id, selection, events, rate, asked_by) VALUES ($1, '{}', 1, 0, 'somebody')`, replay)
	exec(`INSERT INTO replay_items (replay_id, place, day, event_id) VALUES ($1, 1, $2, $3)`, replay, entries[0].day, entries[0].id)

	loaded, _, err := l.load(t.Context(), &release{group: "g"}, false, loadEvents)
	require.NoError(t, err)
	items, err := l.items(t.Context(), replay, 0, 1)
	require.NoError(t, err)

	for _, e := range append(loaded, items...) {
		event, err := e.event()
		require.NoError(t, err)
		require.NoError(t, e.parked)
		require.Equal(t, entries[0].id, event.ID)
		require.Equal(t, "some.type", event.Type)
	}
	require.Len(t, append(loaded, items...), 2)
}
