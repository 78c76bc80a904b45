package relay_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// TestReplayRefusedAlone: all that is left of a replay is one group that SNS refuses, and
// nothing else is published that would tell that from an outage. It ends by itself, each
// event with its error, and the replay behind it goes.
func TestReplayRefusedAlone(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.start(soon)
	want := o.each(30, "bad", "good")
	o.received(30)
	o.settled()
	o.refuse("bad")
	r := o.replays()
	id := o.replay(r, 0, ops.ReplaySelection{Groups: []string{"bad"}})
	next := o.replay(r, 0, ops.ReplaySelection{Groups: []string{"good"}})
	require.Equal(t, int64(15), o.awaitReplay(r, id, "done").Failed)
	require.Zero(t, o.awaitReplay(r, next, "done").Failed)
	require.Equal(t, map[string]map[string][]uuid.UUID{next.String(): {"good": want["good"]}}, o.copies(15))
	failures, err := r.Failures(o.ctx, id, 1)
	require.NoError(t, err)
	require.Contains(t, failures[0].Error, "InternalError")
}

// TestReleaseRefusedAlone: a parked group that SNS still refuses is sent in an idle shop.
// It is parked again by itself, in its order.
func TestReleaseRefusedAlone(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	bad, _, accept := o.parksBad(3)
	report := o.send("bad")
	o.eventually("it is parked again", func() bool { return o.count(`parked_groups WHERE state = 'parked'`) == 1 })
	at, err := o.operator().Sending(o.ctx, report)
	require.NoError(t, err)
	require.Equal(t, ops.SendProgress{Parked: 3, Done: true}, at)
	bad = append(bad, o.commit(event("bad", 1))...)
	o.settled()

	accept()
	o.send("bad")
	require.Equal(t, bad, o.received(4)["bad"])
	o.released()
}

// TestEventRefusedAlone: an event that was parked by itself is sent by itself, and refused
// for now. It is parked by itself again, and what comes of its group is not.
func TestEventRefusedAlone(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	never := o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Group: "bad", Code: "InvalidParameter", SenderFault: true})
	o.start(soon)
	bad := o.commit(event("bad", 1))
	o.settled()
	accept := o.refuse("bad")
	o.aws.Faults().Remove(never)
	report, err := o.operator().Send(o.ctx, ops.ParkedSelection{Events: bad}, false)
	require.NoError(t, err)
	o.eventually("it is parked again", func() bool {
		at, err := o.operator().Sending(o.ctx, report)
		return err == nil && at == ops.SendProgress{Parked: 1, Done: true}
	})
	require.Equal(t, 1, o.count(`parked WHERE state = 'parked' AND reason = 'rejected' AND detail LIKE 'InternalError%'`))
	require.Zero(t, o.count(`parked_groups`))
	accept()
	after := o.commit(event("bad", 1))
	require.Equal(t, after, o.received(1)["bad"])
}

// TestAloneInAnOutage: while SNS answers nothing, a replay and a release that are alone go
// on being tried, and give nothing up.
func TestAloneInAnOutage(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	bad, run, accept := o.parksBad(3)
	good := o.commit(event("good", 1))
	o.received(1)
	o.settled()
	require.NoError(t, run.stop())
	accept()
	back := o.refuseAll()
	run = o.start(func(c *relay.Config) { c.HoldAfter = time.Nanosecond })
	tried := func() {
		was := run.metric(t, "publish_failures_total")
		o.eventually("it is tried", func() bool { return run.metric(t, "publish_failures_total") > was+10 })
	}
	o.send("bad")
	tried()
	r := o.replays()
	id := o.replay(r, 0, ops.ReplaySelection{Groups: []string{"good"}})
	tried()
	back()
	require.Zero(t, o.awaitReplay(r, id, "done").Failed)
	o.released()
	require.Equal(t, map[string]map[string][]uuid.UUID{"": {"bad": bad}, id.String(): {"good": good}}, o.copies(4))
}

// TestRefusedReleasesHoldNoOther: more groups are sent than are loaded at once, and SNS
// refuses all but the last. That one goes all the same, and so does what comes meanwhile.
func TestRefusedReleasesHoldNoOther(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	var events []schema.Event
	for i := range 20 {
		group := fmt.Sprintf("bad-%02d", i)
		o.refuse(group)
		events = append(events, event(group, 1), event(group, 1))
	}
	events = append(events, event("good", 1), event("good", 1), event("good", 1))
	for _, e := range events {
		o.exec(`INSERT INTO parked_groups (message_group, event_id, detail, failing_since) VALUES ($1, gen_random_uuid(), 'no', now()) ON CONFLICT DO NOTHING`, e.Group)
	}
	ids := o.commit(events...)
	o.start()
	o.settled()
	_, err := o.operator().Send(o.ctx, ops.ParkedSelection{All: true}, false)
	require.NoError(t, err)
	require.Equal(t, ids[40:], o.received(3)["good"])
	after := o.commit(event("good", 1), event("live", 1))
	require.Equal(t, map[string][]uuid.UUID{"good": after[:1], "live": after[1:]}, o.received(2))
	o.eventually("it is released", func() bool { return o.count(`parked_groups WHERE message_group = 'good'`) == 0 })
	require.Equal(t, 20, o.count(`parked_groups WHERE state = 'sending'`))
}
