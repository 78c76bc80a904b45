package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/api"
	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localfactory"
	"github.com/restock-dev/restock/internal/localmarketing"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

func (d *demo) startAWS() error {
	s, err := localaws.Start(localaws.Config{Addr: d.cmd.AWSAddr, Logger: d.inv.log.With().Str("part", "aws").Logger()})
	if err != nil {
		return &setupError{err}
	}
	d.aws = s
	d.closers = append(d.closers, s.Close)
	if d.topology, err = createTopology(d.inv, s, schema.DefaultVIPThreshold); err != nil {
		return err
	}
	if _, err := sesv2.NewFromConfig(s.AWSConfig()).CreateEmailIdentity(d.inv, &sesv2.CreateEmailIdentityInput{EmailIdentity: aws.String(demoSender)}); err != nil {
		return fmt.Errorf("verify the sender of mails: %w", err)
	}
	endpoint(d.inv, "aws", s.URL())
	endpoint(d.inv, "mails", s.URL()+"/_localaws/mails")
	return nil
}

func (d *demo) startFactory() error {
	cfg := localfactory.Config{Delay: d.cmd.FactoryDelay, Logger: d.inv.log.With().Str("part", "factory").Logger()}
	if d.cmd.Once {
		// A delivery before the ads were stopped would leave nothing to stop.
		cfg.Delay = time.Nanosecond
		cfg.After = func(wait time.Duration) <-chan time.Time {
			if wait == cfg.Delay {
				return d.deliver
			}
			return time.After(wait)
		}
	}
	d.factory = localfactory.New(cfg)
	d.parts = append(d.parts, d.factory.Run, service.HTTP(d.listeners["factory"], d.factory.Handler()))
	endpoint(d.inv, "factory", d.url("factory"))
	return nil
}

// startMarketing starts the pretend marketing system, with a secret of this run.
func (d *demo) startMarketing() error {
	d.whsec = "whsec_" + base64.StdEncoding.EncodeToString([]byte(secret()))
	var err error
	d.marketing, err = localmarketing.New(localmarketing.Config{
		Secrets: []string{d.whsec}, Logger: d.inv.log.With().Str("part", "marketing").Logger(),
	})
	if err != nil {
		return err
	}
	d.parts = append(d.parts, service.HTTP(d.listeners["marketing"], d.marketing.Handler()))
	endpoint(d.inv, "marketing", d.url("marketing"))
	return nil
}

func (d *demo) startAPI() error {
	signing, err := keptSecret(filepath.Join(d.cmd.DataDir, "callback-secret"))
	if err != nil {
		return err
	}
	traces, err := d.tracing("api")
	if err != nil {
		return err
	}
	a, err := api.New(d.inv, api.Config{
		DSN: d.dsn(demoStore, schema.RoleAPI), PublicURL: d.apiURL, DefaultSKU: demoSKU, CallbackSecrets: [][]byte{signing},
		Logger: d.inv.log.With().Str("part", "api").Logger(), Metrics: d.registry, Tracing: traces,
	})
	if err != nil {
		return &setupError{err}
	}
	d.parts = append(d.parts, a.Run, service.HTTP(d.listeners["api"], a.Handler()))
	endpoint(d.inv, "api", d.apiURL)
	return nil
}

// tracing is that of one part, nil where --otlp is not given.
func (d *demo) tracing(part string, attributes ...attribute.KeyValue) (trace.TracerProvider, error) {
	t, err := otlpFlags{OTLP: d.cmd.OTLP}.start(d.inv, part, attributes...)
	if err != nil {
		return nil, err
	}
	if t != nil {
		d.closers = append(d.closers, func() error { t.Stop(); return nil })
	}
	return t.Provider(), nil
}

// keptSecret reads the secret in a file that only its owner may read, and makes
// it the first time: callbacks on their way outlive a restart of the demo.
func keptSecret(path string) ([]byte, error) {
	kept, err := os.ReadFile(path)
	if err == nil && len(kept) >= 16 {
		return kept, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the callback secret: %w", err)
	}
	kept = []byte(secret())
	if err := os.WriteFile(path, kept, 0o600); err != nil {
		return nil, fmt.Errorf("keep the callback secret: %w", err)
	}
	return kept, nil
}

// startRelays starts a relay for each database. They share the topic and nothing
// else.
func (d *demo) startRelays() error {
	for _, database := range []string{demoStore, demoCustomers} {
		r, err := d.newRelay(database, d.registry)
		if err != nil {
			return err
		}
		d.parts, d.progress = append(d.parts, r.Run), append(d.progress, r.Progress)
	}
	return nil
}

func (d *demo) newRelay(database string, reg prometheus.Registerer) (*relay.Relay, error) {
	slot := schema.SlotName(database)
	traces, err := d.tracing("relay", attribute.String("restock.slot", slot))
	if err != nil {
		return nil, err
	}
	publisher, err := relay.NewSNS(relay.SNSConfig{AWS: d.aws.AWSConfig(), TopicARN: d.topology.TopicARN, Tracing: traces})
	if err != nil {
		return nil, err
	}
	return relay.New(relay.Config{
		DSN: d.dsn(database, schema.RoleRelay), Slot: slot, Publication: schema.Publication, Publisher: publisher,
		Logger: d.inv.log.With().Str("part", "relay").Str("database", database).Logger(), Metrics: reg,
	})
}

// startConsumers starts all that there are.
func (d *demo) startConsumers() error {
	s := d.supplies()
	var err error
	if s.tracing, err = d.tracing("consumers"); err != nil {
		return err
	}
	all, err := makeConsumers(s, consumerNames())
	if err != nil {
		return err
	}
	for _, one := range all {
		w, err := d.newWorker(s, one, d.registry)
		if err != nil {
			return err
		}
		d.parts, d.progress = append(d.parts, w.Run), append(d.progress, w.Progress)
	}
	return nil
}

func (d *demo) supplies() supplies {
	return supplies{
		store:      d.pool(demoStore, schema.RoleConsumers),
		customers:  d.pool(demoCustomers, schema.RoleCustomers),
		factoryAPI: d.url("factory"), vipThreshold: schema.DefaultVIPThreshold,
		ads: consumers.AdsConfig{SES: sesv2.NewFromConfig(d.aws.AWSConfig()), From: "Donuts <" + demoSender + ">"},
		marketing: consumers.MarketingConfig{
			URL: d.url("marketing") + "/webhooks", Secrets: []string{d.whsec},
			AllowedPrefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		},
	}
}

func (d *demo) newWorker(s supplies, c consumer, reg prometheus.Registerer) (*consumers.Worker, error) {
	return c.worker(s, d.topology.Queues[c.name], consumers.Config{
		SQS: sqs.NewFromConfig(d.aws.AWSConfig()), Logger: d.inv.log.With().Str("part", "consume").Logger(), Metrics: reg,
	})
}

func (d *demo) pool(database, role string) func() (*pgxpool.Pool, error) {
	return sync.OnceValues(func() (*pgxpool.Pool, error) {
		pool, err := newPool(d.inv, d.dsn(database, role), "restock_consumers", 16)
		if err != nil {
			return nil, err
		}
		d.closers = append(d.closers, func() error { pool.Close(); return nil })
		return pool, showPool(d.registry, database, pool)
	})
}

func (d *demo) startMetrics() error {
	endpoint(d.inv, "metrics", d.url("metrics")+"/metrics")
	mux := http.NewServeMux()
	service.Health(mux, nil, d.registry)
	service.Progress(mux, func() error {
		var errs []error
		for _, p := range d.progress {
			errs = append(errs, p())
		}
		return errors.Join(errs...)
	})
	d.parts = append(d.parts, service.HTTP(d.listeners["metrics"], mux))
	return nil
}
