package ops_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// parked makes a database in which group g is parked with two events, behind one
// that was rejected alone, and h has one that was; no relay is at work.
func parked(t *testing.T) (w *world, p *ops.Parked, g []uuid.UUID, h uuid.UUID) {
	t.Helper()
	t.Parallel()
	w = &world{T: t}
	db := pgtest.NewDatabase(t, store)
	w.owner = w.connect(db.DSN)
	ids := make([]uuid.UUID, 4)
	for i, group := range []string{"g", "g", "g", "h"} {
		e := w.append(group)
		ids[i] = e.ID
		reason := "held"
		if i%3 == 0 {
			reason = "rejected"
		}
		_, err := w.owner.Exec(t.Context(), `INSERT INTO parked (day, event_id, message_group, seq, reason, detail) VALUES ($1, $2, $3, $4, $5, 'sig=secret')`,
			e.Day, e.ID, group, e.Seq, reason)
		require.NoError(t, err)
	}
	_, err := w.owner.Exec(t.Context(), `INSERT INTO parked_groups (message_group, event_id, detail, failing_since) VALUES ('g', $1, 'no', now())`, ids[1])
	require.NoError(t, err)
	return w, ops.NewParked(w.connect(db.RoleDSN(schema.RoleMaintenance, password)), "me", zerolog.Nop()), ids[:3], ids[3]
}

func (w *world) parkedStates() (states []string) {
	w.Helper()
	require.NoError(w, w.owner.QueryRow(w.Context(), `SELECT array_agg(state ORDER BY place) FROM parked`).Scan(&states))
	return states
}

// TestSendParked: a group goes whole, with what of it was parked alone, and an
// event that was parked alone by itself; what is named and not there is told.
func TestSendParked(t *testing.T) {
	w, p, g, h := parked(t)
	for _, s := range []ops.ParkedSelection{{}, {All: true, Groups: []string{"g"}}, {Groups: []string{"g"}, Events: g}} {
		_, err := p.Send(t.Context(), s, false)
		require.ErrorContains(t, err, "only one of these")
	}
	_, err := p.Send(t.Context(), ops.ParkedSelection{Events: g[1:2]}, false)
	require.ErrorContains(t, err, "held with its group g")
	require.Equal(t, []string{"parked", "parked", "parked", "parked"}, w.parkedStates())

	r, err := p.Send(t.Context(), ops.ParkedSelection{Groups: []string{"g", "x"}}, true)
	require.NoError(t, err)
	require.Equal(t, []string{"x"}, r.Missing)
	require.Equal(t, []ops.SentGroup{{Group: "g", Whole: true, Events: g, Overtaken: []uuid.UUID{}}}, r.Groups)
	require.Equal(t, []string{"parked", "parked", "parked", "parked"}, w.parkedStates())

	r, err = p.Send(t.Context(), ops.ParkedSelection{All: true}, false)
	require.NoError(t, err)
	require.Equal(t, 4, r.Count())
	require.Equal(t, []string{"sending", "parked", "parked", "sending"}, w.parkedStates(), "the held ones go with their group")
	at, err := p.Sending(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, ops.SendProgress{Left: 4}, at)
	for _, s := range []ops.ParkedSelection{{All: true}, {Groups: []string{"g", "h"}}} { // once more: there is no less to wait for
		r, err = p.Send(t.Context(), s, false)
		require.NoError(t, err)
		require.Equal(t, []int{2, 2}, []int{r.Count(), r.Sending})
		require.Empty(t, r.Missing)
		at, err = p.Sending(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, ops.SendProgress{Left: 4}, at)
	}
	r, err = p.Send(t.Context(), ops.ParkedSelection{Events: []uuid.UUID{h}}, false)
	require.NoError(t, err)
	require.Equal(t, []int{0, 1}, []int{r.Count(), r.Sending})
	require.Empty(t, r.Missing)
	list, err := p.List(t.Context(), ops.Cursor{})
	require.NoError(t, err)
	require.Len(t, list.Items, 2)
	for _, group := range list.Items {
		require.True(t, group.Sending)
		require.Equal(t, "me", group.AskedBy)
	}
	_, err = p.Skip(t.Context(), ops.ParkedSelection{Groups: []string{"g"}}, "x")
	require.ErrorContains(t, err, "being sent")
	_, err = p.Skip(t.Context(), ops.ParkedSelection{Events: []uuid.UUID{h}}, "x")
	require.ErrorIs(t, err, ops.ErrNotParked, "it is being sent")
}

// TestSendReadsBeforeItLocks: which events are overtaken is read while nothing is locked,
// because the relay that writes of the same events waits for a lock.
func TestSendReadsBeforeItLocks(t *testing.T) {
	w, p, _, _ := parked(t)
	reading, err := w.owner.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = reading.Rollback(t.Context()) }()
	_, err = reading.Exec(t.Context(), `LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	sent := make(chan error, 1)
	go func() {
		_, err := p.Send(t.Context(), ops.ParkedSelection{All: true}, true)
		sent <- err
	}()
	require.Eventually(t, func() bool {
		var waits bool
		require.NoError(t, w.owner.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits))
		return waits
	}, patience, 10*time.Millisecond)
	for _, table := range []string{"parked_groups", "parked"} {
		_, err = w.owner.Exec(t.Context(), `SELECT FROM `+table+` FOR UPDATE NOWAIT`)
		require.NoError(t, err)
	}
	require.NoError(t, reading.Rollback(t.Context()))
	require.NoError(t, <-sent)
}

// TestSkipParked: a group stays parked until the last held event is skipped.
func TestSkipParked(t *testing.T) {
	w, p, g, _ := parked(t)
	groupState := func() (state string) {
		require.NoError(t, w.owner.QueryRow(t.Context(), `SELECT state FROM parked_groups`).Scan(&state))
		return state
	}
	_, err := p.Skip(t.Context(), ops.ParkedSelection{Events: g[:1]}, "")
	require.ErrorContains(t, err, "a reason is needed")
	_, err = p.Skip(t.Context(), ops.ParkedSelection{Events: g[:2]}, "why")
	require.NoError(t, err)
	require.Equal(t, []string{"skipped", "skipped", "parked", "parked"}, w.parkedStates())
	require.Equal(t, "parked", groupState())
	skipped, err := p.Skip(t.Context(), ops.ParkedSelection{Groups: []string{"g"}}, "why")
	require.NoError(t, err)
	require.Equal(t, g[2:], skipped)
	require.Equal(t, "sending", groupState(), "the relay is asked to let it go on")

	d, err := p.Show(t.Context(), g[0])
	require.NoError(t, err)
	require.Equal(t, []string{"skipped", "why", "me"}, []string{d.State, d.Note, d.AskedBy})
	require.NotContains(t, d.Body+d.Attributes, "secret")
	_, err = p.Show(t.Context(), uuid.New())
	require.ErrorIs(t, err, ops.ErrNotParked)
}

// TestSkipWhatIsLost: events are being sent, and some of them are not in the outbox any
// more. Those can be skipped, by themselves, and nothing else that is being sent.
func TestSkipWhatIsLost(t *testing.T) {
	w, p, g, h := parked(t)
	lose := func(ids ...uuid.UUID) {
		_, err := w.owner.Exec(t.Context(), `DELETE FROM outbox WHERE id = ANY($1)`, ids)
		require.NoError(t, err)
	}
	skip := func(s ops.ParkedSelection) ([]uuid.UUID, error) { return p.Skip(t.Context(), s, "it is lost") }
	_, err := p.Send(t.Context(), ops.ParkedSelection{All: true}, false)
	require.NoError(t, err)
	require.Equal(t, []string{"sending", "parked", "parked", "sending"}, w.parkedStates())
	lose(g[1], h)
	for _, s := range []ops.ParkedSelection{{All: true}, {Groups: []string{"g"}}, {Events: g[1:3]}, {Events: g[:1]}, {Events: g[2:3]}} {
		_, err := skip(s)
		require.ErrorContains(t, err, "group g is being sent", s)
	}
	require.Equal(t, []string{"sending", "parked", "parked", "sending"}, w.parkedStates())

	skipped, err := skip(ops.ParkedSelection{Events: []uuid.UUID{g[1], h}})
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{g[1], h}, skipped)
	require.Equal(t, []string{"sending", "skipped", "parked", "skipped"}, w.parkedStates())
	lose(g[0], g[2])
	_, err = skip(ops.ParkedSelection{Groups: []string{"g"}})
	require.NoError(t, err)
	require.Equal(t, []string{"skipped", "skipped", "skipped", "skipped"}, w.parkedStates())
	var state string
	require.NoError(t, w.owner.QueryRow(t.Context(), `SELECT state FROM parked_groups`).Scan(&state))
	require.Equal(t, "sending", state, "the relay ends what it has begun")
}
