package relay_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/ops"
)

// cancel takes the sending of a group back and waits until the relay has let go of it.
func (o *outbox) cancel(group string) (parked int) {
	o.t.Helper()
	p := o.operator()
	groups, err := p.Cancel(o.ctx, ops.ParkedSelection{Groups: []string{group}})
	require.NoError(o.t, err)
	require.Equal(o.t, []string{group}, groups)
	o.eventually("the relay lets go of it", func() bool {
		left, n, err := p.Cancelling(o.ctx, groups)
		require.NoError(o.t, err)
		parked = n
		return left == 0
	})
	return parked
}

// TestReleaseCancelledWhileRefused: the last of a group is being sent, is refused, and more
// of the group waits behind it. Cancelled, all of it stays parked in its order, and what is
// skipped then does not go; sent once more the rest goes, also by the next relay.
func TestReleaseCancelledWhileRefused(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	accept := o.refuse("bad")
	run := o.start(soon)
	bad := o.commit(event("bad", 1))
	others := o.untilParked(1)
	o.settled()
	o.received(total(others))
	require.NoError(t, run.stop())
	run = o.start()
	_, err := o.operator().Cancel(o.ctx, ops.ParkedSelection{Groups: []string{"bad"}})
	require.ErrorContains(t, err, "group bad is not being sent")
	o.send("bad")
	o.eventually("it is refused", func() bool { return run.metric(t, "entry_failures_total") > 3 })
	bad = append(bad, o.commit(event("bad", 1), event("bad", 1))...)
	o.eventually("they wait behind it", func() bool { return run.PublishLag() > 0 })
	_, err = o.operator().Skip(o.ctx, ops.ParkedSelection{Events: bad[:1]}, "no")
	require.ErrorContains(t, err, "is being sent")

	o.cancel("bad")
	o.settled()
	require.Equal(t, 3, o.count(`parked WHERE state = 'parked' AND reason = 'held'`))
	require.Equal(t, 1, o.count(`parked_groups WHERE state = 'parked' AND asked_by IS NULL`))
	o.eventually("nothing is held", func() bool { return run.metric(t, "window_bytes") == 0 })
	accept()
	skipped, err := o.operator().Skip(o.ctx, ops.ParkedSelection{Events: bad[:1]}, "no")
	require.NoError(t, err)
	require.Equal(t, bad[:1], skipped)
	bad = append(bad, o.commit(event("bad", 1))...)
	o.settled()
	o.drained()
	require.NoError(t, run.stop())

	o.send("bad")
	_, err = o.operator().Cancel(o.ctx, ops.ParkedSelection{All: true})
	require.NoError(t, err)
	o.start()
	o.eventually("it is parked", func() bool { return o.count(`parked_groups WHERE state = 'parked'`) == 1 })
	o.drained()
	o.send("bad")
	require.Equal(t, bad[1:], o.received(3)["bad"])
	o.released()
}

// TestReleaseCancelledAmidIt: a long release is cancelled and asked for once more, again and
// again, while more of its group comes. Each event comes out once, in order.
func TestReleaseCancelledAmidIt(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	accept := o.refuse("bad")
	run := o.start(soon)
	bad := o.each(250, "bad")["bad"]
	others := o.untilParked(1)
	o.settled()
	o.received(total(others))
	accept()
	var got []uuid.UUID
	for range 4 {
		was := run.metric(t, "events_released_total")
		o.send("bad")
		o.eventually("some are released", func() bool { return run.metric(t, "events_released_total") > was+10 })
		_, err := o.operator().Cancel(o.ctx, ops.ParkedSelection{All: true})
		require.NoError(t, err)
		o.eventually("it is let go", func() bool { return o.count(`parked_groups WHERE state <> 'parked'`) == 0 })
		sent := o.count(`parked WHERE state = 'sent'`)
		got = append(got, o.received(sent - len(got))["bad"]...)
		o.drained()
		bad = append(bad, o.commit(event("bad", 1))...)
		if o.count(`parked_groups`) == 0 { // it was through before
			break
		}
	}
	if o.count(`parked_groups`) > 0 {
		o.send("bad")
	}
	got = append(got, o.received(len(bad) - len(got))["bad"]...)
	require.True(t, slices.Equal(bad, got))
	o.released()
	o.settled()
	o.drained()
	require.Zero(t, o.count(`parked WHERE state <> 'sent'`))
}
