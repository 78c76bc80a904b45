package main

import (
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/internal/ops"
)

// databases opens the databases of one who looks or mends, those that a URL is given of,
// with pools of conns connections. None is reached yet: that one cannot be is no reason
// not to tell of the other. done closes them.
func (f databasesFlags) databases(inv *invocation, name string, conns int32) (p ops.Pipeline, done func(), err error) {
	done = func() {
		for _, pool := range []*pgxpool.Pool{p.Store, p.Customers} {
			if pool != nil {
				pool.Close()
			}
		}
	}
	for _, d := range []struct {
		pool **pgxpool.Pool
		url  string
	}{{&p.Store, f.DatabaseURL}, {&p.Customers, f.CustomersDatabaseURL}} {
		if d.url == "" {
			continue
		}
		if *d.pool, err = newPool(inv, d.url, name, conns); err != nil {
			done()
			return p, nil, err
		}
	}
	return p, done, nil
}

// both opens the two databases. Both are wanted unless there is one only.
func (f databasesFlags) both(inv *invocation, alone bool, name string, conns int32) (p ops.Pipeline, done func(), err error) {
	switch {
	case f.DatabaseURL == "":
		return p, nil, &setupError{missing("--database-url (the store)", "RESTOCK_DATABASE_URL")}
	case alone:
		f.CustomersDatabaseURL = ""
	case f.CustomersDatabaseURL == "":
		return p, nil, &setupError{errors.New("no customers database, and vip and marketing keep their inbox there: set --customers-database-url or RESTOCK_CUSTOMERS_DATABASE_URL; where there is none, say --alone")}
	}
	return f.databases(inv, name, conns)
}

// notAll is what a command ends with that told what it could without some databases, nil
// where there are none.
func notAll(down []ops.Unreachable) error {
	if len(down) == 0 {
		return nil
	}
	return &ops.UnreachableError{Databases: down}
}

// pageFlags say which part of a long list is printed.
type pageFlags struct {
	Most  int    `default:"${page}" help:"How many to list, at most ${maxpage}."`
	After string `placeholder:"NEXT" help:"Go on after this, which the list before ended with."`
}

func (f pageFlags) cursor() ops.Cursor { return ops.Cursor{Most: f.Most, After: f.After} }

// sayMore tells that a list goes on.
func sayMore(inv *invocation, next string) {
	if next != "" {
		say(inv.stdout, "there are more: --after %s\n", next)
	}
}
