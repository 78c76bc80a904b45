package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

type migrateCommand struct {
	databasesFlags
	Slot          string        `env:"RESTOCK_SLOT" help:"Replication slot of the store. Default: restock_ and the database's name."`
	CustomersSlot string        `env:"RESTOCK_CUSTOMERS_SLOT" help:"Replication slot of the customers database. Default: restock_ and the database's name."`
	SlotTimeout   time.Duration `default:"1m" help:"How long making a slot may wait for transactions that are open anywhere in the cluster."`
	// With an empty ledger nothing tells what of an outbox was published.
	AcceptGap       bool `xor:"existing" help:"Where there is no slot, no ledger and yet an outbox with events in it: note them as skipped. They will not be published."`
	PublishExisting bool `xor:"existing" help:"Where there is no slot, no ledger and yet an outbox with events in it: have the relay publish them."`
	Plan            bool `xor:"look" help:"Print what would be done and change nothing. restock_maintenance may do this."`
	SQL             bool `name:"sql" xor:"look" help:"Print the SQL of what would be done, for somebody else to run as the owner with psql -v ON_ERROR_STOP=1, and change nothing. Without a database: all of it."`
	JSON            bool `name:"json" help:"Print the result as JSON."`
}

// migrated is what was done to one database.
type migrated struct {
	Applied     []string `json:"applied"`
	Repaired    bool     `json:"publicationRepaired,omitempty"`
	Slot        string   `json:"slot"`
	SlotCreated bool     `json:"slotCreated"`
}

// Run migrates the databases that were given, each in the order tables, roles,
// publication, slot: a slot cannot use a publication that is younger than
// itself. It runs as the databases' owner and can be run again at any time.
func (c *migrateCommand) Run(inv *invocation) error {
	if c.SQL {
		return c.printSQL(inv)
	}
	if c.DatabaseURL == "" && c.CustomersDatabaseURL == "" {
		return &setupError{errors.New("no database: set --database-url (the store), --customers-database-url, or both")}
	}
	if c.Plan {
		return c.printPlan(inv)
	}
	var all struct {
		Store     *migrated `json:"store,omitempty"`
		Customers *migrated `json:"customers,omitempty"`
	}
	for _, d := range []struct {
		name, url, slot string
		migrate         func(context.Context, string) ([]string, error)
		done            **migrated
	}{
		{"store", c.DatabaseURL, c.Slot, schema.MigrateStore, &all.Store},
		{"customers", c.CustomersDatabaseURL, c.CustomersSlot, schema.MigrateCustomers, &all.Customers},
	} {
		if d.url == "" {
			continue
		}
		done, err := c.migrate(inv, d.name, d.url, d.slot, d.migrate)
		if err != nil {
			return err
		}
		if !c.JSON {
			done.print(inv.stdout, d.name)
		}
		*d.done = done
	}
	if c.JSON {
		return json.NewEncoder(inv.stdout).Encode(all)
	}
	return nil
}

func (c *migrateCommand) migrate(ctx context.Context, name, url, slot string, migrate func(context.Context, string) ([]string, error)) (*migrated, error) {
	if err := reach(ctx, "the "+name+" database", name, url); err != nil {
		return nil, err
	}
	slot, err := slotName(slot, url)
	if err != nil {
		return nil, err
	}
	done := &migrated{Applied: []string{}, Slot: slot}
	applied, err := migrate(ctx, url)
	done.Applied = append(done.Applied, applied...)
	if err != nil {
		return nil, err
	}
	if done.Repaired, err = relay.RepairPublication(ctx, url, slot, schema.Publication); err != nil {
		return nil, err
	}
	done.SlotCreated, err = relay.CreateSlot(ctx, url, slot, schema.Publication, c.existing(), c.SlotTimeout)
	if errors.As(err, new(*relay.ExistingError)) {
		err = fmt.Errorf("%w: run this again with --publish-existing to have the relay publish them, or with --accept-gap to go on without them", err)
	}
	return done, err
}

func (c *migrateCommand) existing() relay.Existing {
	switch {
	case c.AcceptGap:
		return relay.SkipExisting
	case c.PublishExisting:
		return relay.PublishExisting
	}
	return relay.RefuseExisting
}

func (m *migrated) print(to io.Writer, database string) {
	for _, name := range m.Applied {
		fmt.Fprintf(to, "%s: applied %s\n", database, name)
	}
	if m.Repaired {
		fmt.Fprintf(to, "%s: publication %s made anew\n", database, schema.Publication)
	}
	state := "is there"
	if m.SlotCreated {
		state = "created"
	}
	fmt.Fprintf(to, "%s: slot %s %s\n", database, m.Slot, state)
}
