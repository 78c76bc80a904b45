package main

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

type replenishmentsCommand struct {
	List   replenishmentsListCommand   `cmd:"" help:"List the open ones, the oldest first."`
	Retry  replenishmentsRetryCommand  `cmd:"" help:"Ask the factory for one again."`
	Cancel replenishmentsCancelCommand `cmd:"" help:"Give one up, so that its product can ask again."`
}

// replenishmentFlags are what each of them needs.
type replenishmentFlags struct {
	databaseFlag
	By string `env:"RESTOCK_OPERATOR,USER" default:"unknown" help:"Who asks; it is kept."`
}

func (f replenishmentFlags) open(inv *invocation, client *sqs.Client, queueURL string) (r *ops.Replenishments, done func(), err error) {
	if err := reach(inv, "the store", ops.StoreDatabase, f.DatabaseURL); err != nil {
		return nil, nil, err
	}
	pool, err := newPool(inv, f.DatabaseURL, "restock_replenishments", 2)
	if err != nil {
		return nil, nil, err
	}
	return ops.NewReplenishments(pool, client, queueURL, f.By, inv.log.With().Str("part", "replenishments").Logger()), pool.Close, nil
}

type replenishmentsListCommand struct {
	replenishmentFlags
	pageFlags
	OpenFor time.Duration `help:"Only those that are open for at least as long."`
	JSON    bool          `name:"json" help:"Print JSON."`
}

// Run lists.
func (c *replenishmentsListCommand) Run(inv *invocation) error {
	r, done, err := c.open(inv, nil, "")
	if err != nil {
		return err
	}
	defer done()
	all, err := r.List(inv, c.OpenFor, c.cursor())
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(inv.stdout, all)
	}
	if len(all.Items) == 0 {
		say(inv.stdout, "none is open\n")
		return nil
	}
	t := newTable(inv.stdout, "replenishment", "product", "units", "state", "age", "production", "factory's inbox", "error", "retried")
	for _, o := range all.Items {
		t.AppendRow(table.Row{o.ID, short(o.SKU, 40), o.Quantity, o.State, age(o.RequestedAt), short(o.ProductionID, 40), o.Factory, short(o.Error, 80), o.Acts})
	}
	t.Render()
	sayMore(inv, all.Next)
	return nil
}

// replenishmentActFlags are what is needed to do something with one.
type replenishmentActFlags struct {
	replenishmentFlags
	ID     uuid.UUID `arg:"" help:"The replenishment."`
	Reason string    `required:"" help:"Why; it is kept."`
}

type replenishmentsRetryCommand struct{ replenishmentActFlags }

// Help is what -h says besides the flags.
func (c *replenishmentsRetryCommand) Help() string {
	return "Sends the factory's consumer the event that asked before, with all its attempts. The factory gets the same Idempotency-Key and the same callback. " +
		"One that honours the key makes nothing twice, and may answer what it answered before. One that ignores it may produce twice: the stock still rises once, by the first callback; " +
		"the second changes nothing, and the goods are there.\n\n" +
		"requested: the request was lost, or its event died. accepted: the factory took it and never delivered; it becomes requested again, and the production's id is kept with what was done. " +
		"Ask the factory first whether it is still at it. Where the factory knows nothing of the production, or will make none for this key, cancel instead: the next checkout that fails opens another, with another key.\n\n" +
		"Exit codes: 0 sent, 1 not (it is not open, parked, past retention, or being asked at this moment), 2 it could not begin. Should it fail after it has changed the state, run it again."
}

// Run retries.
func (c *replenishmentsRetryCommand) Run(inv *invocation) error {
	cfg, err := awsConfig(inv)
	if err != nil {
		return err
	}
	client := sqs.NewFromConfig(cfg)
	queue, err := topology.FindQueue(inv, client, schema.ConsumerFactory)
	if err != nil {
		return &setupError{err}
	}
	r, done, err := c.open(inv, client, queue.URL)
	if err != nil {
		return err
	}
	defer done()
	if err := r.Retry(inv, c.ID, c.Reason); err != nil {
		return err
	}
	say(inv.stdout, "%s: the factory is asked again; see restock trace %s\n", c.ID, c.ID)
	return nil
}

type replenishmentsCancelCommand struct{ replenishmentActFlags }

// Help is what -h says besides the flags.
func (c *replenishmentsCancelCommand) Help() string {
	return "The product may ask again at once: the next checkout that fails opens another replenishment. The factory is told nothing. Should it deliver all the same, that raises the stock, once. " +
		"Ads that were stopped for it stay stopped until another delivery of the product.\n\n" +
		"Exit codes: 0 cancelled, 1 it is not open or unknown, 2 it could not begin."
}

// Run cancels.
func (c *replenishmentsCancelCommand) Run(inv *invocation) error {
	r, done, err := c.open(inv, nil, "")
	if err != nil {
		return err
	}
	defer done()
	if err := r.Cancel(inv, c.ID, c.Reason); err != nil {
		return err
	}
	say(inv.stdout, "%s: cancelled\n", c.ID)
	return nil
}
