package consumers_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/matrix"
	"github.com/restock-dev/restock/schema"
)

// fault is a row of the matrix.
type fault struct {
	name string
	play func(*cell)
	down bool // the other side is, until play says otherwise
	// want is what comes of it, but for consumers that differ. A consumer that calls
	// nothing differs in that anyway.
	want    matrix.Cell
	differs map[string]matrix.Cell
	without map[string]string // why a consumer has no such cell
	reason  string            // of what is dead
}

// once is what should come of an event.
var once = matrix.Cell{Events: 1, Effects: 1, Calls: 1, Keys: 1, Attempts: 1}

var faults = []fault{
	{
		name: "other side down for a while", play: downForAWhile, down: true, want: once,
		without: map[string]string{schema.ConsumerVIP: "see database down"},
	},
	{name: "slow beyond the visibility timeout", play: slow, want: once},
	{
		name: "429 with Retry-After", play: throttled,
		want: matrix.Cell{Events: 1, Effects: 1, Calls: 2, Keys: 1, Attempts: 2},
		differs: map[string]matrix.Cell{
			// The rate is the account's, and the database's error is of its resources.
			schema.ConsumerAds: {Events: 1, Effects: 1, Calls: 2, Keys: 1, Attempts: 1},
			schema.ConsumerVIP: {Events: 1, Effects: 1, Attempts: 1},
		},
	},
	{
		name: "500 twice", play: brokenTwice,
		want: matrix.Cell{Events: 1, Effects: 1, Calls: 3, Keys: 1, Attempts: 3},
		differs: map[string]matrix.Cell{
			// SES may have sent the mail all the same.
			schema.ConsumerAds: {Events: 1, Effects: 1, Calls: 3, Keys: 1, Uncertain: 2, Attempts: 3},
		},
	},
	{
		name: "permanent 4xx", play: refused, reason: matrix.Refusal,
		want:    matrix.Cell{Events: 1, Calls: 1, Keys: 1, Attempts: 1, Dead: 1},
		differs: map[string]matrix.Cell{schema.ConsumerVIP: {Events: 1, Attempts: 3, Dead: 1}}, // no error of a database is for good
	},
	{
		name: "cut after it was accepted", play: cutAfterAccepted,
		want:    matrix.Cell{Events: 1, Effects: 1, Calls: 2, Keys: 1, Repeated: 1, Uncertain: 1, Attempts: 2},
		differs: map[string]matrix.Cell{schema.ConsumerVIP: once}, // the commit is found in the inbox
	},
	{name: "duplicate message", play: duplicated, want: once},
	{name: "two deliveries at once", play: twoAtOnce, want: once},
	{
		name: "out-of-order redelivery", play: outOfOrder,
		want: matrix.Cell{Events: 2, Effects: 1, Calls: 1, Keys: 1, Attempts: 2}, // the older is superseded
		differs: map[string]matrix.Cell{
			schema.ConsumerMarketing: {Events: 2, Effects: 2, Calls: 2, Keys: 2, Attempts: 2}, // it is told of each
		},
	},
	{name: "poison message", play: poison, reason: "decode ", want: matrix.Cell{Events: 2, Effects: 1, Calls: 1, Keys: 1, Attempts: 2, Dead: 1}},
	{name: "database down", play: databaseDown, want: matrix.Cell{Events: 3, Effects: 3, Calls: 3, Keys: 3, Attempts: 3}},
	{
		name: "database down after the call", play: databaseDownAfterTheCall,
		want:    matrix.Cell{Events: 1, Effects: 1, Calls: 2, Keys: 1, Repeated: 1, Uncertain: 1, Attempts: 2},
		without: map[string]string{schema.ConsumerVIP: "effect and record are one"},
	},
}

// TestMatrix tries each fault against each consumer. What kill -9 does is tried
// with real processes, beside the program.
func TestMatrix(t *testing.T) {
	t.Parallel()
	names := make([]string, len(faults))
	for i, f := range faults {
		names[i] = f.name
	}
	table := matrix.NewTable("matrix", names...)
	t.Run("cells", func(t *testing.T) {
		for _, f := range faults {
			for _, consumer := range matrix.Consumers {
				if why, ok := f.without[consumer]; ok {
					table.Without(f.name, consumer, why)
					continue
				}
				t.Run(f.name+"/"+consumer, func(t *testing.T) { f.try(t, table, consumer) })
			}
		}
	})
	table.Print(os.Stdout)
}

func (f fault) try(t *testing.T, table *matrix.Table, consumer string) {
	want, ok := f.differs[consumer]
	if !ok {
		want = f.want
	}
	var got matrix.Cell
	defer func() { table.Tried(f.name, consumer, got, want, t.Failed()) }()
	c := newCell(t, consumer)
	if c.subject.Outside == nil {
		want.Calls, want.Keys, want.Repeated, want.Uncertain = 0, 0, 0, 0
	} else if !f.down {
		c.subject.Outside.Up()
	}
	f.play(c)
	c.settled()
	got = c.subject.Tally(c.events...)
	require.Equal(t, want, got)
	c.deadFor(f.reason)
}

func downForAWhile(c *cell) {
	c.begin()
	e := c.reaches("G")
	c.until("it is tried in vain", func() bool {
		return scan[int](c.world, `SELECT count(*) FROM effects WHERE outcome = 'failed'`) >= 3
	})
	c.until("the attempt is given back", func() bool { return c.inbox(e.ID, uuid.Nil).attempt == 0 })
	c.subject.Outside.Up()
}

func slow(c *cell) {
	held, leave := c.subject.Hold("G", false)
	c.begin()
	c.reaches("G")
	c.eventually("it is held", func() bool { return held() == 1 })
	for renewals := range 3 {
		c.later(40 * time.Second)
		waiting, hidden := c.counts(c.queue.URL)
		require.Equal(c, []int{0, 1}, []int{waiting, hidden}, "it is nobody else's")
		c.tick <- time.Now()
		c.eventually("it is renewed", func() bool { return c.metric("renewals_total", "ok") == float64(renewals+1) })
	}
	leave()
}

func throttled(c *cell) {
	c.fails(matrix.Fault{Status: 429, RetryAfter: "1800", Times: 1}, `RAISE EXCEPTION 'too many connections' USING ERRCODE = '53300'`)
	c.begin()
	e := c.reaches("G")
	if c.subject.Outside == nil {
		return
	}
	c.await(e.ID, "failed")
	c.end()
	c.begin()
	for _, wait := range []time.Duration{0, 1799 * time.Second} {
		c.later(wait)
		waiting, hidden := c.counts(c.queue.URL)
		require.Equal(c, []int{0, 1}, []int{waiting, hidden}, "it waits as it was told to")
	}
	c.later(time.Second) // where the poll that the stop has cut takes it, it comes back once more
	c.until("it is done", func() bool { return c.inbox(e.ID, uuid.Nil).state == "done" })
}

func brokenTwice(c *cell) {
	c.fails(matrix.Fault{Status: 500, Times: 2}, `RAISE EXCEPTION '`+matrix.Refusal+`'`)
	c.begin()
	c.reaches("G")
}

func refused(c *cell) {
	c.fails(matrix.Fault{Status: 422}, `RAISE EXCEPTION '`+matrix.Refusal+`'`)
	c.begin(func(cfg *consumers.Config) { cfg.MaxAttempts = 3 })
	c.reaches("G")
}

func cutAfterAccepted(c *cell) {
	if c.subject.Outside == nil {
		c.begin()
		c.wire.loseACommit()
		c.reaches("G")
		c.eventually("a commit is lost", c.wire.lost)
		c.eventually("it is found to be in the inbox", func() bool { return c.metric("messages_total", "handled") == 1 })
		return
	}
	c.subject.Outside.Fail(matrix.Fault{Cut: true, Times: 1})
	c.begin()
	c.reaches("G")
}

func duplicated(c *cell) {
	e := c.reaches("G")
	c.publish(e)
	c.publish(e)
	c.begin()
	c.until("all three are seen", func() bool { return c.metric("messages_total", "duplicate") == 2 })
}

// twoAtOnce has two copies in the queue that no group keeps apart, and two workers
// with room for one each. The second is told of the lease, or waits for the inbox
// row where the first is recording.
func twoAtOnce(c *cell) {
	held, leave := c.subject.Hold("G", false)
	one := func(cfg *consumers.Config) { cfg.Concurrency = 1 }
	e := c.commit("G")
	c.begin(one)
	c.send("one", e.Body)
	c.eventually("it is held", func() bool { return held() == 1 })
	c.begin(one)
	c.send("other", e.Body)
	c.eventually("the other delivery is held off", func() bool { return c.metric("messages_total", "busy") == 1 || held() == 2 })
	leave()
}

// outOfOrder has an event arrive when a later one of its group is done, and then
// that later one again.
func outOfOrder(c *cell) {
	older, newer := c.commit("G"), c.commit("G")
	c.begin()
	c.publish(newer)
	c.await(newer.ID, "done")
	c.publish(older)
	c.await(older.ID, "done")
	c.publish(newer)
	c.until("it is known", func() bool { return c.metric("messages_total", "duplicate") == 1 })
	require.InDelta(c, 1, c.metric("sequence_inversions_total"), 0, "it is told")
}

var data = regexp.MustCompile(`"data":\{.*\}`)

// poison has an event that says nothing in front of a good one of its group.
func poison(c *cell) {
	good, bad := c.commit("G"), uuid.New()
	c.events = append(c.events, bad)
	c.send(good.Group, data.ReplaceAllString(strings.Replace(good.Body, good.ID.String(), bad.String(), 1), `"data":{}}`))
	c.publish(good)
	c.begin()
	c.until("the good one is done", func() bool { return c.inbox(good.ID, uuid.Nil).state == "done" })
	require.Equal(c, "dead", c.inbox(bad, uuid.Nil).state, "it was in front")
}

func databaseDown(c *cell) {
	c.begin()
	c.await(c.reaches("F").ID, "done")
	c.wire.cut()
	c.reaches("G")
	c.reaches("H")
	c.eventually("it is noticed", func() bool { return c.metric("inbox_up") == 0 })
	require.Equal(c, 1, scan[int](c.world, `SELECT count(*) FROM inbox`))
	c.wire.mend()
}

func databaseDownAfterTheCall(c *cell) {
	held, leave := c.subject.Hold("G", true)
	c.begin()
	e := c.reaches("G")
	c.eventually("it is held", func() bool { return held() == 1 })
	c.subject.Outside.Fail(matrix.Fault{})
	c.wire.cut()
	leave()
	c.eventually("it is given up", func() bool { return c.metric("inbox_up") == 0 && c.metric("in_flight") == 0 })
	require.Equal(c, "claimed", c.inbox(e.ID, uuid.Nil).state)
	c.exec(`UPDATE inbox SET lease_until = now()`)
	c.wire.mend()
}
