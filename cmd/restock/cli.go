package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/mattn/go-isatty"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/awshttp"
	"github.com/restock-dev/restock/internal/service"
)

// cli is the whole surface.
type cli struct {
	Log logFlags `embed:"" prefix:"log-"`

	Demo      demoCommand      `cmd:"" help:"Run everything on this machine, with nothing to configure."`
	API       apiCommand       `cmd:"" name:"api" help:"Serve the shop: checkout, callback, products, orders."`
	Relay     relayCommand     `cmd:"" help:"Publish a database's outbox to SNS."`
	Consume   consumeCommand   `cmd:"" help:"Handle the events of one consumer or more."`
	Migrate   migrateCommand   `cmd:"" help:"Bring the databases to the newest schema: tables, roles, publication, slot."`
	Shards    shardsCommand    `cmd:"" help:"Change by how many relays a database's outbox is published, while they run."`
	Maintain  maintainCommand  `cmd:"" help:"Remove what is past its time: whole days that nobody needs any more."`
	Localaws  localawsCommand  `cmd:"" help:"Serve a local stand-in for SNS, SQS and SES, with Restock's topic and queues."`
	Factory   factoryCommand   `cmd:"" help:"Serve a pretend factory."`
	Load      loadCommand      `cmd:"" help:"Check out at an API as many customers do, and measure it."`
	Marketing marketingCommand `cmd:"" help:"Serve a pretend marketing system, which takes webhooks."`
	Replay    replayCommand    `cmd:"" help:"Publish events once more, and watch over that."`
	Status    statusCommand    `cmd:"" help:"See relays, slots, queues and what waits for somebody, and what mends it."`
	Parked    parkedCommand    `cmd:"" help:"See what could not be published, and send or skip it."`
	DLQ       dlqCommand       `cmd:"" name:"dlq" help:"See what could not be handled, and send it again."`
	Doctor    doctorCommand    `cmd:"" help:"Check everything that can be set up wrong, and print what mends it."`
	Trace     traceCommand     `cmd:"" help:"Tell the whole way of an event, an order or a replenishment, with the time of each step."`
	Drill     drillCommand     `cmd:"" help:"Rehearse a failure and its mending, on a Restock that it starts for it."`
	Admin     adminCommand     `cmd:"" help:"Serve the console: all of these on a page, and as an API."`
	Reconcile reconcileCommand `cmd:"" help:"Tell whether anything is missing: outbox, ledger and inboxes compared."`

	Version        versionCommand        `cmd:"" help:"Print the version, or what this program is built from."`
	Healthcheck    healthcheckCommand    `cmd:"" help:"Ask a part whether it is well, as a container's health check does."`
	Replenishments replenishmentsCommand `cmd:"" help:"See what the factory was asked for and has not delivered, ask again, or cancel."`
}

type logger = zerolog.Logger

type logFlags struct {
	Level  string `default:"info" enum:"debug,info,warn,error" env:"RESTOCK_LOG_LEVEL" help:"Least level that is logged: debug, info, warn or error."`
	Format string `default:"auto" enum:"auto,json,text" env:"RESTOCK_LOG_FORMAT" help:"json, text, or auto: text on a terminal."`
}

func (f logFlags) logger(w io.Writer) logger {
	level, err := zerolog.ParseLevel(f.Level)
	if err != nil {
		level = zerolog.InfoLevel // cannot be: the flag is an enum
	}
	if f.Format == "text" || f.Format == "auto" && isTerminal(w) {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// httpFlag is where a part without an API of its own answers probes and scrapes.
type httpFlag struct {
	HTTPAddr string `name:"http-addr" env:"RESTOCK_HTTP_ADDR" default:"127.0.0.1:0" help:"Where /healthz, /readyz and /metrics are served, and by relay and consume /progressz; port 0 is a free one."`
}

// listen opens a listener and prints its endpoint line.
func listen(inv *invocation, name, addr string) (net.Listener, error) {
	ln, err := service.Listen(addr)
	if err != nil {
		return nil, &setupError{err}
	}
	endpoint(inv, name, "http://"+ln.Addr().String())
	return ln, nil
}

func endpoint(inv *invocation, name, url string) {
	fmt.Fprintf(inv.stdout, "endpoint name=%s url=%s\n", name, url)
}

// newRegistry is a registry with the process's own metrics.
func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// awsConfig is the SDK's own: AWS_REGION, AWS_ENDPOINT_URL, profiles, roles.
func awsConfig(ctx context.Context) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	switch {
	case err != nil:
		return cfg, &setupError{fmt.Errorf("read the AWS configuration: %w", err)}
	case cfg.Region == "":
		return cfg, &setupError{fmt.Errorf("no AWS region: set AWS_REGION")}
	}
	cfg.HTTPClient = awshttp.Wrap(cfg.HTTPClient, 64)
	return cfg, nil
}
