package localaws

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func fifoQueue(t require.TestingT, attributes map[string]string) *queue {
	settings, err := queueSettings{}.merge(attributes, true)
	require.NoError(t, err)
	return newQueue("q.fifo", "arn:aws:sqs:r:0:q.fifo", "http://localhost/0/q.fifo", settings, epoch)
}

func (q *queue) mustSend(now time.Time, group, body string) {
	q.send(now, newMessage{group: group, body: body, dedup: body})
}

func bodiesOf(messages []*message) []string {
	var out []string
	for _, m := range messages {
		out = append(out, m.body)
	}
	return out
}

func TestQueueRetention(t *testing.T) {
	t.Parallel()
	q := fifoQueue(t, map[string]string{"MessageRetentionPeriod": "60"})
	q.mustSend(epoch, "g", "a")
	q.mustSend(epoch.Add(10*time.Second), "g", "b")
	got, _, err := q.receive(epoch.Add(20*time.Second), 1, time.Hour, 0)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, bodiesOf(got))

	q.advance(epoch.Add(60 * time.Second))
	require.Zero(t, q.inFlight, "retention takes messages in flight too")
	got, _, err = q.receive(epoch.Add(60*time.Second), 10, time.Hour, 0)
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, bodiesOf(got), "and unblocks the group")

	q.advance(epoch.Add(70 * time.Second))
	require.Empty(t, q.messages)
	require.Empty(t, q.lanes)
}

func TestQueueDedupWindow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		attributes map[string]string
		after      time.Duration
		group      string
		accepted   bool
	}{
		{"inside", nil, dedupPeriod - 1, "a", false},
		{"over", nil, dedupPeriod, "a", true},
		{"another group, scope queue", nil, 0, "b", false},
		{"another group, scope group", map[string]string{"DeduplicationScope": "messageGroup"}, 0, "b", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q := fifoQueue(t, c.attributes)
			first := q.send(epoch, newMessage{group: "a", dedup: "d", body: "x"})
			q.purge(epoch)
			again := q.send(epoch.Add(c.after), newMessage{group: c.group, dedup: "d", body: "x"})
			require.Equal(t, c.accepted, first != again)
		})
	}
}

func TestQueueHandles(t *testing.T) {
	t.Parallel()
	q := fifoQueue(t, nil)
	q.mustSend(epoch, "g", "m")
	got, _, err := q.receive(epoch, 1, 30*time.Second, 0)
	require.NoError(t, err)
	handle := q.handle(got[0])

	require.ErrorContains(t, q.changeVisibility(epoch, handle, maxVisibility+time.Second), "43200")
	require.NoError(t, q.changeVisibility(epoch.Add(20*time.Second), handle, 30*time.Second))
	require.ErrorContains(t, q.changeVisibility(epoch.Add(40*time.Second), handle, maxVisibility), "43200", "extending does not restart the 12 hours")
	require.Equal(t, 1, q.inFlight)

	require.ErrorIs(t, q.changeVisibility(epoch.Add(50*time.Second), handle, time.Second), errNotInFlight)
	require.ErrorContains(t, q.delete(epoch.Add(50*time.Second), handle), "expired")
	require.Len(t, q.messages, 1)

	other := fifoQueue(t, nil)
	require.ErrorContains(t, other.delete(epoch, handle), "not valid for this queue")
}

func TestQueueOverLimit(t *testing.T) {
	t.Parallel()
	q := fifoQueue(t, nil)
	q.maxInFlight = 3
	for i := range 5 {
		q.mustSend(epoch, fmt.Sprint("g", i), fmt.Sprint(i))
	}
	got, _, err := q.receive(epoch, 10, time.Minute, 0)
	require.NoError(t, err)
	require.Len(t, got, 3)
	_, _, err = q.receive(epoch, 1, time.Minute, 0)
	require.ErrorIs(t, err, errOverLimit)
}

func TestQueueDeadLettersAtReceive(t *testing.T) {
	t.Parallel()
	q := fifoQueue(t, nil)
	for _, body := range []string{"a", "b"} {
		q.mustSend(epoch, "g", body)
	}
	got, _, err := q.receive(epoch, 1, time.Second, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, bodiesOf(got))
	got, dead, err := q.receive(epoch.Add(time.Second), 10, time.Second, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, bodiesOf(dead))
	require.Equal(t, []string{"b"}, bodiesOf(got))
}

func TestQueueSignalsWaiters(t *testing.T) {
	t.Parallel()
	signalled := func(q *queue, do func()) bool {
		wake := q.waiter()
		do()
		select {
		case <-wake:
			return true
		default:
			return false
		}
	}
	q := fifoQueue(t, nil)
	require.True(t, signalled(q, func() { q.mustSend(epoch, "g", "a") }))
	require.False(t, signalled(q, func() { q.mustSend(epoch, "g", "b") }), "the group is ready already")
	got, _, _ := q.receive(epoch, 1, time.Minute, 0)
	require.False(t, signalled(q, func() { q.mustSend(epoch, "g", "c") }), "the group is blocked")
	require.True(t, signalled(q, func() { require.NoError(t, q.changeVisibility(epoch, q.handle(got[0]), time.Second)) }), "the next expiry came nearer")
	require.True(t, signalled(q, func() { q.advance(epoch.Add(time.Second)) }), "the head expired")
}

// modelMessage and model are the FIFO queue at its simplest: one list, searched from the front.
type modelMessage struct {
	group, body string
	visibleAt   time.Time
	inFlight    bool
}

type model struct{ messages []*modelMessage }

func (m *model) advance(now time.Time) {
	for _, msg := range m.messages {
		if msg.inFlight && !msg.visibleAt.After(now) {
			msg.inFlight = false
		}
	}
}

func (m *model) blocked(group string) bool {
	return slices.ContainsFunc(m.messages, func(o *modelMessage) bool { return o.group == group && o.inFlight })
}

// ofGroup returns the bodies that a receive may take from a group, in order.
func (m *model) ofGroup(group string) []string {
	var out []string
	for _, o := range m.messages {
		if o.group == group {
			out = append(out, o.body)
		}
	}
	return out
}

func (m *model) find(body string) int {
	return slices.IndexFunc(m.messages, func(o *modelMessage) bool { return o.body == body })
}

func (m *model) receivable() int {
	n := 0
	for _, o := range m.messages {
		if !m.blocked(o.group) {
			n++
		}
	}
	return n
}

// TestQueueAgainstModel drives the queue at random. What it hands out must be what the model allows: never from a blocked
// group, always a group's oldest in order, and as many as there are.
func TestQueueAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q, m, now, n := fifoQueue(t, nil), &model{}, epoch, 0
		handles := map[string]string{}
		step := map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				n++
				group, body := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "group"), fmt.Sprintf("m%d", n)
				q.mustSend(now, group, body)
				m.messages = append(m.messages, &modelMessage{group: group, body: body})
			},
			"receive": func(t *rapid.T) {
				want := rapid.IntRange(1, 10).Draw(t, "max")
				timeout := time.Duration(rapid.IntRange(1, 5).Draw(t, "timeout")) * time.Second
				got, _, err := q.receive(now, want, timeout, 0)
				require.NoError(t, err)
				require.Len(t, got, min(want, m.receivable()))
				byGroup := map[string][]string{}
				for _, msg := range got {
					require.False(t, m.blocked(msg.group), "%s of a blocked group", msg.body)
					byGroup[msg.group] = append(byGroup[msg.group], msg.body)
					handles[msg.body] = q.handle(msg)
				}
				for group, bodies := range byGroup {
					require.Equal(t, m.ofGroup(group)[:len(bodies)], bodies)
				}
				for _, msg := range got {
					o := m.messages[m.find(msg.body)]
					o.inFlight, o.visibleAt = true, now.Add(timeout)
				}
			},
			"delete": func(t *rapid.T) {
				if body, ok := anyHandle(t, handles); ok {
					i := m.find(body)
					inFlight := i >= 0 && m.messages[i].inFlight
					err := q.delete(now, handles[body])
					require.Equal(t, inFlight || i < 0, err == nil)
					if inFlight {
						m.messages = slices.Delete(m.messages, i, i+1)
					}
				}
			},
			"change visibility": func(t *rapid.T) {
				if body, ok := anyHandle(t, handles); ok {
					timeout := time.Duration(rapid.IntRange(0, 5).Draw(t, "timeout")) * time.Second
					i := m.find(body)
					inFlight := i >= 0 && m.messages[i].inFlight
					require.Equal(t, inFlight, q.changeVisibility(now, handles[body], timeout) == nil)
					if inFlight {
						m.messages[i].inFlight, m.messages[i].visibleAt = timeout > 0, now.Add(timeout)
					}
				}
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 4).Draw(t, "seconds")) * time.Second)
				q.advance(now)
				m.advance(now)
			},
			"": func(t *rapid.T) {
				require.Len(t, q.messages, len(m.messages))
				inFlight := 0
				for _, o := range m.messages {
					if o.inFlight {
						inFlight++
					}
				}
				require.Equal(t, inFlight, q.inFlight)
				require.Equal(t, len(m.messages)-inFlight, q.visible())
			},
		}
		t.Repeat(step)
	})
}

func anyHandle(t *rapid.T, handles map[string]string) (string, bool) {
	if len(handles) == 0 {
		return "", false
	}
	return rapid.SampledFrom(sortedKeys(handles)).Draw(t, "handle of"), true
}
