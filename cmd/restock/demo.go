package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localfactory"
	"github.com/restock-dev/restock/internal/localmarketing"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/internal/topology"
)

type demoCommand struct {
	APIAddr       string        `name:"api-addr" default:"127.0.0.1:8080" env:"RESTOCK_API_ADDR" help:"Where the shop listens."`
	AWSAddr       string        `name:"aws-addr" default:"127.0.0.1:4566" env:"RESTOCK_AWS_ADDR" help:"Where the local SNS, SQS and SES listen."`
	FactoryAddr   string        `default:"127.0.0.1:0" env:"RESTOCK_FACTORY_ADDR" help:"Where the pretend factory listens."`
	MarketingAddr string        `default:"127.0.0.1:0" env:"RESTOCK_MARKETING_ADDR" help:"Where the pretend marketing system listens."`
	AdminAddr     string        `default:"127.0.0.1:8089" env:"RESTOCK_ADMIN_ADDR" help:"Where the console listens. Its token is made anew each time."`
	HTTPAddr      string        `name:"http-addr" default:"127.0.0.1:0" env:"RESTOCK_HTTP_ADDR" help:"Where /healthz, /readyz, /progressz and /metrics of all parts are served."`
	DataDir       string        `default:"${datadir}" env:"RESTOCK_DATA_DIR" type:"path" help:"Where the demo keeps its Postgres."`
	PGBindir      string        `name:"pg-bindir" env:"RESTOCK_PG_BINDIR" type:"path" placeholder:"DIR" help:"Folder of initdb and postgres. Default: searched for, else fetched."`
	OTLP          string        `name:"otlp" placeholder:"URL" help:"OpenTelemetry collector to send spans to, by OTLP over HTTP at URL/v1/traces. Default: no tracing."`
	FactoryDelay  time.Duration `default:"3s" help:"Time from the factory's answer to its delivery."`
	Keep          bool          `xor:"shop" help:"Keep the shop of the last time. Messages that were in queues are gone all the same."`
	Once          bool          `xor:"shop" help:"Play the story once, check every step of it, and end: 0 if all went well, else 1."`
}

// demo is everything in one process. Its configuration is made here by hand, not
// taken from the environment, so that it can touch nothing real.
type demo struct {
	inv       *invocation
	cmd       *demoCommand
	pg        *localpg.Server
	aws       *localaws.Server
	topology  topology.Topology
	factory   *localfactory.Factory
	deliver   chan time.Time // closed when the story wants the factory to deliver
	marketing *localmarketing.System
	whsec     string            // of the marketing system
	passwords map[string]string // by role
	registry  *prometheus.Registry
	listeners map[string]net.Listener // by endpoint
	apiURL    string
	signIn    string // what the console asks for
	parts     []func(context.Context) error
	progress  []func() error // of relays and workers
	closers   []func() error
}

// Run brings everything up, plays the story if asked to, and stays until a
// signal otherwise.
func (c *demoCommand) Run(inv *invocation) (err error) {
	if err := forgetEnvironment(); err != nil {
		return err
	}
	if c.Once {
		c.AdminAddr = ""
		inv.log = inv.log.Level(max(inv.log.GetLevel(), 2)) // warnings: the story is what is to be read
	}
	d := &demo{inv: inv, cmd: c, passwords: map[string]string{}, registry: newRegistry(), listeners: map[string]net.Listener{}, deliver: make(chan time.Time)}
	defer func() { err = errors.Join(err, d.close()) }()
	for _, start := range []func() error{d.listen, d.startAWS, d.startPostgres, d.startFactory, d.startMarketing, d.startAPI, d.startRelays, d.startConsumers, d.startConsole, d.startMetrics} {
		if err := start(); err != nil {
			return err
		}
	}
	d.parts = append(d.parts, d.watchPostgres)
	if c.Once {
		d.parts = append(d.parts, d.story)
		if err := service.Run(inv, d.parts...); err != nil || inv.Err() == nil {
			return d.whyEnded(err)
		}
		return inv.Err() // told to stop: the story was not told to its end
	}
	d.welcome()
	return d.whyEnded(service.Run(inv, d.parts...))
}

// listen takes every address before any work is done: a taken one is the most
// likely thing to be wrong.
func (d *demo) listen() error {
	addresses := map[string]string{"api": d.cmd.APIAddr, "factory": d.cmd.FactoryAddr, "marketing": d.cmd.MarketingAddr, "metrics": d.cmd.HTTPAddr, "console": d.cmd.AdminAddr}
	for name, addr := range addresses {
		if addr == "" { // a story and a drill are over before somebody looks
			continue
		}
		ln, err := service.Listen(addr)
		if err != nil {
			return &setupError{err}
		}
		d.listeners[name] = ln
		// A part that serves it closes it too; the second time is no news.
		d.closers = append(d.closers, func() error { _ = ln.Close(); return nil })
	}
	d.apiURL = d.url("api")
	return nil
}

// forgetEnvironment drops what the clients of Postgres, AWS and OpenTelemetry would
// read by themselves, so that nothing real can be touched by mistake.
func forgetEnvironment() error {
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "OTEL_") {
			if err := os.Unsetenv(name); err != nil {
				return fmt.Errorf("drop %s from the environment: %w", name, err)
			}
		}
	}
	return nil
}

func (d *demo) url(name string) string { return "http://" + d.listeners[name].Addr().String() }

func (d *demo) close() error {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i]())
	}
	return errors.Join(errs...)
}

func (d *demo) welcome() {
	fmt.Fprintf(d.inv.stdout, `
Buy a donut until there are none left, and watch the factory send more:
  curl -X POST %[1]s/checkout
  curl %[1]s/products/%[2]s
Buy a hundred at once, which makes the customer VIP:
  curl -X POST %[1]s/checkout -H 'Content-Type: application/json' -d '{"sku":"%[4]s","quantity":100,"customerId":"%[5]s"}'
Look at the mails, and at the messages:
  curl %[3]s/_localaws/mails
  aws --endpoint-url %[3]s sns list-topics
Watch it all on a page, replay, send again; it asks for a token:
  %[7]s
  %[6]s
Ctrl-C ends everything.
`, d.apiURL, demoSKU, d.aws.URL(), demoBulkSKU, demoCustomer, d.signIn, d.url("console"))
}
