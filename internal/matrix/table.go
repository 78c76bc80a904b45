package matrix

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/restock-dev/restock/internal/figure"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
)

// Cell is what came of a consumer's events under a fault.
type Cell struct {
	Events    int // that there were
	Effects   int // in the database, and for marketing at the other side
	Calls     int // that reached the other side
	Keys      int // different idempotency keys of theirs
	Repeated  int // calls taken of a key that had been taken
	Uncertain int // counted as repeated_uncertain
	Attempts  int // counted
	Dead      int // events that are dead
}

func (c Cell) String() string {
	return fmt.Sprintf("n%d e%d c%d k%d r%d u%d a%d d%d", c.Events, c.Effects, c.Calls, c.Keys, c.Repeated, c.Uncertain, c.Attempts, c.Dead)
}

const legend = `n events   e effects   c calls that reached the other side   k idempotency keys of them   r calls taken again
u counted repeated_uncertain   a attempts counted   d dead, each with its reason and in the dead-letter queue
`

// lost is how many effects are missing. An event that is dead on purpose is none.
func (c Cell) lost(want Cell) int { return max(0, want.Effects-c.Effects) + max(0, want.Dead-c.Dead) }

// duplicated is how many effects are too many: in the databases, or outside by a
// repeat that nobody counted or with a key of its own.
func (c Cell) duplicated(want Cell) int {
	return max(0, c.Effects-want.Effects) + max(0, c.Repeated-c.Uncertain) + max(0, c.Keys-want.Keys)
}

// Tally counts what came of events so far. A call of another key than that of an
// event of theirs fails the test.
func (s *Subject) Tally(events ...uuid.UUID) Cell {
	s.t.Helper()
	c := Cell{Events: len(events), Effects: s.effects()}
	require.NoError(s.t, s.db.QueryRow(s.t.Context(), `
		SELECT coalesce(sum(attempt), 0), coalesce(sum(repeated_uncertain), 0), count(*) FILTER (WHERE state = 'dead')
		  FROM inbox WHERE consumer = $1 AND event_id = ANY ($2)`, s.Consumer, events).Scan(&c.Attempts, &c.Uncertain, &c.Dead))
	if s.Consumer == schema.ConsumerVIP {
		require.Equal(s.t, c.Effects, s.counting(`customers WHERE type = 'vip'`)(), "a promotion without its event, or an event without its promotion")
	}
	if s.Outside == nil {
		return c
	}
	var keys map[string]bool
	c.Calls, c.Repeated, keys = s.Outside.counts()
	c.Keys = len(keys)
	for key := range keys {
		id, err := uuid.Parse(key)
		require.NoError(s.t, err, "the key of a call")
		require.Contains(s.t, events, id, "the key of a call is its event's id")
	}
	return c
}

// Table is what came of each consumer under each fault.
type Table struct {
	name   string
	faults []string

	mu                                       sync.Mutex
	cells                                    map[[2]string]string
	without, tried, failed, lost, duplicated int
}

// NewTable makes a table with a row for each fault. Its figures are named after it.
func NewTable(name string, faults ...string) *Table {
	return &Table{name: name, faults: faults, cells: make(map[[2]string]string)}
}

// Tried enters a cell.
func (t *Table) Tried(fault, consumer string, got, want Cell, failed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := got.String()
	t.tried++
	if failed {
		t.failed++
		text += " FAILED"
	}
	t.lost += got.lost(want)
	t.duplicated += got.duplicated(want)
	t.cells[[2]string{fault, consumer}] = text
}

// Without says why a cell does not exist.
func (t *Table) Without(fault, consumer, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.without++
	t.cells[[2]string{fault, consumer}] = "n/a: " + why
}

// Print prints the table, what its letters mean, and its figures.
func (t *Table) Print(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rows := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(rows, "%s\t%s\n", t.name, strings.Join(Consumers, "\t"))
	for _, fault := range t.faults {
		fmt.Fprint(rows, fault)
		for _, consumer := range Consumers {
			fmt.Fprintf(rows, "\t%s", t.cells[[2]string{fault, consumer}])
		}
		fmt.Fprintln(rows)
	}
	_ = rows.Flush() // as with fmt: a table that cannot be printed is no failure of what it is about
	fmt.Fprint(w, legend)
	count := func(what string, n int, goal figure.Goal) {
		figure.Print(w, t.name+"_"+what, "count", goal, float64(n))
	}
	count("cells_tried", t.tried, figure.AtLeast(float64(len(t.faults)*len(Consumers)-t.without)))
	count("cells_failed", t.failed, figure.AtMost(0))
	count("lost", t.lost, figure.AtMost(0))
	count("duplicated", t.duplicated, figure.AtMost(0))
}
