package matrix_test

import (
	"os"

	"github.com/restock-dev/restock/internal/matrix"
)

func ExampleTable() {
	want := matrix.Cell{Events: 1, Effects: 1, Calls: 1, Keys: 1, Attempts: 1}
	lost, twice, again := want, want, want
	lost.Effects = 0
	twice.Effects, twice.Uncertain = 2, 1
	again.Calls, again.Repeated = 2, 1 // and nobody counted it
	table := matrix.NewTable("drill", "rain")
	table.Tried("rain", "factory", lost, want, true)
	table.Tried("rain", "ads", again, want, true)
	table.Tried("rain", "vip", twice, want, true)
	table.Without("rain", "marketing", "indoors")
	table.Print(os.Stdout)
	// Output:
	// drill   factory                          ads                              vip                              marketing
	// rain    n1 e0 c1 k1 r0 u0 a1 d0 FAILED   n1 e1 c2 k1 r1 u0 a1 d0 FAILED   n1 e2 c1 k1 r0 u1 a1 d0 FAILED   n/a: indoors
	// n events   e effects   c calls that reached the other side   k idempotency keys of them   r calls taken again
	// u counted repeated_uncertain   a attempts counted   d dead, each with its reason and in the dead-letter queue
	// figure name=drill_cells_tried median=3 min=3 max=3 n=1 unit=count goal=>=3 ok=true
	// figure name=drill_cells_failed median=3 min=3 max=3 n=1 unit=count goal=<=0 ok=false
	// figure name=drill_lost median=1 min=1 max=1 n=1 unit=count goal=<=0 ok=false
	// figure name=drill_duplicated median=2 min=2 max=2 n=1 unit=count goal=<=0 ok=false
}
