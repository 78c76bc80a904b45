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
	AcceptGap   bool          `help:"Make a slot that is missing even though there are events that were never published: they will not be."`
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
	if err := c.refuseGap(inv, slot); err != nil {
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

// refuseGap stops before a slot is made that would begin after events that nobody
// has published: a slot that was lost, most likely.
func (c *migrateCommand) refuseGap(inv *invocation, slot string) error {
	exists, err := relay.SlotExists(inv, c.DatabaseURL, slot)
	if err != nil || exists || c.AcceptGap {
		return err
	}
	rows, oldest, err := relay.Unpublished(inv, c.DatabaseURL)
	if err != nil || rows == 0 {
		return err
	}
	return fmt.Errorf("slot %s is missing, and %d events committed since %s are in no ledger: a new slot does not bring them. "+
		"Their ids: SELECT o.id FROM outbox o LEFT JOIN ledger l ON l.day = o.day AND l.event_id = o.id WHERE l.event_id IS NULL. "+
		"To go on without them, run this again with --accept-gap", slot, rows, oldest.UTC().Format(time.RFC3339))
}
