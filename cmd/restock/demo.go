package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/restock-dev/restock/api"
	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localfactory"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

type demoCommand struct {
	APIAddr      string        `name:"api-addr" default:"127.0.0.1:8080" env:"RESTOCK_API_ADDR" help:"Where the shop listens."`
	AWSAddr      string        `name:"aws-addr" default:"127.0.0.1:4566" env:"RESTOCK_AWS_ADDR" help:"Where the local SNS, SQS and SES listen."`
	FactoryAddr  string        `default:"127.0.0.1:0" env:"RESTOCK_FACTORY_ADDR" help:"Where the pretend factory listens."`
	HTTPAddr     string        `name:"http-addr" default:"127.0.0.1:0" env:"RESTOCK_HTTP_ADDR" help:"Where /healthz, /readyz and /metrics of all parts are served."`
	DataDir      string        `default:"${datadir}" env:"RESTOCK_DATA_DIR" type:"path" help:"Where the demo keeps its Postgres."`
	PGBindir     string        `name:"pg-bindir" env:"RESTOCK_PG_BINDIR" type:"path" placeholder:"DIR" help:"Folder of initdb and postgres. Default: searched for, else fetched."`
	FactoryDelay time.Duration `default:"3s" help:"Time from the factory's answer to its delivery."`
	Keep         bool          `help:"Keep the shop of the last time. Messages that were in queues are gone all the same."`
	Once         bool          `help:"Play the story once, check every step of it, and end: 0 if all went well, else 1."`
}

const demoDatabase = "store"

// demo is everything in one process. Its configuration is made here by hand, not
// taken from the environment, so that it can touch nothing real.
type demo struct {
	inv       *invocation
	cmd       *demoCommand
	pg        *localpg.Server
	aws       *localaws.Server
	topology  topology.Topology
	factory   *localfactory.Factory
	passwords map[string]string // by role
	registry  *prometheus.Registry
	listeners map[string]net.Listener // by endpoint
	apiURL    string
	parts     []func(context.Context) error
	closers   []func() error
}

// Run brings everything up, plays the story if asked to, and stays until a
// signal otherwise.
func (c *demoCommand) Run(inv *invocation) (err error) {
	if err := forgetEnvironment(); err != nil {
		return err
	}
	if c.Once {
		inv.log = inv.log.Level(max(inv.log.GetLevel(), 2)) // warnings: the story is what is to be read
	}
	d := &demo{inv: inv, cmd: c, passwords: map[string]string{}, registry: newRegistry(), listeners: map[string]net.Listener{}}
	defer func() { err = errors.Join(err, d.close()) }()
	for _, start := range []func() error{d.listen, d.startAWS, d.startPostgres, d.startFactory, d.startAPI, d.startRelay, d.startConsumer, d.startMetrics} {
		if err := start(); err != nil {
			return err
		}
	}
	if c.Once {
		d.parts = append(d.parts, d.story)
		return service.Run(inv, d.parts...)
	}
	d.welcome()
	return service.Run(inv, d.parts...)
}

// listen takes every address before any work is done: a taken one is the most
// likely thing to be wrong.
func (d *demo) listen() error {
	for name, addr := range map[string]string{"api": d.cmd.APIAddr, "factory": d.cmd.FactoryAddr, "metrics": d.cmd.HTTPAddr} {
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

// forgetEnvironment drops what Postgres's and AWS's clients would read by
// themselves, so that nothing real can be touched by mistake.
func forgetEnvironment() error {
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "AWS_") {
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

// startPostgres starts the private server and makes the shop's database.
func (d *demo) startPostgres() error {
	if err := os.MkdirAll(d.cmd.DataDir, 0o711); err != nil { //nolint:gosec // G301: the server's user, where it is another, passes through
		return &setupError{fmt.Errorf("make the data directory: %w", err)}
	}
	place, err := localpg.Place(d.cmd.DataDir)
	if err != nil {
		return &setupError{err}
	}
	pg, err := localpg.Start(d.inv, localpg.Config{
		DataDir: place, Bindir: d.cmd.PGBindir, Fsync: true,
		Logger: d.inv.log.With().Str("part", "postgres").Logger(),
	})
	if err != nil {
		return &setupError{err}
	}
	d.pg = pg
	d.closers = append(d.closers, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(d.inv), time.Minute)
		defer cancel()
		return pg.Stop(ctx)
	})
	if err := d.makeDatabase(); err != nil {
		return fmt.Errorf("make the shop's database: %w", err)
	}
	endpoint(d.inv, "postgres", fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?passfile=%s", localpg.Owner, pg.Port(), demoDatabase, pg.Passfile()))
	return nil
}

func (d *demo) makeDatabase() error {
	conn, err := pgx.Connect(d.inv, d.pg.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(d.inv))
	var exists bool
	if err := conn.QueryRow(d.inv, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, demoDatabase).Scan(&exists); err != nil {
		return err
	}
	if exists && !d.cmd.Keep {
		if err := d.pg.DropDatabase(d.inv, demoDatabase); err != nil {
			return err
		}
		exists = false
	}
	if !exists {
		if err := d.pg.CreateDatabase(d.inv, demoDatabase, ""); err != nil {
			return err
		}
	}
	dsn := d.pg.DSN(demoDatabase)
	if _, err := schema.MigrateStore(d.inv, dsn); err != nil {
		return err
	}
	if _, err := relay.CreateSlot(d.inv, dsn, schema.SlotName(demoDatabase), time.Minute); err != nil {
		return err
	}
	return d.furnish(dsn)
}

// furnish gives the roles passwords of this run and puts the products on sale.
func (d *demo) furnish(dsn string) error {
	conn, err := pgx.Connect(d.inv, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(d.inv))
	for _, role := range []string{schema.RoleAPI, schema.RoleRelay, schema.RoleConsumers} {
		d.passwords[role] = secret()
		if _, err := conn.Exec(d.inv, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", role, d.passwords[role])); err != nil {
			return err
		}
	}
	stock := int64(1)
	if !d.cmd.Once {
		n, err := rand.Int(rand.Reader, big.NewInt(10))
		if err != nil {
			return err
		}
		stock = n.Int64() + 1
	}
	_, err = conn.Exec(d.inv, `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email) VALUES
		('CP-502101', '도너츠', $1, $1, 10, 'FF-500293', 'manager@donuts.example'),
		('CP-502102', '초코 도너츠', 500, 500, 100, 'FF-500293', 'manager@donuts.example')
		ON CONFLICT DO NOTHING`, stock)
	return err
}

// demoSKU is the product that a checkout with an empty body buys.
const demoSKU = "CP-502101"

// secret is 16 random bytes in hexadecimal.
func secret() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b)
}

func (d *demo) startAWS() error {
	s, err := localaws.Start(localaws.Config{Addr: d.cmd.AWSAddr, Logger: d.inv.log.With().Str("part", "aws").Logger()})
	if err != nil {
		return &setupError{err}
	}
	d.aws = s
	d.closers = append(d.closers, s.Close)
	if d.topology, err = createTopology(d.inv, s); err != nil {
		return err
	}
	endpoint(d.inv, "aws", s.URL())
	return nil
}

func (d *demo) startFactory() error {
	delay := d.cmd.FactoryDelay
	if d.cmd.Once {
		delay = min(delay, 300*time.Millisecond)
	}
	d.factory = localfactory.New(localfactory.Config{Delay: delay, Logger: d.inv.log.With().Str("part", "factory").Logger()})
	d.parts = append(d.parts, d.factory.Run, service.HTTP(d.listeners["factory"], d.factory.Handler()))
	endpoint(d.inv, "factory", d.url("factory"))
	return nil
}

func (d *demo) startAPI() error {
	signing, err := keptSecret(filepath.Join(d.cmd.DataDir, "callback-secret"))
	if err != nil {
		return err
	}
	a, err := api.New(d.inv, api.Config{
		DSN: d.dsn(schema.RoleAPI), PublicURL: d.apiURL, DefaultSKU: demoSKU, CallbackSecrets: [][]byte{signing},
		Logger: d.inv.log.With().Str("part", "api").Logger(), Metrics: d.registry,
	})
	if err != nil {
		return &setupError{err}
	}
	d.parts = append(d.parts, a.Run, service.HTTP(d.listeners["api"], a.Handler()))
	endpoint(d.inv, "api", d.apiURL)
	return nil
}

func (d *demo) dsn(role string) string { return d.pg.RoleDSN(role, d.passwords[role], demoDatabase) }

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

func (d *demo) startRelay() error {
	publisher, err := relay.NewSNS(d.aws.AWSConfig(), d.topology.TopicARN, 16)
	if err != nil {
		return err
	}
	r, err := relay.New(relay.Config{
		DSN: d.dsn(schema.RoleRelay), Slot: schema.SlotName(demoDatabase), Publication: schema.Publication, Publisher: publisher,
		Logger: d.inv.log.With().Str("part", "relay").Logger(), Metrics: d.registry,
	})
	if err != nil {
		return err
	}
	d.parts = append(d.parts, r.Run)
	return nil
}

func (d *demo) startConsumer() error {
	pool, err := pgxpool.New(d.inv, d.dsn(schema.RoleConsumers))
	if err != nil {
		return err
	}
	d.closers = append(d.closers, func() error { pool.Close(); return nil })
	handler, err := consumers.NewFactory(consumers.FactoryConfig{URL: d.url("factory"), Pool: pool})
	if err != nil {
		return err
	}
	interest, _ := schema.InterestOf(schema.ConsumerFactory, schema.DefaultVIPThreshold)
	queue := d.topology.Queues[schema.ConsumerFactory]
	w, err := consumers.New(consumers.Config{
		Interest: interest, QueueURL: queue.URL, DLQURL: queue.DLQURL, SQS: sqs.NewFromConfig(d.aws.AWSConfig()),
		Pool: pool, Handler: handler, Logger: d.inv.log.With().Str("part", "consume").Logger(), Metrics: d.registry,
	})
	if err != nil {
		return err
	}
	d.parts = append(d.parts, w.Run)
	return nil
}

func (d *demo) startMetrics() error {
	endpoint(d.inv, "metrics", d.url("metrics")+"/metrics")
	mux := http.NewServeMux()
	service.Health(mux, nil, d.registry)
	d.parts = append(d.parts, service.HTTP(d.listeners["metrics"], mux))
	return nil
}

func (d *demo) welcome() {
	fmt.Fprintf(d.inv.stdout, `
Buy a donut until there are none left, and watch the factory send more:
  curl -X POST %[1]s/checkout
  curl %[1]s/products/%[2]s
Look at the messages:
  aws --endpoint-url %[3]s sns list-topics
Ctrl-C ends everything.
`, d.apiURL, demoSKU, d.aws.URL())
}
