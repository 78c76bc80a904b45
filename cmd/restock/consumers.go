package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

// makers make each consumer. There are those that stand here.
var makers = map[string]func(supplies) (consumer, error){
	schema.ConsumerFactory:   makeFactory,
	schema.ConsumerAds:       makeAds,
	schema.ConsumerVIP:       makeVIP,
	schema.ConsumerMarketing: makeMarketing,
}

func consumerNames() []string { return slices.Sorted(maps.Keys(makers)) }

// consumer is a handler and the database that has its inbox.
type consumer struct {
	name    string
	handler consumers.Handler
	inbox   *pgxpool.Pool
}

// supplies is what consumers are made from. Each takes what it needs, and says
// what is missing.
type supplies struct {
	store, customers func() (*pgxpool.Pool, error) // the same pool each time
	factoryAPI       string
	vipThreshold     int64
	ads              consumers.AdsConfig // but for its pool
	marketing        consumers.MarketingConfig
	tracing          trace.TracerProvider // nil traces nothing
}

// vipFlag is how many units make VIP, which the queue's filter and the consumer
// must agree on.
type vipFlag struct {
	VIPThreshold int64 `name:"vip-threshold" default:"${vipthreshold}" env:"RESTOCK_VIP_THRESHOLD" placeholder:"UNITS" help:"Units in one order that make its customer VIP. Filter policy and consumer need the same one."`
}

// Validate is called by kong.
func (f vipFlag) Validate() error {
	if f.VIPThreshold < 1 {
		return errors.New("--vip-threshold (RESTOCK_VIP_THRESHOLD) must be 1 or more")
	}
	return nil
}

func makeFactory(s supplies) (consumer, error) {
	if s.factoryAPI == "" {
		return consumer{}, missing("--factory-api", "RESTOCK_FACTORY_API")
	}
	pool, err := s.store()
	if err != nil {
		return consumer{}, err
	}
	h, err := consumers.NewFactory(consumers.FactoryConfig{URL: s.factoryAPI, Pool: pool})
	return consumer{handler: h, inbox: pool}, err
}

func makeAds(s supplies) (consumer, error) {
	if s.ads.From == "" {
		return consumer{}, missing("--ads-from", "RESTOCK_ADS_FROM")
	}
	pool, err := s.store()
	if err != nil {
		return consumer{}, err
	}
	s.ads.Pool = pool
	h, err := consumers.NewAds(s.ads)
	return consumer{handler: h, inbox: pool}, err
}

func makeVIP(s supplies) (consumer, error) {
	pool, err := s.customers()
	if err != nil {
		return consumer{}, err
	}
	h, err := consumers.NewVIP(consumers.VIPConfig{Threshold: s.vipThreshold})
	return consumer{handler: h, inbox: pool}, err
}

func makeMarketing(s supplies) (consumer, error) {
	switch {
	case s.marketing.URL == "":
		return consumer{}, missing("--marketing-webhook-url", "RESTOCK_MARKETING_WEBHOOK_URL")
	case len(s.marketing.Secrets) == 0:
		return consumer{}, missing("--marketing-secrets", "RESTOCK_MARKETING_SECRETS")
	}
	pool, err := s.customers()
	if err != nil {
		return consumer{}, err
	}
	h, err := consumers.NewMarketing(s.marketing)
	return consumer{handler: h, inbox: pool}, err
}

// missing is a setting that a consumer needs and was not given.
func missing(flag, env string) error { return fmt.Errorf("set %s or %s", flag, env) }

// makeConsumers makes the consumers of those names.
func makeConsumers(s supplies, names []string) ([]consumer, error) {
	made := make([]consumer, 0, len(names))
	for _, name := range names {
		c, err := makers[name](s)
		if err != nil {
			return nil, &setupError{fmt.Errorf("consumer %s: %w", name, err)}
		}
		c.name = name
		made = append(made, c)
	}
	return made, nil
}

// worker makes the consumer's worker. common is what all workers share.
func (c consumer) worker(s supplies, q topology.Queue, common consumers.Config) (*consumers.Worker, error) {
	cfg := common
	cfg.Interest, _ = schema.InterestOf(c.name, s.vipThreshold)
	cfg.QueueURL, cfg.DLQURL = q.URL, q.DLQURL
	cfg.Handler, cfg.Pool, cfg.Tracing = c.handler, c.inbox, s.tracing
	w, err := consumers.New(cfg)
	if err != nil {
		return nil, &setupError{err}
	}
	return w, nil
}
