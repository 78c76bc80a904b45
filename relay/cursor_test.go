package relay

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// cursorModel is the cursor said plainly: all transactions ever read, and the
// confirmed position computed from all of them each time.
type cursorModel struct {
	start        pglogrepl.LSN
	transactions []modelTransaction
	idle         pglogrepl.LSN // greatest server position taken while idle
}

type modelTransaction struct {
	commit, end pglogrepl.LSN
	ended       bool
	rows        int
	unfinished  []Position
}

func (m *cursorModel) confirmed() pglogrepl.LSN {
	confirmed := max(m.start, m.idle)
	for _, t := range m.transactions {
		if !t.ended || len(t.unfinished) > 0 {
			break
		}
		confirmed = max(confirmed, t.end)
	}
	return confirmed
}

func (m *cursorModel) wholeAndFinished() bool {
	for _, t := range m.transactions {
		if !t.ended || len(t.unfinished) > 0 {
			return false
		}
	}
	return true
}

func (m *cursorModel) unfinished() []Position {
	var all []Position
	for _, t := range m.transactions {
		all = append(all, t.unfinished...)
	}
	return all
}

// TestCursor runs random streams, finished in random order, against the model.
func TestCursor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lsn := pglogrepl.LSN(rapid.Uint64Range(1, 1<<40).Draw(t, "start"))
		m := &cursorModel{start: lsn}
		c := newCursor(lsn)
		c.compactAt = rapid.IntRange(1, 8).Draw(t, "compactAt")
		step := func() pglogrepl.LSN {
			lsn += pglogrepl.LSN(rapid.Uint64Range(1, 1000).Draw(t, "step"))
			return lsn
		}
		last := func() *modelTransaction { return &m.transactions[len(m.transactions)-1] }
		inside := func() bool { return len(m.transactions) > 0 && !last().ended }
		confirmedBefore := lsn

		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				if inside() {
					t.Skip("a transaction is being read")
				}
				commit := step()
				c.begin(commit, time.Unix(int64(len(m.transactions)), 0))
				m.transactions = append(m.transactions, modelTransaction{commit: commit})
			},
			"add": func(t *rapid.T) {
				if !inside() {
					t.Skip("no transaction is being read")
				}
				c.add()
				last().unfinished = append(last().unfinished, Position{last().commit, last().rows})
				last().rows++
			},
			"end": func(t *rapid.T) {
				if !inside() {
					t.Skip("no transaction is being read")
				}
				end := step()
				c.end(end)
				last().end, last().ended = end, true
			},
			"finish": func(t *rapid.T) {
				all := m.unfinished()
				if len(all) == 0 {
					t.Skip("nothing to finish")
				}
				p := all[rapid.IntRange(0, len(all)-1).Draw(t, "which")]
				c.finish(p)
				for i := range m.transactions {
					tx := &m.transactions[i]
					tx.unfinished = slices.DeleteFunc(tx.unfinished, func(q Position) bool { return q == p })
				}
			},
			"idle": func(t *rapid.T) {
				server := lsn
				if !inside() {
					server = step()
				}
				c.idle(server)
				if m.wholeAndFinished() {
					m.idle = max(m.idle, server)
				}
			},
			"": func(t *rapid.T) {
				if c.confirmed() != m.confirmed() {
					t.Fatalf("confirmed %s, the model says %s", c.confirmed(), m.confirmed())
				}
				if c.confirmed() < confirmedBefore {
					t.Fatalf("confirmed went back from %s to %s", confirmedBefore, c.confirmed())
				}
				confirmedBefore = c.confirmed()
				if _, ok := c.oldest(); ok != (len(m.unfinished()) > 0) {
					t.Fatalf("oldest says %v with %d unfinished", ok, len(m.unfinished()))
				}
			},
		})
	})
}

// TestCursorStaysSmall: behind one event that is held, a million transactions may
// go by.
func TestCursorStaysSmall(t *testing.T) {
	c := newCursor(1)
	for i := range 1_000_000 {
		commit := pglogrepl.LSN(10*i + 10)
		c.begin(commit, time.Time{})
		c.add()
		c.end(commit + 5)
		if i > 0 {
			c.finish(Position{Commit: commit})
		}
	}
	require.LessOrEqual(t, len(c.open), 2*compactFrom)
	require.Equal(t, pglogrepl.LSN(1), c.confirmed())
	c.finish(Position{Commit: 10})
	require.Equal(t, pglogrepl.LSN(10_000_005), c.confirmed())
}

func TestCursorOldest(t *testing.T) {
	c := newCursor(1)
	for i := range 3 {
		c.begin(pglogrepl.LSN(10*i+10), time.Unix(int64(i), 0))
		c.add()
		c.end(pglogrepl.LSN(10*i + 15))
	}
	c.finish(Position{Commit: 20})
	at, ok := c.oldest()
	require.True(t, ok)
	require.Equal(t, time.Unix(0, 0), at)
	require.Equal(t, pglogrepl.LSN(1), c.confirmed())
	c.finish(Position{Commit: 10})
	at, _ = c.oldest()
	require.Equal(t, time.Unix(2, 0), at)
	require.Equal(t, pglogrepl.LSN(25), c.confirmed())
}
