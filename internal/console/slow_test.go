package console_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/console"
)

// hurry starts the console again with a server that gives a client little time to send,
// which what goes on for longer must lift.
func (w *world) hurry() {
	w.Helper()
	w.stop()
	w.readTimeout = 200 * time.Millisecond
	w.serve()
}

// answer is what a request came to.
type answer struct {
	status int
	body   string
}

// whileLocked asks while somebody holds what is parked, for at least as long as the
// server's own bounds, and lets go then.
func (w *world) whileLocked(ask func() (int, string), longer time.Duration) chan answer {
	w.Helper()
	tx, err := w.store.Begin(w.Context())
	require.NoError(w, err)
	_, err = tx.Exec(w.Context(), `LOCK parked, parked_groups`)
	require.NoError(w, err)
	answered := make(chan answer, 1)
	go func() {
		defer close(answered) // also where there was no answer
		status, body := ask()
		answered <- answer{status, body}
	}()
	require.Eventually(w, func() bool {
		return w.count(`pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() AND clock_timestamp() - query_start > $1::interval`, longer) > 0 || len(answered) > 0
	}, patience, 10*time.Millisecond)
	require.NoError(w, tx.Rollback(w.Context()))
	return answered
}

// TestASlowAnswerIsGiven: a request that waits for longer than the server's bounds is
// answered all the same, and its client not left without a word.
func TestASlowAnswerIsGiven(t *testing.T) {
	w := setup(t)
	e := w.park("A")
	w.hurry()
	send := func() (int, string) {
		return w.call("POST", "/api/parked/send", object{"groups": []string{e.Group}, "reason": "x"})
	}
	got := <-w.whileLocked(send, 600*time.Millisecond)
	require.Equal(t, http.StatusOK, got.status, got.body)
	require.Equal(t, 1, w.count(`parked WHERE state = 'sending'`))
}

// TestTooLong: a request that takes longer than it may ends, and says so; nothing of it
// stays.
func TestTooLong(t *testing.T) {
	w := setup(t, func(c *console.Config) { c.Within, c.Longest = 100*time.Millisecond, 150*time.Millisecond })
	e := w.park("A")
	for path, body := range map[string]object{
		"/api/parked/send": {"groups": []string{e.Group}, "reason": "x"}, "/api/replays/plan": {"parked": true}, "/api/replays": {"parked": true},
	} {
		got := <-w.whileLocked(func() (int, string) { return w.call("POST", path, body) }, time.Hour)
		require.Equal(t, http.StatusServiceUnavailable, got.status, "%s: %s", path, got.body)
		require.Contains(t, got.body, "not done within 1", path)
	}
	require.Equal(t, 1, w.count(`parked WHERE state = 'parked'`))
	require.Zero(t, w.count(`replays`))
	w.stop()
	require.Eventually(t, func() bool {
		return w.count(`pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 0
	}, patience, time.Millisecond)
}
