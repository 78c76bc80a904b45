package consumers_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/schema"
)

func (w *world) inboxRows(event uuid.UUID) (n int) {
	w.Helper()
	require.NoError(w, w.owner.QueryRow(w.Context(), `SELECT count(*) FROM inbox WHERE event_id = $1`, event).Scan(&n))
	return n
}

// TestReplay: who handled an event skips its replay and leaves no row; forced, it
// handles it once, however often the replay is delivered; a replay for another
// consumer is not its affair.
func TestReplay(t *testing.T) {
	forced, id := forced(uuid.New()), uuid.New()
	for name, test := range map[string]struct {
		replays []schema.Replay
		handled []uuid.UUID // by replay id
		rows    int
	}{
		"plain":                  {[]schema.Replay{{ID: id}, {ID: id}}, []uuid.UUID{uuid.Nil}, 1},
		"forced":                 {[]schema.Replay{forced, forced}, []uuid.UUID{uuid.Nil, forced.ID}, 2},
		"for another":            {[]schema.Replay{{ID: id, Consumer: "ads", Force: true}}, []uuid.UUID{uuid.Nil}, 1},
		"for this one":           {[]schema.Replay{{ID: id, Consumer: "factory", Force: true}}, []uuid.UUID{uuid.Nil, id}, 2},
		"plain, after a forced":  {[]schema.Replay{forced, {ID: id}}, []uuid.UUID{uuid.Nil, forced.ID}, 2},
		"forced by two, in turn": {[]schema.Replay{forced, {ID: id, Force: true}}, []uuid.UUID{uuid.Nil, forced.ID, id}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t)
			e := w.event("G")
			for _, r := range test.replays {
				w.publish(e, r)
			}
			r := &recorder{}
			w.start(r)
			w.awaitEmpty()
			var handled []uuid.UUID
			for _, d := range r.seen() {
				handled = append(handled, d.ReplayID)
			}
			require.Equal(t, test.handled, handled)
			require.Equal(t, test.rows, w.inboxRows(e.ID))
		})
	}
}

// TestReplayComesFirst: an event that its consumer knows by a replay only is not
// handled again when it comes by itself.
func TestReplayComesFirst(t *testing.T) {
	w := setup(t)
	e := w.append(w.replenishment("G"))
	w.publish(e, schema.Replay{ID: uuid.New()})
	w.publish(e)
	r := &recorder{}
	w.start(r)
	w.awaitEmpty()
	require.Len(t, r.seen(), 1)
	require.Equal(t, 1, w.inboxRows(e.ID))
}

// TestReplayOfADeadEvent: an event that died is handled by a replay. Redriven after
// that it is not handled again, and its row is ended.
func TestReplayOfADeadEvent(t *testing.T) {
	w := setup(t)
	e := w.event("G")
	r := &recorder{fail: func(d consumers.Delivery) error {
		if d.ReplayID == uuid.Nil {
			return consumers.Permanent(errOops)
		}
		return nil
	}}
	w.start(r)
	w.awaitEmpty()
	require.Equal(t, "dead", w.inbox(e.ID, uuid.Nil).state)
	replay := uuid.New()
	w.publish(e, schema.Replay{ID: replay})
	w.awaitEmpty()
	require.Equal(t, "done", w.inbox(e.ID, replay).state)
	_, err := w.owner.Exec(t.Context(), `UPDATE inbox SET state = 'failed', attempt = 0 WHERE state = 'dead'`)
	require.NoError(t, err)
	w.publish(e)
	w.awaitEmpty()
	require.Len(t, r.seen(), 1, "by the replay")
	require.Equal(t, row{state: "done", lastError: w.inbox(e.ID, uuid.Nil).lastError, effect: "handled before"}, w.inbox(e.ID, uuid.Nil))
}
