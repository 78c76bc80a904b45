package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/restock-dev/restock/internal/retention"
	"github.com/restock-dev/restock/internal/service"
)

type maintainCommand struct {
	databasesFlags
	Alone       bool          `help:"There is one database only: no consumer keeps an inbox in another."`
	DryRun      bool          `help:"Print what would go, and why the rest stays, and change nothing. restock_maintenance may do this."`
	Settled     []time.Time   `format:"2006-01-02" placeholder:"DAY" help:"UTC days, as in 2026-01-31, whose dead and unended events were settled by hand: they hold the day no longer."`
	Every       time.Duration `help:"Go on, and do it again after so long. Default: once."`
	LockTimeout time.Duration `default:"2s" help:"How long one try waits for a lock."`
	JSON        bool          `name:"json" help:"Print the result as JSON."`
}

// Help is what -h says besides the flags.
func (c *maintainCommand) Help() string {
	return fmt.Sprintf("Removes the partitions of days that are over: the outbox's after %d days, what explains its events after %d. A day stays, in both databases, "+
		"while an event of it is unpublished, parked, dead, or begun by a consumer and not ended, or was published or replayed in the last %d days. It connects as the owner of the tables.",
		retention.OutboxDays, retention.RecordDays, retention.QueueDays)
}

// Run maintains both databases, once or until a signal.
func (c *maintainCommand) Run(inv *invocation) error {
	cfg, err := c.config(inv)
	if err != nil {
		return err
	}
	for {
		err := c.once(inv, cfg)
		var setup *setupError
		if c.Every <= 0 || errors.As(err, &setup) {
			return err
		}
		if err != nil && inv.Err() == nil {
			inv.log.Error().Err(err).Str("part", "maintain").Msg("not all was removed, trying again at the next turn")
		}
		if service.Sleep(inv, c.Every) != nil {
			return nil
		}
	}
}

func (c *maintainCommand) config(inv *invocation) (retention.Config, error) {
	cfg := retention.Config{DryRun: c.DryRun, Settled: c.Settled, LockTimeout: c.LockTimeout}
	for _, d := range []retention.Database{{Name: "store", DSN: c.DatabaseURL}, {Name: "customers", DSN: c.CustomersDatabaseURL}} {
		if d.DSN == "" {
			continue
		}
		if err := reach(inv, "the "+d.Name+" database", d.Name, d.DSN); err != nil {
			return cfg, err
		}
		cfg.Databases = append(cfg.Databases, d)
	}
	switch {
	case len(cfg.Databases) == 0:
		return cfg, &setupError{errors.New("no database: set --database-url (the store) and --customers-database-url")}
	case len(cfg.Databases) == 1 && !c.Alone:
		return cfg, &setupError{errors.New("one database only: an event of one may be dead in the inbox of the other, so set --database-url (the store) and --customers-database-url; where there is no other, say --alone")}
	}
	return cfg, nil
}

func (c *maintainCommand) once(inv *invocation, cfg retention.Config) error {
	report, err := retention.Run(inv, cfg)
	switch {
	case errors.Is(err, retention.ErrBusy):
		inv.log.Info().Str("part", "maintain").Msg(err.Error() + ": nothing to do here")
		return nil
	case errors.Is(err, retention.ErrUnfit):
		return &setupError{err}
	}
	if c.JSON {
		err = errors.Join(err, printJSON(inv.stdout, report))
	} else {
		c.print(inv, report)
	}
	if failed := report.Count(retention.Failed); err == nil && failed > 0 {
		err = fmt.Errorf("%d of the partitions that may go could not be removed: run this again", failed)
	}
	return err
}

func (c *maintainCommand) print(inv *invocation, r retention.Report) {
	for _, p := range r.Partitions {
		say(inv.stdout, "%s\n", p)
	}
	if c.DryRun {
		say(inv.stdout, "%d would be removed, %d kept\n", r.Count(retention.Planned), r.Count(retention.Kept))
		return
	}
	say(inv.stdout, "%d removed, %d kept, %d failed\n", r.Count(retention.Removed), r.Count(retention.Kept), r.Count(retention.Failed))
}
