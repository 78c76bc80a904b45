package relay

import (
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

// cursor finds the newest position with nothing unfinished at or below it. It is
// pure and for one goroutine. Transactions are added in commit order, as the
// stream brings them.
type cursor struct {
	open     []transaction // unfinished or behind one that is; commit order
	confirms pglogrepl.LSN
}

type transaction struct {
	commit     pglogrepl.LSN // of the commit record: what Position refers to
	end        pglogrepl.LSN // after the commit record: what is confirmed
	at         time.Time     // commit time
	ended      bool          // its commit message was read
	unfinished int
}

// newCursor starts at what the slot has confirmed already.
func newCursor(confirmed pglogrepl.LSN) *cursor { return &cursor{confirms: confirmed} }

// begin opens the next transaction of the stream.
func (c *cursor) begin(commit pglogrepl.LSN, at time.Time) {
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
	for n < len(c.open) && c.open[n].ended && c.open[n].unfinished == 0 {
		c.confirms = max(c.confirms, c.open[n].end)
		n++
	}
	if c.open = c.open[n:]; len(c.open) == 0 {
		c.open = nil // lets go of the array that the slice has walked along
	}
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
