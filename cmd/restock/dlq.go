package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/rs/zerolog"
	"github.com/schollz/progressbar/v3"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

type dlqCommand struct {
	List    dlqListCommand    `cmd:"" help:"List the events in the dead-letter queues, one line each."`
	Show    dlqShowCommand    `cmd:"" help:"Show one of them: message, attributes, inbox, calls to the outside."`
	Redrive dlqRedriveCommand `cmd:"" help:"Return events to their consumers' queues, each group in its order."`
	Purge   dlqPurgeCommand   `cmd:"" help:"Delete what is in a consumer's dead-letter queues, for good."`
}

// dlqFlags are what each of them needs.
type dlqFlags struct {
	databasesFlags
	VIPThreshold int64         `name:"vip-threshold" default:"${vipthreshold}" env:"RESTOCK_VIP_THRESHOLD" help:"Units in one order that make a customer VIP."`
	Visibility   time.Duration `default:"5m" help:"How long messages stay hidden from others should this command die."`
	JSON         bool          `name:"json" help:"Print JSON."`
}

// open makes the DLQ of the named consumers, or of all that are there where none
// is named. done closes its connections.
func (f dlqFlags) open(inv *invocation, names []string) (d *ops.DLQ, done func(), err error) {
	if f.DatabaseURL == "" {
		return nil, nil, &setupError{missing("--database-url (the store)", "RESTOCK_DATABASE_URL")}
	}
	cfg, err := awsConfig(inv)
	if err != nil {
		return nil, nil, err
	}
	p, done, err := f.databases(inv, "restock_dlq", 8)
	if err != nil {
		return nil, nil, err
	}
	log := inv.log.With().Str("part", "dlq").Logger()
	if isTerminal(inv.stderr) { // a line for each event would run through the progress bar
		log = log.Level(max(log.GetLevel(), zerolog.WarnLevel))
	}
	if p.Customers == nil && len(names) == 0 {
		inv.log.Warn().Msg("vip and marketing are left out: no customers' database is given")
	}
	client := sqs.NewFromConfig(cfg)
	p.SQS, p.Find, p.VIPThreshold = client, queuesOf(client), f.VIPThreshold
	if d, err = p.Reached(inv).DLQ(inv, names, ops.DLQConfig{Visibility: f.Visibility, Logger: log}); err != nil {
		done()
		return nil, nil, &setupError{err}
	}
	return d, done, nil
}

type dlqListCommand struct {
	dlqFlags
	pageFlags
	Queue string `arg:"" optional:"" help:"Only those of this consumer, by its name or that of one of its queues."`
}

// Run lists.
func (c *dlqListCommand) Run(inv *invocation) error {
	names, err := c.consumer()
	if err != nil {
		return err
	}
	d, done, err := c.open(inv, names)
	if err != nil {
		return err
	}
	defer done()
	l, err := d.List(inv, c.cursor())
	if err != nil {
		return err
	}
	if c.JSON {
		return errors.Join(printJSON(inv.stdout, l), notAll(l.Unreachable))
	}
	t := newTable(inv.stdout, "consumer", "group", "sequence", "type", "event", "age", "attempts", "reason", "queue", "")
	for _, e := range l.Events {
		t.AppendRow(table.Row{e.Consumer, short(e.Group, 40), sequence(e.Sequence), kind(e.Type), e.EventID, age(e.Since), e.Attempts, short(e.Reason, 80), e.Queue, remark(e)})
	}
	if len(l.Events) > 0 {
		t.Render()
	}
	sayMore(inv, l.Next)
	for _, q := range l.Queues {
		line := fmt.Sprintf("%s: %d waiting", q.Queue, q.Waiting)
		if q.Held > 0 {
			line += fmt.Sprintf(", %d more held by somebody else and not looked at", q.Held)
		}
		say(inv.stdout, "%s\n", line)
	}
	return notAll(l.Unreachable)
}

// consumer is the one that the argument means, none where it is left out.
func (c *dlqListCommand) consumer() ([]string, error) {
	if c.Queue == "" {
		return nil, nil
	}
	for _, in := range schema.Interests(c.VIPThreshold) {
		name := in.Consumer
		if slices.Contains([]string{name, schema.QueueName(name), schema.DLQName(name), schema.SubscriptionDLQName(name)}, c.Queue) {
			return some(name), nil
		}
	}
	return nil, &setupError{fmt.Errorf("no consumer and no queue of one is called %q: there are %s", c.Queue, strings.Join(consumerNames(), ", "))}
}

type dlqShowCommand struct {
	dlqFlags
	Event uuid.UUID `arg:"" help:"The event's id."`
}

// Run shows.
func (c *dlqShowCommand) Run(inv *invocation) error {
	d, done, err := c.open(inv, nil)
	if err != nil {
		return err
	}
	defer done()
	dossiers, err := d.Show(inv, c.Event)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(inv.stdout, dossiers)
	}
	for _, e := range dossiers {
		c.print(inv.stdout, e)
	}
	return nil
}

func (c *dlqShowCommand) print(w io.Writer, e ops.Dossier) {
	t := newTable(w)
	t.AppendRows([]table.Row{
		{"event", e.EventID}, {"consumer", e.Consumer}, {"queue", e.Queue}, {"type", kind(e.Type)}, {"group", visible(e.Group)}, {"sequence", sequence(e.Sequence)},
		{"age", age(e.Since)}, {"state", e.State}, {"attempts", e.Attempts}, {"reason", visible(e.Reason)}, {"remark", remark(e.DeadEvent)},
	})
	if e.ReplayID != nil {
		t.AppendRow(table.Row{"replay", *e.ReplayID})
	}
	for _, name := range sortedKeys(e.Attributes) {
		t.AppendRow(table.Row{"attribute " + visible(name), visible(e.Attributes[name])})
	}
	for _, f := range e.Effects {
		t.AppendRow(table.Row{"call " + f.Kind, fmt.Sprintf("attempt %d %s %s %s %s", f.Attempt, f.StartedAt.UTC().Format(time.RFC3339), f.Outcome, visible(f.Reference), visible(f.Detail))})
	}
	t.Render()
	switch {
	case e.Event != "":
		say(w, "%s\n", e.Event)
	case e.Message != "":
		say(w, "%s\n", visible(e.Message))
	}
}

type dlqRedriveCommand struct {
	dlqFlags
	Events   []uuid.UUID `arg:"" optional:"" name:"event" help:"Ids of events; without them all of the consumer's."`
	Consumer string      `enum:"factory,ads,vip,marketing," default:"" help:"Only this consumer's."`
	All      bool        `help:"All events of all consumers."`
	DryRun   bool        `help:"Print what would be done and change nothing."`
}

// Run redrives.
func (c *dlqRedriveCommand) Run(inv *invocation) error {
	s := ops.Selection{All: c.All, Events: c.Events, Consumers: some(c.Consumer)}
	if c.All == (len(s.Events)+len(s.Consumers) > 0) {
		return &setupError{errors.New("name events, or a --consumer, or say --all and neither")}
	}
	d, done, err := c.open(inv, s.Consumers)
	if err != nil {
		return err
	}
	defer done()
	report, err := d.Redrive(inv, s, ops.RedriveOptions{DryRun: c.DryRun, Progress: c.progress(inv)})
	if c.JSON {
		err = errors.Join(err, printJSON(inv.stdout, report))
	} else {
		c.print(inv, report)
	}
	if errors.Is(err, context.Canceled) {
		return errors.New("stopped before its end: run the redrive again for what is left")
	}
	if failed := report.Count(ops.OutcomeFailed); err == nil && failed+len(report.Missing) > 0 {
		err = fmt.Errorf("%d events failed and %d are in no dead-letter queue; run the redrive again for those that failed", failed, len(report.Missing))
	}
	return errors.Join(err, notAll(report.Unreachable))
}

// progress is a bar on a terminal, and a line for each event elsewhere.
func (c *dlqRedriveCommand) progress(inv *invocation) func(ops.Progress) {
	if !isTerminal(inv.stderr) {
		if c.JSON {
			return nil
		}
		return func(p ops.Progress) {
			say(inv.stdout, "%d/%d %s %s %s%s\n", p.Done, p.Total, p.Event.Outcome, p.Event.Consumer, p.Event.EventID, warning(p.Event))
		}
	}
	var bar *progressbar.ProgressBar
	return func(p ops.Progress) {
		if bar == nil {
			bar = newBar(inv.stderr, int64(p.Total))
		}
		bar.ChangeMax(p.Total)
		_ = bar.Set(p.Done) // a terminal that is gone stops nothing
	}
}

func (c *dlqRedriveCommand) print(inv *invocation, r ops.RedriveReport) {
	w, hadBar := inv.stdout, isTerminal(inv.stderr)
	for _, e := range r.Events {
		switch {
		case r.DryRun:
			say(w, "%s %s %s %s%s\n", e.Outcome, e.Consumer, visible(e.Group), e.EventID, warning(e))
		case hadBar && (e.Outcome == ops.OutcomeFailed || e.NewerDone > 0):
			say(w, "%s %s %s%s\n", e.Outcome, e.Consumer, e.EventID, warning(e))
		}
	}
	for _, id := range r.Missing {
		say(w, "in no dead-letter queue: %s\n", id)
	}
	if r.Held > 0 {
		say(w, "%d messages were held by somebody else and not looked at; run it again later\n", r.Held)
	}
	say(w, "%d planned, %d sent, %d handled already, %d failed\n",
		r.Count(ops.OutcomePlanned), r.Count(ops.OutcomeSent), r.Count(ops.OutcomeHandled), r.Count(ops.OutcomeFailed))
}

// warning is what to know of a redriven event.
func warning(e ops.Redriven) string {
	var text string
	if e.NewerDone > 0 && e.Outcome != ops.OutcomeHandled {
		text = fmt.Sprintf(": warning: sequence %d of its group is handled already, this is %d", e.NewerDone, e.Sequence)
	}
	if e.Error != "" {
		text += ": " + visible(e.Error)
	}
	return text
}

type dlqPurgeCommand struct {
	dlqFlags
	Consumer string `arg:"" enum:"factory,ads,vip,marketing" help:"Whose."`
	Yes      bool   `help:"Do not ask."`
}

// Run purges, once somebody said so.
func (c *dlqPurgeCommand) Run(inv *invocation) error {
	if err := c.confirm(inv, os.Stdin); err != nil {
		return err
	}
	d, done, err := c.open(inv, some(c.Consumer))
	if err != nil {
		return err
	}
	defer done()
	purged, err := d.Purge(inv, c.Consumer, c.Consumer)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(inv.stdout, purged)
	}
	for _, q := range purged {
		say(inv.stdout, "%s: about %d messages purged\n", q.Queue, q.Waiting+q.Held)
	}
	return nil
}

func (c *dlqPurgeCommand) confirm(inv *invocation, stdin *os.File) error {
	switch {
	case c.Yes:
		return nil
	case !isTerminal(stdin) || !isTerminal(inv.stderr):
		return &setupError{errors.New("purging cannot be undone: say --yes")}
	}
	say(inv.stderr, "This deletes the dead events of %s for good. Type its name to go on: ", c.Consumer)
	answer, err := bufio.NewReader(stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != c.Consumer {
		return &setupError{errors.New("not purged")}
	}
	return nil
}
