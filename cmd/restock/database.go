package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

// databaseFlag is the database of one part, as that part's role.
type databaseFlag struct {
	DatabaseURL      string `required:"" env:"RESTOCK_DATABASE_URL" placeholder:"URL" help:"Postgres connection string. A password belongs in the environment or a passfile, not on the command line."`
	DatabasePassword string `env:"RESTOCK_DATABASE_PASSWORD" placeholder:"PASSWORD" help:"Its password, where that is kept apart from it, as a managed service does. Best given by the environment."`
}

// AfterApply is called by kong, which takes a variable that is empty for one that is set.
// Postgres's client would look for some database by itself then.
func (f *databaseFlag) AfterApply() (err error) {
	if f.DatabaseURL == "" {
		return missing("--database-url", "RESTOCK_DATABASE_URL")
	}
	f.DatabaseURL, err = withPassword(f.DatabaseURL, f.DatabasePassword)
	return err
}

func (f databaseFlag) reach(ctx context.Context) error {
	return reach(ctx, "the database", "", f.DatabaseURL)
}

// databasesFlags are the two databases, for a command that may need either.
type databasesFlags struct {
	DatabaseURL               string `env:"RESTOCK_DATABASE_URL" placeholder:"URL" help:"The store: Postgres connection string. A password belongs in the environment or a passfile, not on the command line."`
	DatabasePassword          string `env:"RESTOCK_DATABASE_PASSWORD" placeholder:"PASSWORD" help:"Its password, where that is kept apart from it, as a managed service does. Best given by the environment."`
	CustomersDatabaseURL      string `env:"RESTOCK_CUSTOMERS_DATABASE_URL" placeholder:"URL" help:"The customers database: Postgres connection string."`
	CustomersDatabasePassword string `env:"RESTOCK_CUSTOMERS_DATABASE_PASSWORD" placeholder:"PASSWORD" help:"Its password, where that is kept apart."`
}

// AfterApply is called by kong.
func (f *databasesFlags) AfterApply() (err error) {
	if f.DatabaseURL, err = withPassword(f.DatabaseURL, f.DatabasePassword); err == nil {
		f.CustomersDatabaseURL, err = withPassword(f.CustomersDatabaseURL, f.CustomersDatabasePassword)
	}
	return err
}

// withPassword puts a password into a connection string, a URL or one of keywords. No
// error of it, and none of who parses what it returns, shows the password.
func withPassword(dsn, password string) (string, error) {
	switch {
	case dsn == "" || password == "":
		return dsn, nil
	case !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://"):
		// What is wrong with the rest is told here: of a quoted password pgx would show all
		// that is behind a quote or a blank.
		if _, err := pgxpool.ParseConfig(dsn); err != nil {
			return "", err
		}
		return dsn + " password='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password) + "'", nil
	}
	u, err := url.Parse(dsn)
	if err != nil || u.User.Username() == "" {
		return "", errors.New("a password goes with a connection string that is a URL and names its user, as in postgres://user@host/database")
	}
	if query := u.Query(); query.Has("password") { // it would count
		query.Del("password")
		u.RawQuery = query.Encode()
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String(), nil
}

// reach connects once, so that a wrong address is an error at the start; that of the other
// database is, where it matters which of the two it is.
func reach(ctx context.Context, what, database, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return &setupError{fmt.Errorf("%s cannot be reached: %w", what, err)}
	}
	defer conn.Close(ctx)
	if database == "" {
		return nil
	}
	if err := schema.CheckDatabase(ctx, conn, database); err != nil {
		return &setupError{fmt.Errorf("%s is not what is there: %w", what, err)}
	}
	return nil
}

// newPool is a pool for a part, whose name Postgres shows.
func newPool(ctx context.Context, url, part string, conns int32) (*pgxpool.Pool, error) {
	pc, err := poolConfig(url, part, conns)
	if err != nil {
		return nil, err
	}
	return pgxpool.NewWithConfig(ctx, pc)
}

func poolConfig(url, part string, conns int32) (*pgxpool.Config, error) {
	pc, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, &setupError{err}
	}
	pc.MaxConns = conns
	pc.ConnConfig.RuntimeParams["application_name"] = part
	// A message is deleted on the word of the inbox, whatever the database's default is.
	pc.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	// Each statement is planned once: else it is planned for each event, against
	// every partition, which costs more than to run it.
	pc.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	return pc, nil
}

// pools are the pools of a process that may need one database or the other.
type pools struct {
	metrics prometheus.Registerer
	made    []*pgxpool.Pool
}

// once returns what makes the pool of a database, when it is first asked for and
// the database was reached, and gives the same one ever after. A database that
// nobody asks for may be missing.
func (p *pools) once(ctx context.Context, database, url, flag, env string) func() (*pgxpool.Pool, error) {
	return sync.OnceValues(func() (*pgxpool.Pool, error) {
		if url == "" {
			return nil, missing(flag, env)
		}
		if err := reach(ctx, "the "+database+" database", database, url); err != nil {
			return nil, err
		}
		pc, err := poolConfig(url, "restock_consumers", 16)
		if err != nil {
			return nil, err
		}
		service.ToWrite(&pc.ConnConfig.Config)
		pool, err := pgxpool.NewWithConfig(ctx, pc)
		if err != nil {
			return nil, err
		}
		p.made = append(p.made, pool)
		return pool, showPool(p.metrics, database, pool)
	})
}

// showPool registers the metrics of a pool that consumers share.
func showPool(reg prometheus.Registerer, database string, pool *pgxpool.Pool) error {
	reg = prometheus.WrapRegistererWith(prometheus.Labels{"database": database}, reg)
	for _, c := range service.PoolMetrics("consumer", pool) {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

func (p *pools) close() {
	for _, pool := range p.made {
		pool.Close()
	}
}

// queuesOf finds the queues of a consumer.
func queuesOf(client *sqs.Client) func(context.Context, string) (ops.Queues, error) {
	return func(ctx context.Context, consumer string) (ops.Queues, error) {
		q, err := topology.FindQueue(ctx, client, consumer)
		return ops.Queues{URL: q.URL, DLQURL: q.DLQURL, SubscriptionDLQURL: q.SubscriptionDLQURL}, err
	}
}
