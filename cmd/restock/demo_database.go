package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// The demo's databases, both on its private server.
const (
	demoStore     = "store"
	demoCustomers = "customers"
)

// What the demo's shop has: the product that a checkout with an empty body buys,
// one to buy many of, a customer who is not VIP yet, and who
// mails the ads' manager.
const (
	demoSKU      = "CP-502101"
	demoBulkSKU  = "CP-502102"
	demoCustomer = "customer-1"
	demoSender   = "ads@donuts.example"
)

// startPostgres starts the private server and makes the databases.
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
	if err := d.makeDatabase(demoStore, schema.MigrateStore); err != nil {
		return fmt.Errorf("make the shop's database: %w", err)
	}
	if err := d.makeDatabase(demoCustomers, schema.MigrateCustomers); err != nil {
		return fmt.Errorf("make the customers database: %w", err)
	}
	if err := d.furnish(); err != nil {
		return fmt.Errorf("furnish the shop: %w", err)
	}
	url := fmt.Sprintf("postgres://%s@127.0.0.1:%d/%%s?passfile=%s", localpg.Owner, pg.Port(), pg.Passfile())
	endpoint(d.inv, "postgres", fmt.Sprintf(url, demoStore))
	endpoint(d.inv, "postgres-customers", fmt.Sprintf(url, demoCustomers))
	return nil
}

// watchPostgres ends with the server: nobody starts it again, and without it the demo
// would only say for ever that it cannot be reached.
func (d *demo) watchPostgres(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.pg.Done():
		return d.postgresEnded()
	}
}

func (d *demo) postgresEnded() error {
	return fmt.Errorf("the local Postgres has ended, its log is %s: start the demo again, with --keep on the same shop", d.pg.LogFile())
}

// endNoticed is how long the server's end may take to be known here after a part failed of
// it: a connection breaks before the process is reaped.
const endNoticed = time.Second

// whyEnded is the server's end in place of the error of the part that noticed it first.
func (d *demo) whyEnded(err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-d.pg.Done():
		return d.postgresEnded()
	case <-d.inv.Done():
		return err
	case <-time.After(endNoticed):
		return err
	}
}

// makeDatabase makes a database, fresh unless it is to be kept, with its slot.
func (d *demo) makeDatabase(name string, migrate func(context.Context, string) ([]string, error)) error {
	conn, err := pgx.Connect(d.inv, d.pg.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(d.inv))
	var exists bool
	if err := conn.QueryRow(d.inv, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&exists); err != nil {
		return err
	}
	if exists && !d.cmd.Keep {
		if err := d.pg.DropDatabase(d.inv, name); err != nil {
			return err
		}
		exists = false
	}
	if !exists {
		if err := d.pg.CreateDatabase(d.inv, name, ""); err != nil {
			return err
		}
	}
	dsn := d.pg.DSN(name)
	if _, err := migrate(d.inv, dsn); err != nil {
		return err
	}
	_, err = relay.CreateSlot(d.inv, dsn, schema.SlotName(name), schema.Publication, relay.RefuseExisting, time.Minute)
	return err
}

// furnish gives the roles passwords of this run, puts the products on sale and
// lets a customer in.
func (d *demo) furnish() error {
	roles := []string{schema.RoleAPI, schema.RoleRelay, schema.RoleConsumers, schema.RoleCustomers, schema.RoleMaintenance}
	err := d.asOwner(demoStore, func(conn *pgx.Conn) error {
		for _, role := range roles {
			d.passwords[role] = secret()
			if _, err := conn.Exec(d.inv, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", role, d.passwords[role])); err != nil {
				return err
			}
		}
		stock, err := d.firstStock()
		if err != nil {
			return err
		}
		_, err = conn.Exec(d.inv, `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email) VALUES
			($1, '도너츠', $3, $3, 10, 'FF-500293', 'manager@donuts.example'),
			($2, '초코 도너츠', 500, 500, 100, 'FF-500293', 'manager@donuts.example')
			ON CONFLICT DO NOTHING`, demoSKU, demoBulkSKU, stock)
		return err
	})
	if err != nil {
		return err
	}
	return d.asOwner(demoCustomers, func(conn *pgx.Conn) error {
		_, err := conn.Exec(d.inv, `INSERT INTO customers (id, name, mail) VALUES ($1, '김하나', 'hana@customers.example') ON CONFLICT DO NOTHING`, demoCustomer)
		return err
	})
}

// firstStock is 1 for the story, else 1 to 10.
func (d *demo) firstStock() (int64, error) {
	if d.cmd.Once {
		return 1, nil
	}
	n, err := rand.Int(rand.Reader, big.NewInt(10))
	if err != nil {
		return 0, err
	}
	return n.Int64() + 1, nil
}

func (d *demo) asOwner(database string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(d.inv, d.pg.DSN(database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(d.inv))
	return do(conn)
}

// dsn is a database for one of the roles.
func (d *demo) dsn(database, role string) string {
	return d.pg.RoleDSN(role, d.passwords[role], database)
}

// secret is 16 random bytes in hexadecimal.
func secret() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b)
}
