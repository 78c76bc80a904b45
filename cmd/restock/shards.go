package main

import (
	"errors"
	"time"

	"github.com/restock-dev/restock/relay"
)

type shardsCommand struct {
	databaseFlag
	Shards      int           `arg:"" help:"How many there are to be: 1 is an outbox that is not split. The present number gives a change up that was cut off."`
	Slot        string        `env:"RESTOCK_SLOT" help:"Replication slot that the relays are started with. Default: restock_ and the database's name."`
	Publication string        `default:"restock_outbox" env:"RESTOCK_PUBLICATION" help:"Publication that the relays are started with."`
	Wait        time.Duration `default:"10m" help:"How long the relays may take until they have published what was committed before."`
	Pause       time.Duration `default:"30s" help:"How long nothing may be published while the relays change places."`
	SlotTimeout time.Duration `default:"1m" help:"How long making a slot may wait for transactions that are open anywhere in the cluster."`
}

// Help is what -h says besides the flags.
func (c *shardsCommand) Help() string {
	return "Changes by how many relays a database's outbox is published, while they run: each has the events of some message groups, in order. There must be as many " +
		"relays as shards, all started with the same slot. It runs as the database's owner, can be cut off at any moment, and goes on when it is run again. See docs/shards.md."
}

// Validate is called by kong.
func (c *shardsCommand) Validate() error {
	if c.Wait <= 0 || c.Pause <= 0 || c.SlotTimeout <= 0 {
		return errors.New("--wait, --pause and --slot-timeout must be above 0")
	}
	return nil
}

// Run changes the shards.
func (c *shardsCommand) Run(inv *invocation) error {
	slot, err := slotName(c.Slot, c.DatabaseURL)
	if err != nil {
		return err
	}
	if err := c.reach(inv); err != nil {
		return err
	}
	err = relay.ShardsChange{
		DSN: c.DatabaseURL, Slot: slot, Publication: c.Publication, Shards: c.Shards, SlotTimeout: c.SlotTimeout, Wait: c.Wait, Pause: c.Pause,
		Say: func(what string) { say(inv.stdout, "%s\n", what) },
	}.Run(inv)
	if err == nil {
		say(inv.stdout, "%s: shards=%d\n", slot, c.Shards)
	}
	return err
}
