package ops

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

// reachTimeout is how long a database may take to give a sign of life.
const reachTimeout = 5 * time.Second

// Unreachable is a database that could not be asked, and why.
type Unreachable struct {
	Database string `json:"database"`
	Error    string `json:"error"`
}

// UnreachableError is that a question needs databases that cannot be reached.
type UnreachableError struct{ Databases []Unreachable }

func (e *UnreachableError) Error() string {
	all := make([]string, len(e.Databases))
	for i, d := range e.Databases {
		all[i] = fmt.Sprintf("the %s database cannot be reached: %s", d.Database, d.Error)
	}
	return strings.Join(all, "; ")
}

// reach asks databases, those that are there, for a sign of life, all at once. One that is
// the other is none that can be asked: each has what the other's questions need, and the
// answers would say that all is well. pgx shows no password in what it says of one that
// gives none.
func reach(ctx context.Context, databases map[string]*pgxpool.Pool) []Unreachable {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	var mu sync.Mutex
	var down []Unreachable
	var all sync.WaitGroup
	for name, pool := range databases {
		if pool == nil {
			continue
		}
		all.Go(func() {
			if err := schema.CheckDatabase(ctx, pool, name); err != nil {
				if errors.Is(err, context.DeadlineExceeded) {
					err = fmt.Errorf("no answer for %s: %w", reachTimeout, err)
				}
				mu.Lock()
				defer mu.Unlock()
				down = append(down, Unreachable{name, Unable(schema.WithMend(err))})
			}
		})
	}
	all.Wait()
	if len(down) == 2 && down[0].Database == CustomersDatabase { // the store first, whichever gave up first
		down[0], down[1] = down[1], down[0]
	}
	return down
}

// named is the one of a name among databases that cannot be reached, nil where it can.
func named(down []Unreachable, database string) *UnreachableError {
	for _, d := range down {
		if d.Database == database {
			return &UnreachableError{[]Unreachable{d}}
		}
	}
	return nil
}
