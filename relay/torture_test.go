package relay_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
)

var (
	tortureSeed      = flag.Uint64("torture.seed", 0, "try the schedule of this seed alone")
	tortureFrom      = flag.Uint64("torture.from", 1, "first seed")
	tortureSchedules = flag.Int("torture.schedules", 0, "how many schedules to try and to print figures of; 0 is a few without figures")
)

// A lane is a Postgres with one schedule at a time on it.
const (
	fewSchedules = 10
	fewLanes     = 2
	tortureLanes = 6
)

const tortureTemplate = "torture"

// TestTorture does random things to a relay, to Postgres beneath it and to SNS behind
// it, and holds what comes of them against the promise. A schedule is what its seed
// says; which of two things that go on at once comes first it does not say, so a rare
// failure may take a few tries to come back.
func TestTorture(t *testing.T) {
	t.Parallel()
	seeds, lanes := tortureSeeds()
	c := census{verdict: verdict{deaths: map[point]int{}}}
	t.Cleanup(func() { c.print() })
	for lane := range lanes {
		t.Run(fmt.Sprintf("lane %d", lane+1), func(t *testing.T) {
			t.Parallel()
			pg := pgtest.NewServer(t, localpg.Config{})
			require.NoError(t, pg.CreateDatabase(t.Context(), tortureTemplate, ""))
			require.NoError(t, migrate(t.Context(), pg.DSN(tortureTemplate)))
			for seed := range seeds {
				c.count(torture(t, pg, seed))
			}
		})
	}
}

func tortureSeeds() (seeds chan uint64, lanes int) {
	n, from, lanes := fewSchedules, *tortureFrom, fewLanes
	if *tortureSchedules > 0 {
		n, lanes = *tortureSchedules, tortureLanes
	}
	if *tortureSeed > 0 {
		n, from, lanes = 1, *tortureSeed, 1
	}
	seeds = make(chan uint64, n)
	for i := range n {
		seeds <- from + uint64(i)
	}
	close(seeds)
	return seeds, lanes
}

// torture carries the schedule of a seed out.
func torture(t *testing.T, pg *localpg.Server, seed uint64) (v verdict, ok bool) {
	ok = t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
		s := newSchedule(seed)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("replay: go test ./relay -run '^TestTorture$' -torture.seed=%d\n%s", seed, s)
			}
		})
		if v = newOrdeal(t, pg, s).run(); len(v.complaints) > 0 {
			t.Error(strings.Join(v.complaints, "\n"))
		}
	})
	return v, ok
}

// census sums up what came of the schedules.
type census struct {
	mu            sync.Mutex
	tried, failed int
	verdict
}

func (c *census) count(v verdict, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tried++
	c.lost += v.lost
	c.duplicated += v.duplicated
	c.events += v.events
	c.repeats += v.repeats
	for at, n := range v.deaths {
		c.deaths[at] += n
	}
	if !ok {
		c.failed++
	}
}

func (c *census) print() {
	if *tortureSchedules == 0 {
		return
	}
	show := func(what string, goal figure.Goal, n int) {
		figure.Print(os.Stdout, "relay_torture_"+what, "count", goal, float64(n))
	}
	show("schedules_tried", figure.AtLeast(1000), c.tried)
	show("schedules_failed", figure.AtMost(0), c.failed)
	show("events_committed", figure.Goal{}, c.events)
	show("events_lost", figure.AtMost(0), c.lost)
	show("events_duplicated", figure.AtMost(0), c.duplicated)
	show("events_repeated_after_deduplication_window", figure.Goal{}, c.repeats-c.duplicated)
	for _, at := range slices.Sorted(maps.Keys(c.deaths)) {
		show("deaths_"+strings.ReplaceAll(string(at), " ", "_"), figure.Goal{}, c.deaths[at])
	}
}
