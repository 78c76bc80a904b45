package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// stage is a demo whose relays and consumers are started and stopped one by one.
type stage struct {
	*demo
	cmd      *drillCommand
	ctx      context.Context //nolint:containedctx // it lives for one drill
	cancel   context.CancelFunc
	supplies supplies
	began    time.Time
	handled  order

	mu      sync.Mutex
	running map[string]*running
	ended   []error // of parts that nobody stopped
}

// running is one part, or several that go together.
type running struct {
	stop context.CancelFunc
	done chan struct{}
}

func newStage(inv *invocation, c *drillCommand) *stage {
	anywhere := "127.0.0.1:0"
	d := &demo{
		inv: inv, passwords: map[string]string{}, registry: newRegistry(), listeners: map[string]net.Listener{}, deliver: make(chan time.Time),
		cmd: &demoCommand{APIAddr: anywhere, AWSAddr: anywhere, FactoryAddr: anywhere, MarketingAddr: anywhere, HTTPAddr: anywhere, DataDir: c.DataDir, PGBindir: c.PGBindir, FactoryDelay: time.Second},
	}
	ctx, cancel := context.WithCancel(inv)
	return &stage{demo: d, cmd: c, ctx: ctx, cancel: cancel, began: time.Now(), running: map[string]*running{}}
}

// open brings everything up.
func (s *stage) open() error {
	for _, start := range []func() error{s.listen, s.startAWS, s.startPostgres, s.startFactory, s.startMarketing, s.startAPI} {
		if err := start(); err != nil {
			return err
		}
	}
	s.start("shop", func(ctx context.Context) error { return service.Run(ctx, s.parts...) })
	s.supplies = s.demo.supplies()
	if err := s.asOwner(demoStore, s.unbound); err != nil {
		return err
	}
	for _, database := range []string{demoStore, demoCustomers} {
		if err := s.startRelay(database); err != nil {
			return err
		}
	}
	for name, value := range s.environment() {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return s.startConsumers(consumerNames()...)
}

// close stops what runs before what it runs on.
func (s *stage) close() error {
	s.cancel()
	for _, r := range s.running {
		<-r.done
	}
	return s.demo.close()
}

// start runs a part until stop.
func (s *stage) start(name string, part func(context.Context) error) {
	ctx, stop := context.WithCancel(s.ctx)
	r := &running{stop: stop, done: make(chan struct{})}
	s.running[name] = r
	go func() {
		defer close(r.done)
		if err := part(ctx); err != nil && ctx.Err() == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ended = append(s.ended, fmt.Errorf("%s ended: %w", name, err))
		}
	}()
}

func (s *stage) stop(names ...string) {
	for _, name := range names {
		r := s.running[name]
		delete(s.running, name)
		r.stop()
		<-r.done
	}
}

// whatEnded is why parts ended that nobody stopped.
func (s *stage) whatEnded() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.ended...)
}

func (s *stage) startRelay(database string) error {
	r, err := s.newRelay(database, newRegistry())
	if err == nil {
		s.start("relay "+database, r.Run)
	}
	return err
}

// startConsumers starts consumers, of which vip's notes the order in which orders come.
func (s *stage) startConsumers(names ...string) error {
	return s.startWrapped(s.handled.noted, names...)
}

// startWrapped starts consumers whose handlers are what wrap makes of them.
func (s *stage) startWrapped(wrap func(consumers.Handler) consumers.Handler, names ...string) error {
	all, err := makeConsumers(s.supplies, names)
	if err != nil {
		return err
	}
	for _, one := range all {
		one.handler = wrap(one.handler)
		w, err := s.newWorker(s.supplies, one, newRegistry())
		if err != nil {
			return err
		}
		s.start(one.name, w.Run)
	}
	return nil
}

// environment is what an operator's commands need.
func (s *stage) environment() map[string]string {
	return map[string]string{
		"RESTOCK_DATABASE_URL":           s.dsn(demoStore, schema.RoleMaintenance),
		"RESTOCK_CUSTOMERS_DATABASE_URL": s.dsn(demoCustomers, schema.RoleMaintenance),
		"RESTOCK_TOPIC_ARN":              s.topology.TopicARN,
		"RESTOCK_OPERATOR":               "drill",
		"RESTOCK_LOG_LEVEL":              "error",
		"AWS_ENDPOINT_URL":               s.aws.URL(), "AWS_REGION": s.aws.AWSConfig().Region,
		"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local",
	}
}

func (s *stage) relayDSN() string { return s.dsn(demoStore, schema.RoleRelay) }

// tell prints what happens, with the time since the drill began.
func (s *stage) tell(format string, args ...any) {
	say(s.inv.stdout, "%6.1f s  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// drillLines is how much of a command's output is shown.
const drillLines = 30

// operator types a command and returns what it printed. want are the exit codes that it may have.
func (s *stage) operator(want []int, args ...string) (string, error) {
	say(s.inv.stdout, "\n$ restock %s\n", strings.Join(args, " "))
	var out, errs bytes.Buffer
	code := run(s.ctx, args, &out, &errs)
	all := strings.TrimSuffix(out.String()+errs.String(), "\n")
	lines := strings.Split(all, "\n")
	if more := len(lines) - drillLines; more > 1 {
		lines = slices.Replace(lines, drillLines-2, len(lines)-2, fmt.Sprintf("… %d lines more", more))
	}
	say(s.inv.stdout, "%s\n\n", strings.Join(lines, "\n"))
	if !slices.Contains(want, code) {
		return all, fmt.Errorf("restock %s ended with %d: %s", strings.Join(args, " "), code, errs.String())
	}
	return out.String(), nil
}

// Exit codes that a drill expects.
var (
	well    = []int{0}
	ill     = []int{1}
	orOther = []int{0, 1}
)

// purchase is one checkout of a drill.
type purchase struct {
	sku, customer string
	quantity      int
	want          int // the answer's status
}

// buy makes the purchases, side by side those of different customers: each customer's own
// follow one another, so that their sequence is the order of their commits.
func (s *stage) buy(all []purchase) error {
	lanes := map[string][]purchase{}
	for _, p := range all {
		lanes[p.customer] = append(lanes[p.customer], p)
	}
	hands := make(chan struct{}, 16)
	failures := make(chan error, len(lanes))
	for _, lane := range lanes {
		go func() {
			hands <- struct{}{}
			defer func() { <-hands }()
			failures <- s.buyInTurn(lane)
		}()
	}
	var errs []error
	for range lanes {
		errs = append(errs, <-failures)
	}
	return errors.Join(errs...)
}

func (s *stage) buyInTurn(lane []purchase) error {
	client := &http.Client{Timeout: storyPatience}
	defer client.CloseIdleConnections()
	for _, p := range lane {
		body := fmt.Sprintf(`{"sku":%q,"quantity":%d,"customerId":%q}`, p.sku, p.quantity, p.customer)
		req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.apiURL+"/checkout", strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		_ = res.Body.Close()
		if res.StatusCode != p.want {
			return fmt.Errorf("checkout of %d %s answered %d, want %d", p.quantity, p.sku, res.StatusCode, p.want)
		}
	}
	return nil
}

// furnishDrill puts a product on sale of which there is plenty, and as many as are needed of
// which there is none.
func (s *stage) furnishDrill(soldOut int) error {
	return s.asOwner(demoStore, func(conn *pgx.Conn) error {
		_, err := conn.Exec(s.ctx, `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
			SELECT CASE n WHEN 0 THEN $1 ELSE $2 || n END, '도너츠', p.stock, p.stock, 10, 'FF-500293', 'manager@donuts.example'
			  FROM generate_series(0, $3::int) n, LATERAL (SELECT CASE n WHEN 0 THEN 100000000 ELSE 0 END AS stock) p`, drillPlenty, drillSoldOut, soldOut)
		return err
	})
}

const (
	drillPlenty  = "DRILL-PLENTY"
	drillSoldOut = "DRILL-"
)

// bulk are n orders that make their customers VIP, over so many customers.
func bulk(from, n, customers int) []purchase {
	all := make([]purchase, n)
	for i := range all {
		all[i] = purchase{sku: drillPlenty, customer: fmt.Sprintf("drill-%d", (from+i)%customers), quantity: schema.DefaultVIPThreshold, want: http.StatusOK}
	}
	return all
}

// inVain are n checkouts of products that are sold out, each of another one.
func inVain(from, n int) []purchase {
	all := make([]purchase, n)
	for i := range all {
		all[i] = purchase{sku: fmt.Sprintf("%s%d", drillSoldOut, from+i+1), customer: fmt.Sprintf("drill-%d", i), quantity: 1, want: http.StatusConflict}
	}
	return all
}

// count asks one of the databases for a number.
func (s *stage) count(database, sql string, args ...any) (n int, err error) {
	err = s.asOwner(database, func(conn *pgx.Conn) error { return conn.QueryRow(s.ctx, "SELECT count(*) FROM "+sql, args...).Scan(&n) })
	return n, err
}

// unpublished counts the events that the ledger does not know.
const unpublished = `outbox o WHERE NOT EXISTS (SELECT FROM ledger l WHERE l.day = o.day AND l.event_id = o.id)`

// published waits until everything is.
func (s *stage) published() error {
	for _, database := range []string{demoStore, demoCustomers} {
		err := s.until("all of "+database+" is published", func() (bool, error) {
			n, err := s.count(database, unpublished)
			return n == 0, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settled waits until everything is published and handled.
func (s *stage) settled() error {
	return s.until("everything is handled", func() (bool, error) {
		_, err := s.look()
		if errors.Is(err, errDrill) {
			return false, nil
		}
		return err == nil, err
	})
}

// isWell tells whether everything is handled and both relays stream.
func (s *stage) isWell() (bool, error) {
	if _, err := s.look(); errors.Is(err, errDrill) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	n, err := s.count(demoStore, "pg_replication_slots WHERE active")
	return n == 2, err
}
