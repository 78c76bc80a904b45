package relay

import (
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestLanes publishes random events of few groups with random failures. Whatever
// the schedule, a group has one entry in flight at most, nothing held goes before
// its time, what is to go alone does, and each group comes out whole and in the
// order in which it went in, also where what waits of it is cut out and comes back, and
// what waits of a replay is taken out for good.
func TestLanes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLanes()
		now := time.Unix(0, 0)
		pushed, done := map[string][]int64{}, map[string][]int64{}
		inFlight := map[string]*entry{}
		until := map[string]time.Time{}
		seq := int64(0)
		replayed := &replay{}

		someInFlight := func(t *rapid.T) *entry {
			if len(inFlight) == 0 {
				t.Skip("nothing in flight")
			}
			groups := make([]string, 0, len(inFlight))
			for g := range inFlight {
				groups = append(groups, g)
			}
			slices.Sort(groups)
			return inFlight[rapid.SampledFrom(groups).Draw(t, "group")]
		}
		take := func(t *rapid.T, entries, bytes int) {
			batch := l.next(now, entries, bytes)
			size := 0
			for _, e := range batch {
				g := e.group
				if inFlight[g] != nil {
					t.Fatalf("group %s has two entries in flight", g)
				}
				if until[g].After(now) {
					t.Fatalf("group %s went before its time", g)
				}
				inFlight[g] = e
				size += e.size
			}
			if len(batch) > entries || len(batch) > 1 && size > bytes {
				t.Fatalf("batch of %d entries and %d bytes, limits %d and %d", len(batch), size, entries, bytes)
			}
			if len(batch) > 1 && slices.ContainsFunc(batch, (*entry).alone) {
				t.Fatal("an entry that is to go alone went with others")
			}
		}
		finish := func(e *entry) {
			l.done(e)
			delete(inFlight, e.group)
			done[e.group] = append(done[e.group], e.seq)
		}

		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				seq++
				g := strconv.Itoa(rapid.IntRange(0, 5).Draw(t, "group"))
				e := &entry{group: g, seq: seq, size: rapid.IntRange(1, 300).Draw(t, "size")}
				if rapid.Bool().Draw(t, "replayed") {
					e.item = &item{replay: replayed}
				}
				l.push(e)
				pushed[g] = append(pushed[g], seq)
			},
			"withdraw": func(t *rapid.T) {
				for _, e := range l.withdraw(replayed) {
					require.NotSame(t, inFlight[e.group], e)
					pushed[e.group] = slices.DeleteFunc(pushed[e.group], func(seq int64) bool { return seq == e.seq })
				}
				maps.DeleteFunc(until, func(g string, _ time.Time) bool { return l.byGroup[g] == nil })
				for g, ln := range l.byGroup {
					for e := ln.head; e != nil; e = e.next {
						require.True(t, e.item == nil || e == inFlight[g], "some of it waits still")
					}
				}
			},
			"next": func(t *rapid.T) {
				take(t, rapid.IntRange(1, 10).Draw(t, "entries"), rapid.IntRange(1, 1000).Draw(t, "bytes"))
			},
			"untriedFirst": func(t *rapid.T) {
				l.untriedFirst()
				untried := func(ln *lane) bool { return ln.head.trouble == nil }
				require.True(t, !slices.ContainsFunc(l.ready, untried) || untried(l.ready[0]))
			},
			"done": func(t *rapid.T) { finish(someInFlight(t)) },
			"hold": func(t *rapid.T) {
				e := someInFlight(t)
				until[e.group] = now.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "for")) * time.Second)
				l.hold(e, until[e.group])
				delete(inFlight, e.group)
			},
			"alone": func(t *rapid.T) { someInFlight(t).troubled().alone = true },
			"cut": func(t *rapid.T) {
				e := someInFlight(t)
				delete(inFlight, e.group)
				cut := l.cut(e)
				var seqs []int64
				for _, e := range cut {
					seqs = append(seqs, e.seq)
				}
				require.Equal(t, pushed[e.group][len(done[e.group]):], seqs)
				for _, e := range cut { // as when the group is released
					l.push(e)
				}
			},
			"pass": func(t *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "seconds")) * time.Second) },
		})

		for len(inFlight) > 0 {
			finish(someInFlight(t))
		}
		for len(l.byGroup) > 0 {
			if due, held := l.due(); held && due.After(now) {
				now = due
			}
			take(t, 10, 1<<20)
			if len(inFlight) == 0 {
				t.Fatal("entries are left and none may go: a lane is lost")
			}
			for _, e := range inFlight {
				finish(e)
			}
		}
		maps.DeleteFunc(pushed, func(_ string, seqs []int64) bool { return len(seqs) == 0 })
		require.Equal(t, pushed, done)
	})
}

func TestLanesTakeTurns(t *testing.T) {
	l := newLanes()
	for i := range 3 {
		for _, g := range []string{"a", "b", "c"} {
			l.push(&entry{group: g, seq: int64(i), size: 1})
		}
	}
	var order string
	for range 9 {
		e := l.next(time.Now(), 1, 1)[0]
		order += e.group
		l.done(e)
	}
	require.Equal(t, "abcabcabc", order)
	require.Nil(t, l.next(time.Now(), 1, 1))
}

func TestThrottle(t *testing.T) {
	now := time.Unix(100, 0)
	th := newThrottle(8, testBackoff)
	require.True(t, th.allows(7, now))
	require.False(t, th.allows(8, now))

	th.failed(now)
	th.failed(now) // together with the first
	require.False(t, th.allows(0, now), "nothing goes before the delay has passed")
	require.Equal(t, 1, th.failures)
	now = th.until
	require.True(t, th.allows(3, now))
	require.False(t, th.allows(4, now), "half of what was allowed")

	for range 10 {
		th.failed(now)
		now = th.until
	}
	require.True(t, th.allows(0, now), "one call always probes")
	require.False(t, th.allows(1, now))
	for range 100 {
		th.succeeded()
	}
	require.True(t, th.allows(7, now))
	require.False(t, th.allows(8, now))
}

// TestWokenWhenSomethingMayGo: a lane that is ready goes when the throttle ends, also
// while another is held for longer; where none is ready, that waits for both; without the
// lock it is looked at again.
func TestWokenWhenSomethingMayGo(t *testing.T) {
	t.Parallel()
	now := time.Unix(100, 0)
	const soon, later, look = 50 * time.Millisecond, 5 * time.Second, time.Minute
	for name, test := range map[string]struct {
		ready                bool
		held, throttled, due time.Duration
		unlocked             bool
	}{
		"ready, throttled and another held":   {ready: true, held: later, throttled: soon, due: soon},
		"ready, throttled for longer":         {ready: true, held: soon, throttled: later, due: later},
		"ready and throttled":                 {ready: true, throttled: soon, due: soon},
		"ready, and only another is held":     {ready: true, held: later, due: later},
		"held, and throttled for less":        {held: later, throttled: soon, due: later},
		"held, and throttled for longer":      {held: soon, throttled: later, due: later},
		"held, and the lock is in doubt":      {held: later, due: lockRecheck, unlocked: true},
		"nothing waits but the next look":     {due: look},
		"the next look comes before all that": {ready: true, held: 2 * look, throttled: 3 * look, due: look},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &pipeline{lanes: newLanes(), throttle: newThrottle(4, testBackoff), lookAt: now.Add(look), holds: func(time.Time) bool { return !test.unlocked }}
			if test.held > 0 {
				slow := &entry{group: "slow"}
				p.lanes.push(slow)
				p.lanes.next(now, 1, 1)
				p.lanes.hold(slow, now.Add(test.held))
			}
			if test.ready {
				p.lanes.push(&entry{group: "ready"})
			}
			p.throttle.until = now.Add(test.throttled)
			due, ok := p.wakeAt(now)
			require.True(t, ok)
			require.Equal(t, test.due, due.Sub(now))
		})
	}
}

func TestWindow(t *testing.T) {
	w := newWindow(100)
	require.True(t, w.acquire(1000), "one that is larger than the window goes alone")
	require.False(t, w.acquire(1))
	w.release(1000)
	<-w.freed
	require.True(t, w.acquire(60))
	require.True(t, w.acquire(40))
	require.False(t, w.acquire(1))
	require.Equal(t, 100, w.bytes())
}

// TestWindowModel: the reader is held up by what it has acquired itself, and by nothing
// that was added.
func TestWindowModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 100).Draw(t, "limit")
		w := newWindow(limit)
		var read, added []int
		sum := func(taken []int) (n int) {
			for _, t := range taken {
				n += t
			}
			return n
		}
		give := func(t *rapid.T, taken *[]int, back func(int)) {
			if len(*taken) == 0 {
				t.Skip("nothing was taken")
			}
			back((*taken)[0])
			*taken = (*taken)[1:]
			select {
			case <-w.freed:
			default:
				t.Fatal("the reader is not told")
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"acquire": func(t *rapid.T) {
				n := rapid.IntRange(1, 150).Draw(t, "n")
				room := sum(read) == 0 || sum(read)+n <= limit
				require.Equal(t, room, w.acquire(n))
				require.Equal(t, !room, w.waiting.Load())
				if room {
					read = append(read, n)
				}
			},
			"release": func(t *rapid.T) { give(t, &read, w.release) },
			"add": func(t *rapid.T) {
				added = append(added, rapid.IntRange(1, 150).Draw(t, "n"))
				w.add(added[len(added)-1])
			},
			"remove": func(t *rapid.T) { give(t, &added, w.remove) },
			"":       func(t *rapid.T) { require.Equal(t, sum(read)+sum(added), w.bytes()) },
		})
	})
}
