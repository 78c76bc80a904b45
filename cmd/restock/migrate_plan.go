package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// plan is what would be done to one database.
type plan struct {
	Pending    []string `json:"pending"`
	Slot       string   `json:"slot"`
	CreateSlot bool     `json:"createSlot"`

	unsettled error // why somebody must say what becomes of the events that are there
}

// plans looks at the databases that were given.
func (c *migrateCommand) plans(inv *invocation) (names []string, plans map[string]plan, err error) {
	plans = map[string]plan{}
	for _, d := range []struct{ name, url, slot string }{{"store", c.DatabaseURL, c.Slot}, {"customers", c.CustomersDatabaseURL, c.CustomersSlot}} {
		if d.url == "" {
			continue
		}
		if err := reach(inv, "the "+d.name+" database", d.name, d.url); err != nil {
			return nil, nil, err
		}
		p, err := look(inv, d.name, d.url, d.slot)
		if err != nil {
			return nil, nil, fmt.Errorf("plan the migration of %s: %w", d.name, err)
		}
		names, plans[d.name] = append(names, d.name), p
	}
	return names, plans, nil
}

func look(ctx context.Context, name, url, slot string) (plan, error) {
	slot, err := slotName(slot, url)
	if err != nil {
		return plan{}, err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return plan{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	p := plan{Pending: []string{}, Slot: slot}
	pending, err := schema.Pending(ctx, conn, name)
	if err != nil {
		return plan{}, err
	}
	p.Pending = append(p.Pending, pending...)
	// Where the outbox is split, the first slot that is missing stands for all.
	if p.Slot, err = relay.MissingSlot(ctx, conn, slot); err != nil {
		return plan{}, err
	}
	if p.CreateSlot = p.Slot != ""; !p.CreateSlot {
		p.Slot = slot
		return p, nil
	}
	if p.unsettled = relay.Unsettled(ctx, conn, p.Slot); p.unsettled != nil && !errors.As(p.unsettled, new(*relay.ExistingError)) {
		return plan{}, p.unsettled
	}
	return p, nil
}

// printPlan tells what would be done.
func (c *migrateCommand) printPlan(inv *invocation) error {
	names, plans, err := c.plans(inv)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(inv.stdout, plans)
	}
	for _, name := range names {
		p := plans[name]
		for _, migration := range p.Pending {
			say(inv.stdout, "%s: would apply %s\n", name, migration)
		}
		if p.CreateSlot {
			say(inv.stdout, "%s: would create slot %s\n", name, p.Slot)
		}
		if len(p.Pending) == 0 && !p.CreateSlot {
			say(inv.stdout, "%s: nothing to do\n", name)
		}
	}
	return nil
}

// printSQL prints what would be run. A database that is not given is taken to be
// empty, and to be called store or customers.
func (c *migrateCommand) printSQL(inv *invocation) error {
	names, plans, err := c.plans(inv)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		names = []string{"store", "customers"}
		for name, slot := range map[string]string{"store": c.Slot, "customers": c.CustomersSlot} {
			if slot == "" {
				slot = schema.SlotName(name)
			}
			all, err := schema.All(name)
			if err != nil {
				return err
			}
			plans[name] = plan{Pending: all, Slot: slot, CreateSlot: true}
		}
	}
	for _, name := range names {
		p := plans[name]
		if p.unsettled != nil && !c.PublishExisting {
			return fmt.Errorf("%w: run this again with --publish-existing to have the relay publish them; to go on without them, restock migrate --accept-gap must do it itself", p.unsettled)
		}
		text, err := schema.SQL(p.Pending)
		if err != nil {
			return err
		}
		say(inv.stdout, "-- Restock: the %s database. Connect to it as its owner. Tables, roles and publication first, the slot last.\n\n%s", name, text)
		if p.CreateSlot {
			quoted := "'" + strings.ReplaceAll(p.Slot, "'", "''") + "'"
			// A slot made by hand looks like one from which nothing was missed.
			say(inv.stdout, "-- Has the relay publish what is committed before the slot stands.\n"+
				"INSERT INTO watermarks (slot, system_identifier, timeline, sweep) SELECT %[1]s, '', 0, 'the slot was made by hand'\n"+
				"    WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %[1]s) ON CONFLICT (slot) DO UPDATE SET sweep = excluded.sweep;\n\n", quoted)
			say(inv.stdout, "-- Waits for the transactions that are open in any database. From Postgres 17 on add failover => true.\n"+
				"SELECT pg_create_logical_replication_slot(%[1]s, 'pgoutput') WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %[1]s);\n\n", quoted)
		}
	}
	return nil
}
