package consumers

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whatever a queue brings and however long it is worked on: never more in hand than
// there is room for, always a receive under way while there is nothing to do, and
// one alone once the queue is idle.
func TestIntake(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		concurrency := rapid.IntRange(1, 8).Draw(t, "concurrency")
		i := newIntake(concurrency)
		begin := func() {
			for i.begin() {
				if i.polls > i.worth || i.polls > concurrency {
					t.Fatalf("%d receives under way of %d, for %d groups at once", i.polls, i.worth, concurrency)
				}
			}
			if i.groups == 0 && i.messages == 0 && i.polls == 0 {
				t.Fatal("nothing in hand and nothing asked for")
			}
		}
		var groups []int // in hand, of so many messages
		deleting := 0
		begin()
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch {
			case i.polls > 0 && rapid.Bool().Draw(t, "answer"):
				left := rapid.IntRange(0, maxBatch).Draw(t, "messages")
				brought := left
				before := len(groups)
				for left > 0 {
					n := rapid.IntRange(1, left).Draw(t, "of one group")
					groups, left = append(groups, n), left-n
				}
				i.end(brought, len(groups)-before)
			case len(groups) > 0 && rapid.Bool().Draw(t, "group"):
				deleting += groups[0]
				groups = groups[1:]
				if last := i.groupDone(); last != (len(groups) == 0) {
					t.Fatalf("last is %t with %d groups left", last, len(groups))
				}
			case deleting > 0:
				i.gone(deleting)
				deleting = 0
			}
			begin()
			if i.messages > maxBatch*concurrency {
				t.Fatalf("%d messages in hand, for %d groups at once", i.messages, concurrency)
			}
		}
		for range groups {
			i.groupDone()
		}
		i.gone(i.messages)
		begin()
		for range i.polls + 1 {
			i.end(0, 0)
			begin()
		}
		if i.polls != 1 {
			t.Fatalf("%d receives at an idle queue", i.polls)
		}
	})
}

func TestIntakeOfALoadedQueue(t *testing.T) {
	t.Parallel()
	i := newIntake(16)
	require.True(t, i.begin())
	require.False(t, i.begin(), "one alone until it is known that there is more")
	i.end(10, 1)
	require.True(t, i.begin())
	require.True(t, i.begin())
	require.False(t, i.begin())
	i.end(10, 10)
	i.end(10, 10)
	require.True(t, i.begin(), "one ahead")
	require.False(t, i.begin(), "all have work")
	i.end(10, 10)
	i.end(10, 1)
	require.False(t, i.begin(), "as many wait as are worked on")
	for range 17 {
		i.groupDone()
	}
	require.True(t, i.begin())
}

func TestGather(t *testing.T) {
	t.Parallel()
	var calling atomic.Int64
	var sizes []int
	hold, entered := make(chan struct{}), make(chan struct{}, 3)
	g := gather[int, int]{most: 3, call: func(questions []int) []int {
		if calling.Add(1) != 1 {
			t.Error("two calls at once")
		}
		defer calling.Add(-1)
		sizes = append(sizes, len(questions))
		entered <- struct{}{}
		<-hold
		answers := make([]int, len(questions))
		for i, q := range questions {
			answers[i] = -q
		}
		return answers
	}}
	var asked sync.WaitGroup
	ask := func(q int) {
		asked.Go(func() {
			if a := g.ask(q); a != -q {
				t.Errorf("%d is the answer to %d", a, q)
			}
		})
	}
	waiting := func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.waiting)
	}
	ask(1)
	<-entered
	for q := range 5 {
		ask(q)
	}
	for waiting() < 5 { // nothing signals that a goroutine has got as far as to wait
		runtime.Gosched()
	}
	close(hold)
	asked.Wait()
	require.Equal(t, []int{1, 3, 2}, sizes)
}
