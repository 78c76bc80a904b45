package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/internal/console"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// How old may be what the demo shows: its databases are small, and somebody watches.
const (
	demoInterval       = 2 * time.Second
	demoReconcileEvery = 30 * time.Second
)

// startConsole serves the console, if it is to listen, and looks and compares for it,
// which the metrics show too.
func (d *demo) startConsole() error {
	if d.listeners["console"] == nil {
		return nil
	}
	client := sqs.NewFromConfig(d.aws.AWSConfig())
	p := ops.Pipeline{SQS: client, Find: queuesOf(client), VIPThreshold: schema.DefaultVIPThreshold}
	for database, pool := range map[string]**pgxpool.Pool{demoStore: &p.Store, demoCustomers: &p.Customers} {
		made, err := newPool(d.inv, d.dsn(database, schema.RoleMaintenance), "restock_admin", adminConns)
		if err != nil {
			return err
		}
		d.closers = append(d.closers, func() error { made.Close(); return nil })
		*pool = made
	}
	ln := d.listeners["console"]
	token, err := d.consoleToken()
	if err != nil {
		return err
	}
	cfg := console.Config{
		Pipeline: p, Status: p.Status(ops.StatusConfig{}), Interval: demoInterval, ReconcileEvery: demoReconcileEvery,
		DLQ:    ops.DLQConfig{Wait: -1}, // the local queues need not be asked twice whether they are empty
		Logger: d.inv.log.With().Str("part", "admin").Logger(),
	}
	if cfg.Guard, err = console.NewGuard(ln.Addr().String(), []console.Token{console.ParseToken(token)}); err != nil {
		return &setupError{err}
	}
	if cfg.Reconciler, err = ops.NewReconciler(ops.ReconcileConfig{Store: p.Store, Customers: p.Customers, VIPThreshold: p.VIPThreshold}); err != nil {
		return err
	}
	cfg.Reconciled = ops.NewReconcileMetrics(d.registry).Tell
	d.registry.MustRegister(cfg.Status.Collector())
	one := console.New(cfg)
	d.parts = append(d.parts, one.Run, service.HTTP(ln, one.Handler()))
	endpoint(d.inv, "console", d.url("console"))
	return nil
}

// consoleToken makes the token of this run, and keeps it while it lasts in a file that
// only its owner may read. A terminal is shown it besides; what else the output goes to,
// a log say, is read by others, and is told the file.
func (d *demo) consoleToken() (string, error) {
	token, path := secret(), filepath.Join(d.cmd.DataDir, "console-token")
	_ = os.Remove(path) // another mode would stay as it is
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the console's token: %w", err)
	}
	d.closers = append(d.closers, func() error { return os.Remove(path) })
	d.signIn = "the token in " + path
	if isTerminal(d.inv.stdout) {
		d.signIn = token
	}
	return token, nil
}
