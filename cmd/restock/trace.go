package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/restock-dev/restock/internal/ops"
)

type traceCommand struct {
	databasesFlags
	vipFlag
	Alone bool      `help:"There is one database only, the store: what happens at vip and marketing is left out."`
	JSON  bool      `name:"json" help:"Print JSON."`
	ID    uuid.UUID `arg:"" help:"Of an event, an order or a replenishment."`
}

// Help is what -h says besides the flags.
func (c *traceCommand) Help() string {
	return "From commit to effect, through both databases, and on to the events that were caused by it. It works from the databases alone, as restock_maintenance. " +
		"The time beside each step is since the one before. Of attempts that failed before the last, a call to the outside has a line of its own; of the others only the last error is kept.\n\n" +
		"Exit codes: 0 found, 1 unknown, 2 a database could not be reached, whatever is known without it."
}

// Run traces.
func (c *traceCommand) Run(inv *invocation) error {
	p, done, err := c.both(inv, c.Alone, "restock_trace", 2)
	if err != nil {
		return err
	}
	defer done()
	p.VIPThreshold = c.VIPThreshold
	found, err := p.Reached(inv).Tracer().Trace(inv, c.ID)
	if err != nil {
		return err
	}
	if c.JSON {
		return errors.Join(printJSON(inv.stdout, found), notAll(found.Unreachable))
	}
	if o := found.Order; o != nil {
		var lines []string
		for _, l := range o.Lines {
			lines = append(lines, fmt.Sprintf("%d of %s", l.Quantity, visible(l.SKU)))
		}
		say(inv.stdout, "order %s: %s%s\n", found.ID, strings.Join(lines, ", "), by(" by ", o.CustomerID))
	}
	if r := found.Replenishment; r != nil {
		printReplenishment(inv, r)
	}
	for _, e := range found.Events {
		printTraced(inv, e)
	}
	if len(found.Events) == 0 {
		say(inv.stdout, "its event is past retention\n")
	}
	return notAll(found.Unreachable)
}

// by is a text behind a word, nothing where it is empty.
func by(word, text string) string {
	if text == "" {
		return ""
	}
	return word + visible(text)
}

func printReplenishment(inv *invocation, r *ops.TracedReplenishment) {
	say(inv.stdout, "replenishment %s: %d of %s, %s%s%s\n", r.ID, r.Quantity, visible(r.SKU), r.State, by(", production ", r.ProductionID), by(", refused: ", r.Refusal))
	if r.DeliveredAt != nil {
		say(inv.stdout, "  delivered %d at %s, %s after it was asked for\n", r.Delivered, moment(*r.DeliveredAt), r.DeliveredAt.Sub(r.RequestedAt).Round(time.Millisecond))
	}
	if r.Stop+r.Resume != "" {
		say(inv.stdout, "  ads: stop %s, resume %s\n", r.Stop, r.Resume)
	}
	for _, n := range r.Conflicts {
		say(inv.stdout, "  a later callback stated %d: it changed nothing\n", n)
	}
	for _, a := range r.Acts {
		say(inv.stdout, "  %s at %s by %s, it was %s%s: %s\n", a.Act, moment(a.At), visible(a.By), a.Was, by(", production ", a.ProductionID), visible(a.Reason))
	}
}

// step is one line of an event's way.
type step struct {
	at   time.Time
	who  string
	what string
}

func printTraced(inv *invocation, e ops.TracedEvent) {
	because := ""
	if e.CausedBy != nil {
		because = ", caused by " + e.CausedBy.String()
	}
	say(inv.stdout, "\n%s %s (%s, group %s, sequence %d%s)%s\n", kind(e.Type), e.EventID, e.Database, short(e.Group, 40), e.Sequence, by(", trace ", e.TraceID), because)
	steps, without := stepsOf(e)
	t := newTable(inv.stdout)
	before := e.CommittedAt
	for _, s := range steps {
		t.AppendRow(table.Row{moment(s.at), "+" + max(s.at.Sub(before), 0).Round(time.Millisecond).String(), s.who, visible(s.what)})
		before = s.at
	}
	for _, s := range without {
		t.AppendRow(table.Row{"-", "", s.who, visible(s.what)})
	}
	t.Render()
}

// stepsOf are an event's steps in the order of their time, and those that have not
// happened.
func stepsOf(e ops.TracedEvent) (steps, without []step) {
	steps = []step{{e.CommittedAt, e.Database, "committed"}}
	if p := e.Parked; p != nil {
		steps = append(steps, step{p.Since, "relay", "parked (" + p.Reason + "): " + p.Detail})
		if p.ResolvedAt != nil {
			steps = append(steps, step{*p.ResolvedAt, "relay", p.State + by(" for ", p.AskedBy) + by(": ", p.Note)})
		}
	}
	switch {
	case e.Published != nil:
		steps = append(steps, step{e.Published.At, "relay", fmt.Sprintf("published: message %s, sequence number %s", e.Published.MessageID, e.Published.SequenceNumber)})
	case e.Parked == nil:
		without = append(without, step{who: "relay", what: "not published yet"})
	}
	for _, c := range e.Consumers {
		who := c.Consumer
		if c.ReplayID != nil {
			who += " (replay " + c.ReplayID.String() + ")"
		}
		if c.State == "" {
			without = append(without, step{who: who, what: "not received yet"})
			continue
		}
		if c.State == ops.StateUnknown {
			without = append(without, step{who: who, what: "cannot be told: its inbox cannot be reached"})
			continue
		}
		steps = append(steps, step{*c.FirstAt, who, "attempts begin"})
		for _, call := range c.Calls {
			steps = append(steps, step{call.EndedAt, who, fmt.Sprintf("attempt %d: %s %s in %s%s%s", call.Attempt, call.Kind, call.Outcome,
				call.EndedAt.Sub(call.StartedAt).Round(time.Millisecond), by(": ", call.Reference), by(": ", call.Detail))})
		}
		last := step{*c.LastAt, who, fmt.Sprintf("%s after %d attempts%s", c.State, c.Attempts, by(": ", c.Effect))}
		if c.State != "done" {
			last.what += by(": ", c.LastError)
		}
		steps = append(steps, last)
	}
	slices.SortStableFunc(steps, func(a, b step) int { return a.at.Compare(b.at) })
	return steps, without
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
