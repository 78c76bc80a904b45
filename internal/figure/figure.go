// Package figure prints the figures of benchmarks and long checks, one to a line, so that
// a script can hold each against its goal:
//
//	figure name=relay_drain_m1_vs_pg_recvlogical median=2.13 min=1.98 max=2.31 n=5 unit=ratio goal=>=2.0 ok=true
package figure

import (
	"fmt"
	"io"
	"slices"
	"strconv"
)

// Goal is what a median is held against. The zero Goal is none.
type Goal struct {
	op    string
	bound float64
}

// AtLeast is met by a median of bound or more.
func AtLeast(bound float64) Goal { return Goal{">=", bound} }

// AtMost is met by a median of bound or less.
func AtMost(bound float64) Goal { return Goal{"<=", bound} }

func (g Goal) met(median float64) bool {
	if g.op == ">=" {
		return median >= g.bound
	}
	return median <= g.bound
}

// Print writes the figure of one or more values in one unit, and tells whether the goal
// is met; without a goal it always is. It panics when there are no values.
func Print(w io.Writer, name, unit string, goal Goal, values ...float64) bool {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	median := (sorted[(n-1)/2] + sorted[n/2]) / 2
	fmt.Fprintf(w, "figure name=%s median=%s min=%s max=%s n=%d unit=%s", name, text(median), text(sorted[0]), text(sorted[n-1]), n, unit)
	if goal.op == "" {
		fmt.Fprintln(w)
		return true
	}
	ok := goal.met(median)
	fmt.Fprintf(w, " goal=%s%s ok=%t\n", goal.op, strconv.FormatFloat(goal.bound, 'f', -1, 64), ok)
	return ok
}

// text has more digits for small values than for large ones.
func text(v float64) string {
	switch {
	case v == float64(int64(v)):
		return strconv.FormatInt(int64(v), 10)
	case v >= 1000 || v <= -1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10 || v <= -10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}
