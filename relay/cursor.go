package relay

import (
	"fmt"
	"sort"
	"time"

	"github.com/jackc/pglogrepl"
)

// Position is where an event stands in the stream. Log positions alone do not
// do: rows of one transaction share them.
type Position struct {
	Commit pglogrepl.LSN // of the transaction's commit record
	Index  int           // of the row in its transaction, from 0
}

// String is the form in which a position stands in logs.
func (p Position) String() string { return fmt.Sprintf("%s+%d", p.Commit, p.Index) }

// cursor finds the newest position with nothing unfinished at or below it. It is
// pure and for one goroutine. Transactions are added in commit order, as the
// stream brings them.
type cursor struct {
	open      []transaction // unfinished or behind one that is; commit order
	confirms  pglogrepl.LSN
	compactAt int // length of open at which it is compacted next
}

// compactFrom is how many transactions wait before it is worth to compact them.
const compactFrom = 1024

type transaction struct {
	commit     pglogrepl.LSN // of the commit record: what Position refers to
	end        pglogrepl.LSN // after the commit record: what is confirmed
	at         time.Time     // commit time
	ended      bool          // its commit message was read
	unfinished int
}

func (t transaction) finished() bool { return t.ended && t.unfinished == 0 }

// newCursor starts at what the slot has confirmed already.
func newCursor(confirmed pglogrepl.LSN) *cursor {
	return &cursor{confirms: confirmed, compactAt: compactFrom}
}

// begin opens the next transaction of the stream.
func (c *cursor) begin(commit pglogrepl.LSN, at time.Time) {
	if len(c.open) >= c.compactAt {
		c.compact()
	}
	c.open = append(c.open, transaction{commit: commit, at: at})
}

// add notes an event of the transaction begun last.
func (c *cursor) add() { c.open[len(c.open)-1].unfinished++ }

// end notes that the transaction begun last is complete, and where it ends.
func (c *cursor) end(end pglogrepl.LSN) {
	last := &c.open[len(c.open)-1]
	last.end, last.ended = end, true
	c.advance()
}

// finish notes that one event of p's transaction is published or parked, and
// durably so. Each event is finished once.
func (c *cursor) finish(p Position) {
	i := sort.Search(len(c.open), func(i int) bool { return c.open[i].commit >= p.Commit })
	c.open[i].unfinished--
	c.advance()
}

// idle takes the server's own position, which only counts when there is nothing
// in between: an idle database has no other way to move its slot.
func (c *cursor) idle(server pglogrepl.LSN) {
	if len(c.open) == 0 {
		c.confirms = max(c.confirms, server)
	}
}

func (c *cursor) advance() {
	n := 0
	for n < len(c.open) && c.open[n].finished() {
		c.confirms = max(c.confirms, c.open[n].end)
		n++
	}
	if c.open = c.open[n:]; len(c.open) == 0 {
		c.open = nil // lets go of the array that the slice has walked along
	}
}

// compact lets go of finished transactions that the next one, finished too, stands
// for: behind a group that is held for long, what is kept is in proportion to what
// is unfinished and not to all that has gone by.
func (c *cursor) compact() {
	kept := c.open[:0]
	for i, t := range c.open {
		if i+1 < len(c.open) && t.finished() && c.open[i+1].finished() {
			continue
		}
		kept = append(kept, t)
	}
	c.open = kept
	c.compactAt = max(compactFrom, 2*len(kept))
}

// confirmed is what Postgres may forget: the end of the newest commit of the
// finished prefix. It never goes back.
func (c *cursor) confirmed() pglogrepl.LSN { return c.confirms }

// oldest is the commit time of the oldest transaction with something
// unfinished; false when there is none.
func (c *cursor) oldest() (time.Time, bool) {
	for _, t := range c.open {
		if t.unfinished > 0 {
			return t.at, true
		}
	}
	return time.Time{}, false
}
