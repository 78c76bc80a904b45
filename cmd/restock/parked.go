package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/schollz/progressbar/v3"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/service"
)

type parkedCommand struct {
	List parkedListCommand `cmd:"" help:"List what is parked: one line for each group, or for each event of one."`
	Show parkedShowCommand `cmd:"" help:"Show one event that is or was parked."`
	Send parkedSendCommand `cmd:"" help:"Have the relay send what is parked, each group in its order."`
	Skip parkedSkipCommand `cmd:"" help:"Give parked events up, for good."`
}

// parkedFlags are what each of them needs.
type parkedFlags struct {
	databasesFlags
	Outbox string `enum:"store,customers" default:"store" help:"Whose events: store, or customers (the events of promoted customers)."`
	By     string `env:"RESTOCK_OPERATOR,USER" default:"unknown" help:"Who asks; it is kept."`
	JSON   bool   `name:"json" help:"Print JSON."`
}

func (f parkedFlags) open(inv *invocation) (p *ops.Parked, done func(), err error) {
	all, done, err := f.databases(inv, "restock_parked", 2)
	if err != nil {
		return nil, nil, err
	}
	db, err := all.Reached(inv).Database(f.Outbox)
	if err != nil {
		done()
		return nil, nil, &setupError{err}
	}
	return ops.NewParked(db, f.By, inv.log.With().Str("part", "parked").Logger()), done, nil
}

type parkedListCommand struct {
	parkedFlags
	pageFlags
	Group string `arg:"" optional:"" help:"Only this group, event by event."`
}

// Run lists.
func (c *parkedListCommand) Run(inv *invocation) error {
	p, done, err := c.open(inv)
	if err != nil {
		return err
	}
	defer done()
	if c.Group != "" {
		return c.events(inv, p)
	}
	groups, err := p.List(inv, c.cursor())
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(inv.stdout, groups)
	}
	if len(groups.Items) == 0 {
		say(inv.stdout, "nothing is parked\n")
		return nil
	}
	t := newTable(inv.stdout, "group", "events", "oldest", "head", "reason", "detail", "")
	for _, g := range groups.Items {
		t.AppendRow(table.Row{short(g.Group, 40), g.Events, age(g.Since), head(g), g.Reason, short(g.Detail, 80), parkedRemark(g)})
	}
	t.Render()
	sayMore(inv, groups.Next)
	return nil
}

func head(g ops.ParkedGroup) string {
	if g.Head == nil {
		return "-"
	}
	return g.Head.String()
}

func parkedRemark(g ops.ParkedGroup) string {
	var all []string
	if g.Held {
		all = append(all, "the group is parked")
	}
	if g.Sending {
		all = append(all, "being sent for "+visible(g.AskedBy))
	}
	return strings.Join(all, ", ")
}

func (c *parkedListCommand) events(inv *invocation, p *ops.Parked) error {
	events, err := p.Events(inv, c.Group, c.cursor())
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(inv.stdout, events)
	}
	if len(events.Items) == 0 {
		say(inv.stdout, "nothing of this group is parked\n")
		return nil
	}
	t := newTable(inv.stdout, "event", "sequence", "type", "age", "state", "reason", "detail")
	for _, e := range events.Items {
		t.AppendRow(table.Row{e.EventID, e.Sequence, kind(e.Type), age(e.Since), e.State, e.Reason, short(e.Detail, 80)})
	}
	t.Render()
	sayMore(inv, events.Next)
	return nil
}

type parkedShowCommand struct {
	parkedFlags
	Event uuid.UUID `arg:"" help:"The event's id."`
}

// Run shows.
func (c *parkedShowCommand) Run(inv *invocation) error {
	p, done, err := c.open(inv)
	if err != nil {
		return err
	}
	defer done()
	d, err := p.Show(inv, c.Event)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(inv.stdout, d)
	}
	t := newTable(inv.stdout)
	t.AppendRows([]table.Row{
		{"event", d.EventID}, {"group", visible(d.Group)}, {"sequence", d.Sequence}, {"type", kind(d.Type)}, {"state", d.State},
		{"age", age(d.Since)}, {"reason", d.Reason}, {"detail", visible(d.Detail)}, {"attributes", visible(d.Attributes)},
	})
	if d.AskedAt != nil {
		t.AppendRow(table.Row{"asked", visible(d.AskedBy) + " " + d.AskedAt.UTC().Format(time.RFC3339)})
	}
	if d.Note != "" {
		t.AppendRow(table.Row{"note", visible(d.Note)})
	}
	if d.ResolvedAt != nil {
		t.AppendRow(table.Row{"resolved", d.ResolvedAt.UTC().Format(time.RFC3339)})
	}
	t.Render()
	say(inv.stdout, "%s\n", visible(d.Body))
	return nil
}

type parkedSendCommand struct {
	parkedFlags
	Events []uuid.UUID `arg:"" optional:"" name:"event" help:"Ids of events that were parked by themselves."`
	Group  []string    `sep:"none" help:"All that is parked of this group; may be given again."`
	All    bool        `help:"All that is parked."`
	DryRun bool        `help:"Print what would be sent and change nothing."`
	NoWait bool        `help:"Do not wait until the relay has sent it."`
}

// sent is what send prints as JSON.
type sent struct {
	ops.SendReport
	Left   int `json:"left"`        // not sent yet
	Parked int `json:"parkedAgain"` // refused once more
}

// Run sends.
func (c *parkedSendCommand) Run(inv *invocation) error {
	s := ops.ParkedSelection{All: c.All, Groups: c.Group, Events: c.Events}
	if err := s.Validate(); err != nil {
		return &setupError{err}
	}
	p, done, err := c.open(inv)
	if err != nil {
		return err
	}
	defer done()
	report, err := p.Send(inv, s, c.DryRun)
	if err != nil {
		return err
	}
	result := sent{SendReport: report, Left: report.Count() + report.Sending}
	nothing := len(report.Groups)+report.Sending == 0
	switch {
	case c.JSON:
	case nothing && c.All:
		say(inv.stdout, "nothing is parked\n")
	default:
		c.print(inv, report)
	}
	if !c.DryRun && !c.NoWait && !nothing {
		err = c.wait(inv, p, &result)
	}
	if c.JSON {
		err = errors.Join(err, printJSON(inv.stdout, result))
	}
	switch {
	case err != nil:
		return err
	case len(report.Missing)+result.Parked > 0:
		return fmt.Errorf("%d events are parked again and %d that were named are not parked", result.Parked, len(report.Missing))
	}
	return nil
}

func (c *parkedSendCommand) print(inv *invocation, r ops.SendReport) {
	verb := "to be sent"
	if r.DryRun {
		verb = "would be sent"
	}
	for _, g := range r.Groups {
		if g.Whole {
			say(inv.stdout, "%s: %d events %s in order, and the group goes on\n", visible(g.Group), len(g.Events), verb)
		} else {
			say(inv.stdout, "%s: %d events %s\n", visible(g.Group), len(g.Events), verb)
		}
		for _, id := range g.Overtaken {
			say(inv.stdout, "%s: warning: a later event of its group is published already\n", id)
		}
	}
	if r.Sending > 0 {
		say(inv.stdout, "%d events are being sent already\n", r.Sending)
	}
	for _, name := range r.Missing {
		say(inv.stdout, "not parked: %s\n", visible(name))
	}
}

// wait follows the relay until it is done.
func (c *parkedSendCommand) wait(inv *invocation, p *ops.Parked, result *sent) error {
	asked := result.Left
	var bar *progressbar.ProgressBar
	if isTerminal(inv.stderr) {
		bar = newBar(inv.stderr, int64(asked))
	}
	began, warned := time.Now(), false
	for total := asked; ; {
		at, err := p.Sending(inv, result.SendReport)
		if err == nil {
			if !warned && at.Left >= asked && !at.Done && time.Since(began) >= takenUpWithin {
				warned = true
				say(inv.stderr, "no relay has sent any of it yet: is restock relay running on this database, and active?\n")
			}
			result.Left, result.Parked = at.Left, at.Parked
			if total = max(total, at.Left); bar != nil {
				bar.ChangeMax(total)
				_ = bar.Set(total - at.Left) // a terminal that is gone stops nothing
			}
			if at.Done {
				if !c.JSON {
					say(inv.stdout, "done: %d events are parked again\n", at.Parked)
				}
				return nil
			}
			err = service.Sleep(inv, 500*time.Millisecond)
		}
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("stopped waiting with %d events left: the relay goes on", result.Left)
		}
		if err != nil {
			return err
		}
	}
}

type parkedSkipCommand struct {
	parkedFlags
	Events []uuid.UUID `arg:"" optional:"" name:"event" help:"Ids of events."`
	Group  []string    `sep:"none" help:"All that is parked of this group; may be given again."`
	Reason string      `required:"" help:"Why; it is kept with them."`
	Yes    bool        `help:"Do not ask."`
}

// Run skips, once somebody said so.
func (c *parkedSkipCommand) Run(inv *invocation) error {
	s := ops.ParkedSelection{Groups: c.Group, Events: c.Events}
	if err := s.Validate(); err != nil {
		return &setupError{err}
	}
	if err := c.confirm(inv, os.Stdin); err != nil {
		return err
	}
	p, done, err := c.open(inv)
	if err != nil {
		return err
	}
	defer done()
	skipped, err := p.Skip(inv, s, c.Reason)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(inv.stdout, skipped)
	}
	say(inv.stdout, "%d events skipped\n", len(skipped))
	return nil
}

func (c *parkedSkipCommand) confirm(inv *invocation, stdin *os.File) error {
	switch {
	case c.Yes:
		return nil
	case !isTerminal(stdin) || !isTerminal(inv.stderr):
		return &setupError{errors.New("skipping cannot be undone: say --yes")}
	}
	say(inv.stderr, "These events will never be published. Type skip to go on: ")
	answer, err := bufio.NewReader(stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != "skip" {
		return &setupError{errors.New("not skipped")}
	}
	return nil
}
