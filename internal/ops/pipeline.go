package ops

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/schema"
)

// The names of the databases with an outbox.
const (
	StoreDatabase     = "store"
	CustomersDatabase = "customers"
)

// Pipeline is where everything is that an operator looks at. Its methods make what the
// commands and the console work with, so that both mean the same by a consumer and by a
// database.
type Pipeline struct {
	// Store and Customers are the databases, as schema.RoleMaintenance. Without Customers
	// its events, and the consumers that keep their inbox there, are left out.
	Store, Customers *pgxpool.Pool
	SQS              *SQS
	// Find finds the queues of a consumer.
	Find         func(ctx context.Context, consumer string) (Queues, error)
	VIPThreshold int64

	down []Unreachable
}

// Reached is the Pipeline without the databases that give no sign of life now: what is
// asked of it tells of the rest, and says which are missing.
func (p Pipeline) Reached(ctx context.Context) Pipeline {
	p.down = reach(ctx, map[string]*pgxpool.Pool{StoreDatabase: p.Store, CustomersDatabase: p.Customers})
	for _, d := range p.down {
		if d.Database == StoreDatabase {
			p.Store = nil
		} else {
			p.Customers = nil
		}
	}
	return p
}

// Unreachable are the databases that Reached did without.
func (p Pipeline) Unreachable() []Unreachable { return p.down }

// Queues are one consumer's.
type Queues struct{ URL, DLQURL, SubscriptionDLQURL string }

// Database is the one of a name.
func (p Pipeline) Database(name string) (*pgxpool.Pool, error) {
	if err := named(p.down, name); err != nil {
		return nil, err
	}
	switch {
	case name == StoreDatabase && p.Store != nil:
		return p.Store, nil
	case name == CustomersDatabase && p.Customers != nil:
		return p.Customers, nil
	case name == StoreDatabase:
		return nil, refuse("no store: set --database-url or RESTOCK_DATABASE_URL")
	case name == CustomersDatabase:
		return nil, refuse("no customers database: set --customers-database-url or RESTOCK_CUSTOMERS_DATABASE_URL")
	}
	return nil, refuse("no database %q: there are %s and %s", name, StoreDatabase, CustomersDatabase)
}

// Databases are those that are there.
func (p Pipeline) Databases() []StatusDatabase {
	var all []StatusDatabase
	for _, name := range []string{StoreDatabase, CustomersDatabase} {
		if pool, err := p.Database(name); err == nil {
			all = append(all, StatusDatabase{Name: name, Pool: pool})
		}
	}
	return all
}

// books are a consumer's: the databases with its inbox and with the events that it
// takes, nil where they are not at hand.
func (p Pipeline) books(consumer string) (inbox, outbox *pgxpool.Pool) {
	switch consumer {
	case schema.ConsumerVIP:
		return p.Customers, p.Store
	case schema.ConsumerMarketing:
		return p.Customers, p.Customers
	}
	return p.Store, p.Store
}

// Interests are the consumers whose inbox and outbox are at hand.
func (p Pipeline) Interests() []schema.Interest {
	return slices.DeleteFunc(schema.Interests(p.VIPThreshold), func(in schema.Interest) bool {
		inbox, outbox := p.books(in.Consumer)
		return inbox == nil || outbox == nil
	})
}

// Consumer finds a consumer's queues and databases.
func (p Pipeline) Consumer(ctx context.Context, in schema.Interest) (Consumer, error) {
	q, err := p.Find(ctx, in.Consumer)
	c := Consumer{Interest: in, QueueURL: q.URL, DLQURL: q.DLQURL, SubscriptionDLQURL: q.SubscriptionDLQURL}
	c.Inbox, c.Outbox = p.books(in.Consumer)
	return c, err
}

// DLQ makes the DLQ of the named consumers, or of all whose inbox is at hand where none
// is named. cfg says the rest.
func (p Pipeline) DLQ(ctx context.Context, names []string, cfg DLQConfig) (*DLQ, error) {
	cfg.SQS = p.SQS
	there := p.Interests()
	for _, name := range names {
		switch same := func(in schema.Interest) bool { return in.Consumer == name }; {
		case slices.ContainsFunc(there, same):
		case len(p.down) > 0 && slices.ContainsFunc(schema.Interests(p.VIPThreshold), same):
			return nil, &UnreachableError{p.down}
		case slices.ContainsFunc(schema.Interests(p.VIPThreshold), same):
			return nil, refuse("%s keeps its inbox in the customers' database: set --customers-database-url or RESTOCK_CUSTOMERS_DATABASE_URL", name)
		default:
			return nil, refuse("no consumer %q here", name)
		}
	}
	if len(there) == 0 && len(p.down) > 0 {
		return nil, &UnreachableError{p.down}
	}
	if len(names) == 0 {
		cfg.unreachable = p.down
	}
	for _, in := range there {
		if len(names) > 0 && !slices.Contains(names, in.Consumer) {
			continue
		}
		c, err := p.Consumer(ctx, in)
		if err != nil {
			return nil, err
		}
		cfg.Consumers = append(cfg.Consumers, c)
	}
	return NewDLQ(cfg)
}

// Replays are those of one database. by is who asks.
func (p Pipeline) Replays(database, by string, log zerolog.Logger) (*Replays, error) {
	db, err := p.Database(database)
	if err != nil {
		return nil, err
	}
	cfg := ReplaysConfig{DB: db, By: by, Logger: log, unreachable: p.down}
	for _, in := range schema.Interests(p.VIPThreshold) {
		if inbox, outbox := p.books(in.Consumer); outbox == db {
			cfg.Consumers = append(cfg.Consumers, ReplayConsumer{Interest: in, Inbox: inbox})
		}
	}
	return NewReplays(cfg), nil
}

// Status makes a Status of all that is there. cfg says the rest.
func (p Pipeline) Status(cfg StatusConfig) *Status {
	cfg.Databases, cfg.Interests, cfg.Find, cfg.SQS = p.Databases(), p.Interests(), p.Consumer, p.SQS
	return NewStatus(cfg)
}

// Tracer makes a Tracer.
func (p Pipeline) Tracer() *Tracer { return NewTracer(p) }
