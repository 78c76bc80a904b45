package main

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/ops"
)

type doctorCommand struct {
	databasesFlags
	vipFlag
	adsFlags
	marketingFlags
	Slot          string `env:"RESTOCK_SLOT" help:"Replication slot of the store. Default: restock_ and the database's name."`
	CustomersSlot string `env:"RESTOCK_CUSTOMERS_SLOT" help:"Replication slot of the customers database. Default: restock_ and the database's name."`
	TopicARN      string `name:"topic-arn" env:"RESTOCK_TOPIC_ARN" placeholder:"ARN" help:"The SNS FIFO topic."`
	FactoryAPI    string `name:"factory-api" env:"RESTOCK_FACTORY_API" placeholder:"URL" help:"The factory."`
	WALBudget     int64  `name:"wal-budget" env:"RESTOCK_WAL_BUDGET" help:"The relay's, in bytes."`
	JSON          bool   `name:"json" help:"Print JSON."`
}

// Help is what -h says besides the flags.
func (c *doctorCommand) Help() string {
	return "Looks and changes nothing; the factory and the marketing system are connected to and asked nothing. Give it what the parts are given; what is left out " +
		"is not checked, and said so. The databases are best given as restock_maintenance. In AWS it takes the rights to read attributes of topic, subscriptions, queues and SES.\n\n" +
		"Exit codes: 0 all is well, perhaps with warnings, 1 something fails, 2 something cannot be told."
}

// diagnosis is what doctor prints as JSON.
type diagnosis struct {
	Verdict    ops.Level   `json:"verdict"`
	Checks     []ops.Check `json:"checks"`
	NotChecked []string    `json:"notChecked,omitempty"` // for want of a setting
}

// Run examines.
func (c *doctorCommand) Run(inv *invocation) error {
	cfg, left, err := c.config(inv)
	if err != nil {
		return err
	}
	for _, d := range []ops.DoctorDatabase{cfg.Store, cfg.Customers} {
		if d.Pool != nil {
			defer d.Pool.Close()
		}
	}
	checks := ops.Examine(inv, cfg)
	if inv.Err() != nil {
		return cannotTell(inv, inv.Err())
	}
	d := diagnosis{ops.Verdict(checks), checks, left}
	if c.JSON {
		err = printJSON(inv.stdout, d)
	} else {
		d.print(inv)
	}
	switch {
	case err != nil:
		return err
	case d.Verdict == ops.LevelFail:
		return errors.New("something fails")
	case d.Verdict == ops.LevelUnknown:
		return &setupError{errors.New("something cannot be told")}
	}
	return nil
}

// config is what there is to be checked, and what there is not.
func (c *doctorCommand) config(inv *invocation) (cfg ops.DoctorConfig, left []string, err error) {
	cfg = ops.DoctorConfig{FactoryURL: c.FactoryAPI, WebhookURL: c.MarketingWebhookURL, VIPThreshold: c.VIPThreshold}
	cfg.WebhookAddress = func(at netip.Addr) error { return consumers.CheckAddress(at, c.MarketingAllow) }
	for _, given := range []struct {
		is         bool
		what, name string
	}{
		{c.DatabaseURL != "", "the store", "RESTOCK_DATABASE_URL"}, {c.CustomersDatabaseURL != "", "the customers database", "RESTOCK_CUSTOMERS_DATABASE_URL"},
		{c.TopicARN != "", "topic, queues and SES", "RESTOCK_TOPIC_ARN"}, {c.TopicARN == "" || c.AdsFrom != "", "SES", "RESTOCK_ADS_FROM"},
		{c.FactoryAPI != "", "the factory", "RESTOCK_FACTORY_API"}, {c.MarketingWebhookURL != "", "the marketing system", "RESTOCK_MARKETING_WEBHOOK_URL"},
	} {
		if !given.is {
			left = append(left, given.what+": "+given.name+" is not set")
		}
	}
	if c.TopicARN != "" {
		aws, err := awsConfig(inv)
		if err != nil {
			return cfg, left, err
		}
		cfg.AWS = ops.DoctorAWS{
			SNS: sns.NewFromConfig(aws), SQS: sqs.NewFromConfig(aws), SES: sesv2.NewFromConfig(aws),
			TopicARN: c.TopicARN, AdsFrom: c.AdsFrom, WorkerAttempts: consumers.DefaultMaxAttempts,
		}
	}
	if cfg.Store, err = c.database(inv, c.DatabaseURL, c.Slot); err == nil {
		cfg.Customers, err = c.database(inv, c.CustomersDatabaseURL, c.CustomersSlot)
	}
	return cfg, left, err
}

// database is not reached here: whether it can be is what is to be told.
func (c *doctorCommand) database(inv *invocation, url, slot string) (ops.DoctorDatabase, error) {
	if url == "" {
		return ops.DoctorDatabase{}, nil
	}
	slot, err := slotName(slot, url)
	if err != nil {
		return ops.DoctorDatabase{}, err
	}
	var pool *pgxpool.Pool
	if pool, err = newPool(inv, url, "restock_doctor", 1); err != nil {
		return ops.DoctorDatabase{}, fmt.Errorf("open a pool: %w", err)
	}
	return ops.DoctorDatabase{Pool: pool, Slot: slot, WALBudget: c.WALBudget}, nil
}

func (d diagnosis) print(inv *invocation) {
	for _, check := range d.Checks {
		say(inv.stdout, "%-7s  %-9s  %s: %s\n", check.Level, check.Subject, check.Name, visible(check.Why))
		if check.Mend != "" {
			say(inv.stdout, "%20s mend: %s\n", "", visible(check.Mend))
		}
	}
	for _, name := range d.NotChecked {
		say(inv.stdout, "not checked: %s\n", name)
	}
	count := map[ops.Level]int{}
	for _, check := range d.Checks {
		count[check.Level]++
	}
	say(inv.stdout, "%d ok, %d warn, %d fail, %d unknown\n", count[ops.LevelOK], count[ops.LevelWarn], count[ops.LevelFail], count[ops.LevelUnknown])
}
