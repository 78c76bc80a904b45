package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/restock-dev/restock/internal/ops"
)

func printPlan(w io.Writer, p ops.ReplayPlan, force bool) {
	line := fmt.Sprintf("%d events of %d groups", p.Events, p.Groups)
	if p.Seconds != nil {
		line += ", " + time.Duration(*p.Seconds*float64(time.Second)).Round(time.Second).String() + " at the rate"
	}
	say(w, "%s\n", line)
	for _, at := range []struct {
		name  string
		event *ops.PlannedEvent
	}{{"first", p.First}, {"last", p.Last}} {
		say(w, "%-5s %s  %s  sequence %d\n", at.name, at.event.At.UTC().Format(time.RFC3339), at.event.EventID, at.event.Sequence)
	}
	printLeftOut(w, p.LeftOut)
	if p.Missing > 0 {
		say(w, "left out: %d ids of which no event can be replayed\n", p.Missing)
	}
	for _, e := range p.Effects {
		say(w, "%s\n", effect(e, force))
	}
	if len(p.Effects) == 0 {
		say(w, "no consumer wants any of them\n")
	}
	if len(p.Sample) > 0 {
		t := newTable(w, "event", "group", "sequence", "type", "consumers")
		for _, e := range p.Sample {
			t.AppendRow(table.Row{e.EventID, short(e.Group, 40), e.Sequence, kind(e.Type), does(e)})
		}
		t.Render()
	}
	if more := p.Events - int64(len(p.Sample)); len(p.Sample) > 0 && more > 0 {
		say(w, "and %d more\n", more)
	}
	if p.Ahead > 0 {
		say(w, "replays before it: %d; they run one after the other\n", p.Ahead)
	}
	if p.ID != nil {
		say(w, "replay %s is asked for\n", *p.ID)
	}
}

// printLeftOut tells what was not selected for what it is.
func printLeftOut(w io.Writer, by map[string]int64) {
	for _, status := range slices.Sorted(maps.Keys(by)) {
		say(w, "left out: %d that are %s\n", by[status], status)
	}
}

// effect says in a line what a consumer does of a replay.
func effect(e ops.ReplayEffect, force bool) string {
	line := fmt.Sprintf("%s wants %d", e.Consumer, e.Wants)
	switch {
	case e.Handled == nil:
		line += "; what it has handled is in a database that was not given"
	case force:
		line += fmt.Sprintf(" and repeats %d that it has handled", *e.Handled)
	default:
		line += fmt.Sprintf(" and skips %d that it has handled", *e.Handled)
	}
	if e.Repeats != "" {
		line += ": it " + e.Repeats
	}
	return line
}

func does(e ops.PlannedEvent) string {
	var all []string
	for _, consumer := range slices.Sorted(maps.Keys(e.Does)) {
		all = append(all, consumer+" "+e.Does[consumer])
	}
	if len(all) == 0 {
		return "nobody wants it"
	}
	return strings.Join(all, ", ")
}

func printReplays(w io.Writer, all []ops.ReplayState) {
	t := newTable(w, "replay", "state", "events", "done", "failed", "asked by", "age", "for", "selection")
	for _, s := range all {
		t.AppendRow(table.Row{s.ID, s.State, s.Events, s.Done, s.Failed, short(s.AskedBy, 20), age(s.AskedAt), audience(s), short(string(s.Selection), 60)})
	}
	t.Render()
}

// audience is whom a replay is for.
func audience(s ops.ReplayState) string {
	who := "all"
	if s.Consumer != "" {
		who = s.Consumer
	}
	if s.Force {
		who += ", forced"
	}
	return who
}

func printReplay(w io.Writer, s ops.ReplayState, failures []ops.ReplayFailure) {
	t := newTable(w)
	t.AppendRows([]table.Row{
		{"replay", s.ID}, {"state", s.State}, {"events", s.Events}, {"done", s.Done}, {"failed", s.Failed}, {"for", audience(s)}, {"rate", rate(s.Rate)},
		{"selection", visible(string(s.Selection))}, {"asked", visible(s.AskedBy) + " " + s.AskedAt.UTC().Format(time.RFC3339)},
	})
	if s.StartedAt != nil {
		t.AppendRow(table.Row{"started", s.StartedAt.UTC().Format(time.RFC3339)})
	}
	if s.EndedAt != nil {
		t.AppendRow(table.Row{"ended", s.EndedAt.UTC().Format(time.RFC3339)})
	}
	if s.CancelledBy != "" {
		t.AppendRow(table.Row{"cancelled", visible(s.CancelledBy)})
	}
	if s.ResumedBy != "" {
		t.AppendRow(table.Row{"resumed", visible(s.ResumedBy)})
	}
	if s.Ahead > 0 {
		t.AppendRow(table.Row{"before it", s.Ahead})
	}
	t.Render()
	if len(failures) == 0 {
		return
	}
	t = newTable(w, "place", "event", "error")
	for _, f := range failures {
		t.AppendRow(table.Row{f.Place, f.EventID, short(f.Error, 120)})
	}
	t.Render()
}

func rate(n int) string {
	if n == 0 {
		return "as many as the relay can"
	}
	return fmt.Sprintf("%d/s", n)
}
