package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/internal/topology"
)

type consumeCommand struct {
	databasesFlags
	httpFlag
	otlpFlags
	vipFlag
	Consumers  []string `arg:"" optional:"" enum:"${consumers}" help:"Which consumers; all of them if none is named. There are: ${consumers}."`
	FactoryAPI string   `name:"factory-api" env:"RESTOCK_FACTORY_API" placeholder:"URL" help:"The factory; requests go to URL/api/manufactures."`
	adsFlags
	marketingFlags
	Visibility  time.Duration `default:"60s" env:"RESTOCK_VISIBILITY" help:"How long a message stays hidden from others without renewal: what a crash of this process costs its groups."`
	Lease       time.Duration `default:"60s" env:"RESTOCK_LEASE" help:"How long an attempt keeps its event to itself. The call to the other side gets three quarters of it."`
	Concurrency int           `default:"32" env:"RESTOCK_CONCURRENCY" help:"Message groups that a consumer works on at once."`
}

// adsFlags are the ads consumer's.
type adsFlags struct {
	AdsFrom             string `env:"RESTOCK_ADS_FROM" placeholder:"ADDRESS" help:"Sender of the mails to the ads' managers: an address, or Name <address>, that SES has verified."`
	SESConfigurationSet string `name:"ses-configuration-set" env:"RESTOCK_SES_CONFIGURATION_SET" placeholder:"NAME" help:"Configuration set of the mails. Default: none."`
}

func (f adsFlags) ads(client *sesv2.Client) consumers.AdsConfig {
	return consumers.AdsConfig{SES: client, From: f.AdsFrom, ConfigurationSet: f.SESConfigurationSet}
}

// marketingFlags are the marketing consumer's.
type marketingFlags struct {
	MarketingWebhookURL string         `name:"marketing-webhook-url" env:"RESTOCK_MARKETING_WEBHOOK_URL" placeholder:"URL" help:"Where the marketing system takes webhooks."`
	MarketingSecrets    []string       `env:"RESTOCK_MARKETING_SECRETS" placeholder:"whsec_…" help:"Active secrets, comma-separated; each signs. Best given by the environment."`
	MarketingAllow      []netip.Prefix `env:"RESTOCK_MARKETING_ALLOW" placeholder:"PREFIX" help:"Addresses, such as 10.1.0.0/16, that the webhook's host may have though they are not global."`
}

func (f marketingFlags) marketing() consumers.MarketingConfig {
	return consumers.MarketingConfig{URL: f.MarketingWebhookURL, Secrets: f.MarketingSecrets, AllowedPrefixes: f.MarketingAllow}
}

// Run consumes until a signal.
func (c *consumeCommand) Run(inv *invocation) error {
	cfg, err := awsConfig(inv)
	if err != nil {
		return err
	}
	traces, err := c.start(inv, "consumers")
	if err != nil {
		return err
	}
	defer traces.Stop()
	reg, client := newRegistry(), sqs.NewFromConfig(cfg)
	pools := &pools{metrics: reg}
	defer pools.close()
	s := supplies{
		store:      pools.once(inv, "store", c.DatabaseURL, "--database-url", "RESTOCK_DATABASE_URL"),
		customers:  pools.once(inv, "customers", c.CustomersDatabaseURL, "--customers-database-url", "RESTOCK_CUSTOMERS_DATABASE_URL"),
		factoryAPI: c.FactoryAPI, vipThreshold: c.VIPThreshold, ads: c.ads(sesv2.NewFromConfig(cfg)), marketing: c.marketing(), tracing: traces.Provider(),
	}
	all, err := makeConsumers(s, c.names())
	if err != nil {
		return err
	}
	var parts []func(context.Context) error
	var workers []*consumers.Worker
	for _, one := range all {
		queue, err := topology.FindQueue(inv, client, one.name)
		if err != nil {
			return &setupError{err}
		}
		w, err := one.worker(s, queue, consumers.Config{
			SQS: client, Concurrency: c.Concurrency, Visibility: c.Visibility, Lease: c.Lease,
			Logger: inv.log.With().Str("part", "consume").Logger(), Metrics: reg,
		})
		if err != nil {
			return err
		}
		workers, parts = append(workers, w), append(parts, w.Run)
	}
	ln, err := listen(inv, "consume", c.HTTPAddr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	service.Health(mux, allReady(workers), reg)
	service.Progress(mux, allProgress(workers))
	return service.Run(inv, append(parts, service.HTTP(ln, mux))...)
}

// names are the consumers asked for, each once.
func (c *consumeCommand) names() []string {
	if len(c.Consumers) == 0 {
		return consumerNames()
	}
	return slices.Compact(slices.Sorted(slices.Values(c.Consumers)))
}

func allReady(workers []*consumers.Worker) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, w := range workers {
			if err := w.Ready(ctx); err != nil {
				return fmt.Errorf("not all consumers can serve: %w", err)
			}
		}
		return nil
	}
}

func allProgress(workers []*consumers.Worker) func() error {
	return func() error {
		var errs []error
		for _, w := range workers {
			errs = append(errs, w.Progress())
		}
		return errors.Join(errs...)
	}
}
