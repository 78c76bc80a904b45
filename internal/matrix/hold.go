package matrix

import (
	"context"
	"net/http"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
)

// hold keeps requests waiting, before they are taken or after.
type hold struct {
	afterTaken bool
	entered    chan struct{} // one for each that was held
	leave      chan struct{} // closed, it lets all go on
}

// keep waits, and ends the request where its client is gone.
func (h *hold) keep(r *http.Request) {
	h.entered <- struct{}{}
	select {
	case <-h.leave:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// Hold keeps attempts at an event of the group in their call, before it is taken
// or after. A consumer that calls nothing is kept where it writes its effect. held
// counts the attempts that have come there; leave lets them go on.
func (s *Subject) Hold(group string, afterTaken bool) (held func() int, leave func()) {
	s.t.Helper()
	if s.Outside != nil {
		h := &hold{afterTaken: afterTaken, entered: make(chan struct{}, 100), leave: make(chan struct{})}
		s.Outside.Fail(Fault{hold: h})
		return func() int { return len(h.entered) }, func() { close(h.leave) }
	}
	require.False(s.t, afterTaken, "its effect is not taken before it is recorded")
	blocker, err := s.db.Begin(s.t.Context())
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = blocker.Rollback(context.Background()) }) // the test may have ended it
	_, err = blocker.Exec(s.t.Context(), `INSERT INTO customers (id) VALUES ($1)`, group)
	require.NoError(s.t, err)
	held = s.counting(`pg_stat_activity WHERE datname = current_database() AND usename = '` + schema.RoleCustomers + `' AND wait_event_type = 'Lock'`)
	return held, func() { require.NoError(s.t, blocker.Rollback(s.t.Context())) }
}
