package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

type migrateCommand struct {
	databaseFlag
	Slot        string        `env:"RESTOCK_SLOT" help:"Replication slot. Default: restock_ and the database's name."`
	SlotTimeout time.Duration `default:"1m" help:"How long making the slot may wait for transactions that are open anywhere in the cluster."`
	JSON        bool          `name:"json" help:"Print the result as JSON."`
}

type migrated struct {
	Applied     []string `json:"applied"`
	Slot        string   `json:"slot"`
	SlotCreated bool     `json:"slotCreated"`
}

// Run migrates, in the order tables, roles, publication, slot: a slot cannot use
// a publication that is younger than itself. It runs as the database's owner and
// can be run again at any time.
func (c *migrateCommand) Run(inv *invocation) error {
	if err := c.reach(inv); err != nil {
		return err
	}
	slot, err := slotName(c.Slot, c.DatabaseURL)
	if err != nil {
		return err
	}
	done := migrated{Applied: []string{}, Slot: slot}
	applied, err := schema.MigrateStore(inv, c.DatabaseURL)
	done.Applied = append(done.Applied, applied...)
	if err != nil {
		return err
	}
	if done.SlotCreated, err = relay.CreateSlot(inv, c.DatabaseURL, slot, c.SlotTimeout); err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(inv.stdout).Encode(done)
	}
	for _, name := range done.Applied {
		fmt.Fprintln(inv.stdout, "applied", name)
	}
	state := "is there"
	if done.SlotCreated {
		state = "created"
	}
	fmt.Fprintln(inv.stdout, "slot", slot, state)
	return nil
}
