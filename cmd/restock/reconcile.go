package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/schollz/progressbar/v3"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/service"
)

type reconcileCommand struct {
	databasesFlags
	vipFlag
	httpFlag
	Alone bool          `help:"There is one database only, the store: vip and marketing are left out."`
	Since time.Time     `placeholder:"TIME" help:"Look from the UTC day of this time on, as in 2026-01-31T09:00:00+09:00. Default: all that the outbox has."`
	Until time.Time     `placeholder:"TIME" help:"Look no further than this time's day."`
	Grace time.Duration `default:"15m" env:"RESTOCK_RECONCILE_GRACE" help:"How long an event may take to be published, and from there to be received, before it is missing."`
	Stale time.Duration `default:"24h" help:"How long nothing has come of an attempt that failed before its event is missing."`
	Named int           `default:"20" help:"How many events to name of each kind."`
	Every time.Duration `xor:"result" help:"Go on until a signal, compare again after so long, and serve the result on --http-addr as metrics. Default: once."`
	JSON  bool          `name:"json" xor:"result" help:"Print JSON."`
}

// Help is what -h says besides the flags.
func (c *reconcileCommand) Help() string {
	return "Compares each outbox with its ledger, and with the inbox of each consumer that wants its events. Missing is what is neither published nor parked, " +
		"and what was published and has no end in an inbox. It works from the databases alone, as restock_maintenance, and changes nothing.\n\n" +
		"Exit codes: 0 nothing is missing, 1 something is, and it is said which command heals it, 2 it cannot be told, or where a database cannot be reached not wholly: what does not need it is compared. " +
		"With --every a whole round is " +
		"looked at once an hour, and in between the last two days and those that were not complete."
}

// Run compares once, or until a signal.
func (c *reconcileCommand) Run(inv *invocation) error {
	p, done, err := c.both(inv, c.Alone, "restock_reconcile", 6)
	if err != nil {
		return err
	}
	defer done()
	cfg := ops.ReconcileConfig{
		Store: p.Store, Customers: p.Customers, VIPThreshold: c.VIPThreshold,
		Since: c.Since, Until: c.Until, Grace: c.Grace, Stale: c.Stale, Named: c.Named,
	}
	if c.Every <= 0 && isTerminal(inv.stderr) {
		cfg.Progress = dayBar(inv)
	}
	r, err := ops.NewReconciler(cfg)
	if err != nil {
		return &setupError{err}
	}
	if c.Every > 0 {
		return c.goOn(inv, r)
	}
	found, err := r.Run(inv)
	if err != nil {
		return cannotTell(inv, err)
	}
	if c.JSON {
		err = printJSON(inv.stdout, found)
	} else {
		c.print(inv, found)
	}
	if err == nil && found.Missing > 0 {
		err = fmt.Errorf("%d events are missing", found.Missing)
	}
	if len(found.Unreachable) > 0 {
		err = &setupError{errors.Join(err, fmt.Errorf("cannot tell all: %w", notAll(found.Unreachable)))}
	}
	return err
}

// cannotTell is what a check ends with that came to no result: it is neither well
// nor ill.
func cannotTell(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("stopped before it could tell: %s", err.Error()) // not wrapped: to be told to stop is no success here
	}
	return &setupError{fmt.Errorf("cannot tell: %w", err)}
}

// dayBar shows how many days are done.
func dayBar(inv *invocation) func(done, total int) {
	bar := newBar(inv.stderr, 0, progressbar.OptionSetDescription("days"))
	return func(done, total int) {
		bar.ChangeMax(total)
		_ = bar.Set(done) // a terminal that is gone stops nothing
	}
}

// goOn compares again and again, and serves what was found last.
func (c *reconcileCommand) goOn(inv *invocation, r *ops.Reconciler) error {
	reg := newRegistry()
	metrics := ops.NewReconcileMetrics(reg)
	ln, err := listen(inv, "reconcile", c.HTTPAddr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	service.Health(mux, nil, reg)
	log := inv.log.With().Str("part", "reconcile").Logger()
	loop := func(ctx context.Context) error { return r.Loop(ctx, c.Every, log, metrics.Tell) }
	return service.Run(inv, loop, service.HTTP(ln, mux))
}

func (c *reconcileCommand) print(inv *invocation, r ops.Reconciliation) {
	t := newTable(inv.stdout, "outbox", "days", "events", "unpublished", "parked")
	for _, o := range r.Outboxes {
		t.AppendRow(table.Row{o.Database, o.Days, o.Events, o.Unpublished, o.Parked})
	}
	t.Render()
	t = newTable(inv.stdout, "consumer", "wanted", "done", "waiting", "unhandled", "dead", "repeated", "uncertain")
	for _, b := range r.Consumers {
		t.AppendRow(table.Row{b.Consumer, b.Wanted, b.Done, b.Waiting, b.Unhandled, b.Dead, b.Repeated, b.Uncertain})
	}
	t.Render()
	for _, f := range r.Findings {
		c.explain(inv, f)
	}
	line := "missing: %d (%.1f s)\n"
	if len(r.Unreachable) > 0 {
		line = "missing: %d or more (%.1f s): not all could be compared\n"
	}
	say(inv.stdout, line, r.Missing, r.Seconds)
}

func (c *reconcileCommand) explain(inv *invocation, f ops.Finding) {
	what := "of " + f.Database + " neither published nor parked"
	if f.Kind == ops.Unhandled {
		what = "published and not handled by " + f.Consumer
	}
	say(inv.stdout, "\n%d %s, committed %s to %s:\n", f.Count, what, f.First.UTC().Format(time.RFC3339), f.Last.UTC().Format(time.RFC3339))
	for _, e := range f.Events {
		say(inv.stdout, "  %s  %s  %s  %s\n", e.EventID, e.CommittedAt.UTC().Format(time.RFC3339), kind(e.Type), short(e.Group, 40))
	}
	if f.More > 0 {
		say(inv.stdout, "  and %d more\n", f.More)
	}
	if f.Note != "" {
		say(inv.stdout, "  note: %s\n", f.Note)
	}
	say(inv.stdout, "  heal: %s\n\n", f.Heal)
}
