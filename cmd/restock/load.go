package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/schollz/progressbar/v3"

	"github.com/restock-dev/restock/internal/load"
	"github.com/restock-dev/restock/internal/service"
)

type loadCommand struct {
	URL         string        `arg:"" optional:"" default:"http://127.0.0.1:8080" help:"Where the API is."`
	Connections int           `default:"32" help:"Connections, each with one checkout under way."`
	Rate        *float64      `help:"Checkouts a second, whatever the answers (open loop), 1000000 at most. Default: each connection goes on when it is answered (closed loop)."`
	For         time.Duration `default:"10s" help:"How long."`
	Products    string        `default:"uniform" enum:"uniform,hot,zipf" help:"Which products: uniform, hot (the first one alone) or zipf (the first ones most)."`
	SKU         []string      `name:"sku" placeholder:"SKU" help:"The products. Default: all that the API lists."`
	Keys        bool          `help:"Send an Idempotency-Key with each checkout, as careful clients do."`
	AuditURL    string        `name:"audit-database-url" env:"RESTOCK_DATABASE_URL" placeholder:"URL" help:"The store's database as restock_maintenance, to audit at the end: every 200 an order, no checkout two, every order an event, stock conserved. Each checkout then has a customer of its own. Default: no audit."`
	// AuditPassword is as databaseFlag has it.
	AuditPassword string `name:"audit-database-password" env:"RESTOCK_DATABASE_PASSWORD" placeholder:"PASSWORD" help:"Its password, where that is kept apart from it."`
	JSON          bool   `name:"json" help:"Print the result as JSON."`
}

// AfterApply is called by kong.
func (c *loadCommand) AfterApply() (err error) {
	c.AuditURL, err = withPassword(c.AuditURL, c.AuditPassword)
	return err
}

// Help is what -h says besides the flags.
func (c *loadCommand) Help() string {
	return "It buys: give it a shop to play with. In an open loop a checkout counts from the moment it was due, sent or not, so a stall shows with all that it held up. " +
		"Exit codes: 0 all was answered and the audit found nothing; 1 something was not answered, or the audit found something; 2 it could not begin."
}

// loaded is the result.
type loaded struct {
	Seconds     float64            `json:"seconds"`
	Requests    int                `json:"requests"`
	PerSecond   float64            `json:"decidedPerSecond"`
	Bought      int                `json:"bought"`
	Short       int                `json:"short"`
	Unavailable int                `json:"unavailable"`
	Refused     int                `json:"refused"`
	Failed      int                `json:"failed"`
	Unsent      int                `json:"unsent"`
	LatencyMS   map[string]float64 `json:"latencyMs"`
	Audit       *load.Audit        `json:"audit,omitempty"`
}

// latencies are those that are shown.
var latencies = []struct {
	name  string
	share float64
}{{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}}

// maxLoadRate is checkouts a second, beyond what any API answers: each that is due and is
// not sent is counted one by one.
const maxLoadRate = 1_000_000

// Run loads the API, until its time is over or a signal, and audits.
func (c *loadCommand) Run(inv *invocation) error {
	pick, err := c.pick(inv)
	if err != nil {
		return err
	}
	customers := "load-" + uuid.NewString() + "-"
	audit, err := c.auditor(inv, customers)
	if err != nil {
		return err
	}
	var done atomic.Int64
	watched, stopWatching := context.WithCancel(inv)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		c.watch(watched, inv, &done)
	}()
	cfg := load.Config{
		URL: c.URL, Connections: c.Connections, For: c.For, Pick: pick, Keys: c.Keys,
		Each: func() { done.Add(1) },
	}
	if c.Rate != nil {
		cfg.Rate = *c.Rate
	}
	if c.AuditURL != "" {
		cfg.KeepOrders, cfg.Customers = true, customers
	}
	report, err := load.Run(inv, cfg)
	stopWatching()
	<-watching
	if err != nil {
		return &setupError{err}
	}
	result := loaded{
		Seconds: report.Took.Seconds(), Requests: report.Requests, PerSecond: report.Rate(), Bought: report.Bought, Short: report.Short,
		Unavailable: report.Unavailable, Refused: report.Refused, Failed: report.Failed, Unsent: report.Unsent, LatencyMS: map[string]float64{},
	}
	for _, l := range latencies {
		result.LatencyMS[l.name] = float64(report.Latency(l.share)) / float64(time.Millisecond)
	}
	var unaudited error
	result.Audit, unaudited = audit(report)
	if err := c.print(inv, result); err != nil {
		return err
	}
	if unaudited != nil {
		return fmt.Errorf("there is no audit: %w", unaudited)
	}
	return result.err()
}

func (l loaded) err() error {
	switch {
	case l.Audit != nil && !l.Audit.OK():
		return fmt.Errorf("the audit found %d orders missing, %d placed twice, %d without their event, stock conserved: %t", l.Audit.Missing, l.Audit.Doubled, l.Audit.Eventless, l.Audit.Conserved)
	case l.Failed > 0:
		return fmt.Errorf("%d checkouts were not answered", l.Failed)
	}
	return nil
}

// pick is the way that products are chosen.
func (c *loadCommand) pick(inv *invocation) (load.Pick, error) {
	switch {
	case c.Connections < 1:
		return nil, &setupError{errors.New("--connections: give at least one")}
	case c.For <= 0:
		return nil, &setupError{errors.New("--for: give more than nothing")}
	case c.Rate != nil && (!(*c.Rate > 0) || *c.Rate > maxLoadRate): // not NaN either
		return nil, &setupError{fmt.Errorf("--rate: give more than 0 and at most %d checkouts a second, or leave it out for a closed loop", maxLoadRate)}
	}
	skus := c.SKU
	if len(skus) == 0 {
		var err error
		if skus, err = c.list(inv); err != nil {
			return nil, &setupError{fmt.Errorf("list the products of %s: %w", c.URL, err)}
		}
	}
	if len(skus) == 0 {
		return nil, &setupError{errors.New("the shop has no products: insert some, or name them with --sku")}
	}
	switch c.Products {
	case "hot":
		return load.Hot(skus[0]), nil
	case "zipf":
		return load.Zipf(skus), nil
	}
	return load.Uniform(skus), nil
}

// list reads all pages of products.
func (c *loadCommand) list(ctx context.Context) (skus []string, err error) {
	for after := ""; ; {
		var page struct {
			Products []struct {
				SKU string `json:"sku"`
			} `json:"products"`
			Next *string `json:"next"`
		}
		address := strings.TrimSuffix(c.URL, "/") + "/products?limit=1000"
		if after != "" {
			address += "&after=" + url.QueryEscape(after)
		}
		if err := getJSON(ctx, address, &page); err != nil {
			return nil, err
		}
		for _, p := range page.Products {
			skus = append(skus, p.SKU)
		}
		if page.Next == nil {
			return skus, nil
		}
		after = *page.Next
	}
}

func getJSON(ctx context.Context, address string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", res.Status)
	}
	return json.NewDecoder(res.Body).Decode(into)
}

// auditor connects before the load begins, so that a wrong address is an error then, and
// anew at its end: what happens to Postgres meanwhile is what some loads are for.
func (c *loadCommand) auditor(inv *invocation, customers string) (func(load.Report) (*load.Audit, error), error) {
	if c.AuditURL == "" {
		return func(load.Report) (*load.Audit, error) { return nil, nil }, nil
	}
	// A load that was stopped is audited all the same.
	ctx := context.WithoutCancel(inv)
	conn, err := pgx.Connect(inv, c.AuditURL)
	if err != nil {
		return nil, &setupError{fmt.Errorf("the database to audit cannot be reached: %w", err)}
	}
	defer conn.Close(ctx)
	since, err := load.Since(inv, conn)
	if err != nil {
		return nil, &setupError{err}
	}
	return func(r load.Report) (*load.Audit, error) {
		conn, err := pgx.Connect(ctx, c.AuditURL)
		if err != nil {
			return nil, err
		}
		defer conn.Close(ctx)
		a, err := load.Look(ctx, conn, since, customers, r.Orders)
		if err != nil {
			return nil, err
		}
		return &a, nil
	}, nil
}

// watch shows how far the load is.
func (c *loadCommand) watch(ctx context.Context, inv *invocation, done *atomic.Int64) {
	var bar *progressbar.ProgressBar
	if isTerminal(inv.stderr) {
		bar = newBar(inv.stderr, c.For.Milliseconds(), progressbar.OptionSetDescription("0 checkouts"), progressbar.OptionSetPredictTime(true))
		defer func() { _ = bar.Clear() }() // a terminal that is gone stops nothing
	}
	began, said := time.Now(), time.Now()
	for service.Sleep(ctx, watchEvery) == nil {
		n, since := done.Load(), time.Since(began)
		switch {
		case bar != nil:
			bar.Describe(fmt.Sprintf("%d checkouts, %.0f/s", n, float64(n)/since.Seconds()))
			_ = bar.Set64(min(since, c.For).Milliseconds())
		case time.Since(said) >= sayEvery:
			said = time.Now()
			say(inv.stderr, "%s: %d checkouts, %.0f/s\n", since.Round(time.Second), n, float64(n)/since.Seconds())
		}
	}
}

func (c *loadCommand) print(inv *invocation, l loaded) error {
	if c.JSON {
		return printJSON(inv.stdout, l)
	}
	say(inv.stdout, "%d checkouts in %.1fs, %.0f/s decided: %d bought, %d short, %d unavailable, %d refused, %d not answered\n",
		l.Requests, l.Seconds, l.PerSecond, l.Bought, l.Short, l.Unavailable, l.Refused, l.Failed)
	if l.Unsent > 0 {
		say(inv.stdout, "%d more were due and not sent, because every connection waited for an answer: the latencies count them\n", l.Unsent)
	}
	t := newTable(inv.stdout, "LATENCY", "MS")
	for _, of := range latencies {
		t.AppendRow([]any{of.name, fmt.Sprintf("%.2f", l.LatencyMS[of.name])})
	}
	t.Render()
	if l.Audit != nil && l.Audit.OK() {
		say(inv.stdout, "audit: all %d orders are there, once, each with its event, and stock is conserved\n", l.Audit.Orders)
	}
	return nil
}
