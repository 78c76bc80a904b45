package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

type consumeCommand struct {
	databaseFlag
	httpFlag
	Consumers   []string      `arg:"" optional:"" enum:"factory" help:"Which consumers; all of them if none is named. There is: factory."`
	FactoryAPI  string        `name:"factory-api" env:"RESTOCK_FACTORY_API" placeholder:"URL" help:"The factory; requests go to URL/api/manufactures."`
	Visibility  time.Duration `default:"60s" env:"RESTOCK_VISIBILITY" help:"How long a message stays hidden from others without renewal: what a crash of this process costs its groups."`
	Lease       time.Duration `default:"60s" env:"RESTOCK_LEASE" help:"How long an attempt keeps its event to itself. The call to the other side gets three quarters of it."`
	Concurrency int           `default:"32" env:"RESTOCK_CONCURRENCY" help:"Message groups that a consumer works on at once."`
}

// Run consumes until a signal.
func (c *consumeCommand) Run(inv *invocation) error {
	names := slices.Compact(slices.Sorted(slices.Values(c.Consumers)))
	if len(names) == 0 {
		names = []string{schema.ConsumerFactory}
	}
	if c.FactoryAPI == "" {
		return &setupError{errors.New("no factory: set --factory-api or RESTOCK_FACTORY_API")}
	}
	cfg, err := awsConfig(inv)
	if err != nil {
		return err
	}
	if err := c.reach(inv); err != nil {
		return err
	}
	pool, err := c.pool(inv, "restock_consumers", 16)
	if err != nil {
		return err
	}
	defer pool.Close()
	reg, client := newRegistry(), sqs.NewFromConfig(cfg)
	var parts []func(context.Context) error
	var workers []*consumers.Worker
	for _, name := range names {
		queue, err := topology.FindQueue(inv, client, name)
		if err != nil {
			return &setupError{err}
		}
		handler, err := consumers.NewFactory(consumers.FactoryConfig{URL: c.FactoryAPI, Pool: pool})
		if err != nil {
			return &setupError{err}
		}
		interest, _ := schema.InterestOf(name, schema.DefaultVIPThreshold)
		w, err := consumers.New(consumers.Config{
			Interest: interest, QueueURL: queue.URL, DLQURL: queue.DLQURL, SQS: client, Pool: pool, Handler: handler,
			Concurrency: c.Concurrency, Visibility: c.Visibility, Lease: c.Lease, Logger: inv.log.With().Str("part", "consume").Logger(), Metrics: reg,
		})
		if err != nil {
			return &setupError{err}
		}
		workers, parts = append(workers, w), append(parts, w.Run)
	}
	ln, err := listen(inv, "consume", c.HTTPAddr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	service.Health(mux, allReady(workers), reg)
	return service.Run(inv, append(parts, service.HTTP(ln, mux))...)
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
