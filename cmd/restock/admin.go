package main

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/restock-dev/restock/internal/console"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/service"
)

type adminCommand struct {
	databasesFlags
	vipFlag
	limitsFlags
	httpFlag
	Addr           string        `default:"127.0.0.1:8089" env:"RESTOCK_ADMIN_ADDR" placeholder:"HOST:PORT" help:"Where the console and its API listen. Without a token a loopback address only."`
	Hosts          []string      `name:"host" env:"RESTOCK_ADMIN_HOSTS" placeholder:"NAME" help:"Names, without port, under which it is reached besides its address; requests under others are refused."`
	Tokens         []string      `name:"token" env:"RESTOCK_ADMIN_TOKENS" placeholder:"NAME:TOKEN" help:"Who may use it: random tokens of 16 bytes or more, separated by commas, each with a name that is kept with what is done by it. Best given by the environment."`
	Interval       time.Duration `default:"5s" env:"RESTOCK_ADMIN_INTERVAL" help:"Time between two looks at the pipeline, however many watch."`
	ReconcileEvery time.Duration `default:"5m" env:"RESTOCK_RECONCILE_EVERY" help:"Time between two comparisons of outboxes, ledgers and inboxes. 0: none."`
	Grace          time.Duration `default:"15m" env:"RESTOCK_RECONCILE_GRACE" help:"How long an event may take to be published, and from there to be received, before it is missing."`
}

// Help is what -h says besides the flags.
func (c *adminCommand) Help() string {
	return "Serves the console, a page for people, and under /api/ what the commands status, replay, parked, dlq, replenishments, trace and reconcile do, as JSON; see docs/console.md. " +
		"Works on the databases as restock_maintenance, and on SQS. Without RESTOCK_CUSTOMERS_DATABASE_URL the customers database, vip and marketing are left out. " +
		"It speaks plain HTTP: reach it through an ssh tunnel, or put a proxy with TLS before it."
}

// Validate is called by kong.
func (c *adminCommand) Validate() error {
	switch {
	case c.Interval < 100*time.Millisecond:
		return errors.New("--interval must be 100ms or more")
	case c.ReconcileEvery < 0:
		return errors.New("--reconcile-every must not be below 0")
	}
	return errors.Join(c.limitsFlags.Validate(), c.vipFlag.Validate())
}

// Run serves until a signal.
func (c *adminCommand) Run(inv *invocation) error {
	var tokens []console.Token
	for _, t := range c.Tokens {
		tokens = append(tokens, console.ParseToken(t))
	}
	if value, set := os.LookupEnv("RESTOCK_ADMIN_TOKENS"); len(tokens) == 0 && set && strings.TrimSpace(value) == "" {
		return &setupError{errors.New("RESTOCK_ADMIN_TOKENS is set and empty: give it a token, or unset it")}
	}
	if len(tokens) == 0 {
		inv.log.Warn().Msg("no token is set: whoever can reach this machine's loopback may do everything")
	}
	guard, err := console.NewGuard(c.Addr, tokens, c.Hosts...)
	if err != nil {
		return &setupError{err}
	}
	p, done, err := c.pipeline(inv)
	if err != nil {
		return err
	}
	defer done()
	reg := newRegistry()
	cfg := console.Config{Guard: guard, Pipeline: p, Status: p.Status(c.limitsFlags.config()), Interval: c.Interval, Logger: inv.log.With().Str("part", "admin").Logger()}
	reg.MustRegister(cfg.Status.Collector())
	if c.ReconcileEvery > 0 {
		if cfg.Reconciler, err = ops.NewReconciler(ops.ReconcileConfig{Store: p.Store, Customers: p.Customers, VIPThreshold: c.VIPThreshold, Grace: c.Grace}); err != nil {
			return &setupError{err}
		}
		cfg.ReconcileEvery, cfg.Reconciled = c.ReconcileEvery, ops.NewReconcileMetrics(reg).Tell
	}
	ln, err := listen(inv, "console", c.Addr)
	if err != nil {
		return err
	}
	probes, err := listen(inv, "admin", c.HTTPAddr)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	mux := http.NewServeMux()
	service.Health(mux, nil, reg)
	one := console.New(cfg)
	return service.Run(inv, one.Run, service.HTTP(ln, one.Handler()), service.HTTP(probes, mux))
}

// adminConns are what the looks, a comparison and people at work take of one database at
// once: so many that none of them waits for a connection while it holds another.
const adminConns = 2 + 4 + 2*console.MostLong

// pipeline opens what is looked at. A database that cannot be reached is no reason not to
// start: that is when the console is needed most, and it shows what it can.
func (c *adminCommand) pipeline(inv *invocation) (p ops.Pipeline, done func(), err error) {
	aws, err := awsConfig(inv)
	if err != nil {
		return p, nil, err
	}
	if c.DatabaseURL == "" {
		return p, nil, &setupError{missing("--database-url (the store)", "RESTOCK_DATABASE_URL")}
	}
	if c.CustomersDatabaseURL == "" {
		inv.log.Warn().Msg("the customers database, vip and marketing are left out: no customers database is given")
	}
	if p, done, err = c.databases(inv, "restock_admin", adminConns); err != nil {
		return p, nil, err
	}
	client := sqs.NewFromConfig(aws)
	p.SQS, p.Find, p.VIPThreshold = client, queuesOf(client), c.VIPThreshold
	for _, d := range p.Reached(inv).Unreachable() {
		inv.log.Error().Str("database", d.Database).Str("error", d.Error).Msg("a database cannot be reached: what needs it is not shown until it can")
	}
	return p, done, nil
}
