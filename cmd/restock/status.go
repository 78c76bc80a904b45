package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/service"
)

type statusCommand struct {
	databasesFlags
	vipFlag
	limitsFlags
	Watch    bool          `help:"Look again and again: a terminal is drawn anew, else one block follows another."`
	Interval time.Duration `default:"5s" help:"Time between two looks of --watch."`
	HTTPAddr string        `name:"http-addr" env:"RESTOCK_STATUS_HTTP_ADDR" placeholder:"HOST:PORT" help:"With --watch: where /healthz, /readyz and /metrics are served. Default: not at all."`
	JSON     bool          `name:"json" help:"Print JSON; with --watch one object a line."`
}

// Help is what -h says besides the flags.
func (c *statusCommand) Help() string {
	return "Asks the databases, as restock_maintenance, and SQS; no part of Restock need be reachable. Without RESTOCK_CUSTOMERS_DATABASE_URL the relay of the customers " +
		"database, vip and marketing are left out. Exit codes: 0 healthy, 1 degraded, each concern a line with what mends it, 2 something could not be asked. " +
		"--watch ends with 0 when it is stopped."
}

// Validate is called by kong.
func (c *statusCommand) Validate() error {
	switch {
	case c.Interval < 100*time.Millisecond:
		return errors.New("--interval must be 100ms or more")
	case c.HTTPAddr != "" && !c.Watch:
		return errors.New("--http-addr needs --watch")
	}
	return errors.Join(c.limitsFlags.Validate(), c.vipFlag.Validate())
}

// Run looks once, or until a signal.
func (c *statusCommand) Run(inv *invocation) error {
	s, done, err := c.open(inv)
	if err != nil {
		return err
	}
	defer done()
	if c.Watch {
		return c.watch(inv, s)
	}
	report, err := s.Look(inv)
	if err != nil {
		return err
	}
	if err := c.print(inv.stdout, report); err != nil {
		return err
	}
	switch report.Health {
	case ops.Degraded:
		return fmt.Errorf("degraded: %d concerns", len(report.Concerns))
	case ops.Unknown:
		return &setupError{errors.New("not all could be asked")}
	}
	return nil
}

// open makes a Status. Nothing is reached yet: that something cannot be is for the
// report to say.
func (c *statusCommand) open(inv *invocation) (s *ops.Status, done func(), err error) {
	aws, err := awsConfig(inv)
	if err != nil {
		return nil, nil, err
	}
	if c.DatabaseURL == "" {
		return nil, nil, &setupError{errors.New("no database: set --database-url (the store), and --customers-database-url where there is one")}
	}
	p, done, err := c.databases(inv, "restock_status", 4)
	if err != nil {
		return nil, nil, err
	}
	client := sqs.NewFromConfig(aws)
	p.SQS, p.Find, p.VIPThreshold = client, queuesOf(client), c.VIPThreshold
	return p.Status(c.config()), done, nil
}

// watch looks until a signal.
func (c *statusCommand) watch(inv *invocation, s *ops.Status) error {
	parts := []func(context.Context) error{func(ctx context.Context) error { return c.repeat(ctx, inv.stdout, s) }}
	if c.HTTPAddr != "" {
		inv := *inv
		inv.stdout = inv.stderr // the endpoint line is not part of what is printed
		ln, err := listen(&inv, "status", c.HTTPAddr)
		if err != nil {
			return err
		}
		reg := newRegistry()
		reg.MustRegister(s.Collector())
		mux := http.NewServeMux()
		service.Health(mux, nil, reg)
		parts = append(parts, service.HTTP(ln, mux))
	}
	return service.Run(inv, parts...)
}

func (c *statusCommand) repeat(ctx context.Context, out io.Writer, s *ops.Status) error {
	for {
		report, err := s.Look(ctx)
		if err != nil {
			return err
		}
		var block bytes.Buffer
		if !c.JSON && isTerminal(out) {
			block.WriteString("\x1b[H\x1b[2J")
		}
		if err := c.print(&block, report); err != nil {
			return err
		}
		if _, err := out.Write(block.Bytes()); err != nil {
			return fmt.Errorf("print the status: %w", err)
		}
		if err := service.Sleep(ctx, c.Interval); err != nil {
			return err
		}
	}
}

func (c *statusCommand) print(out io.Writer, r ops.StatusReport) error {
	switch {
	case c.JSON && c.Watch:
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		return enc.Encode(r)
	case c.JSON:
		return printJSON(out, r)
	}
	say(out, "%s  %s\n\n", r.At.Format(time.RFC3339), r.Health)
	printRelays(out, r.Relays)
	printShards(out, r.Relays)
	if len(r.Queues) > 0 {
		say(out, "\n")
		printQueues(out, r.Queues)
	}
	if len(r.Concerns) > 0 {
		say(out, "\n")
	}
	for _, f := range r.Concerns {
		say(out, "%s %s: %s\n  -> %s\n", f.Health, f.About, visible(f.What), visible(f.Mend))
	}
	say(out, "\n")
	return nil
}

// printRelays prints a column for each database.
func printRelays(out io.Writer, relays []ops.RelayStatus) {
	rows := []table.Row{{"relay"}, {"slot"}, {"position"}, {"lag"}, {"unpublished"}, {"events/s"}, {"drained in"}, {"unconfirmed"}, {"WAL kept"}, {"slot lost in"}, {"parked"}, {"partitions"}, {"overdue"}}
	header := table.Row{"database"}
	for _, r := range relays {
		header = append(header, r.Database)
		for i, cell := range relayCells(r) {
			rows[i] = append(rows[i], cell)
		}
	}
	t := newTable(out, header...)
	t.AppendRows(rows)
	t.Render()
}

// printShards prints the slots of each outbox that has more than one.
func printShards(out io.Writer, relays []ops.RelayStatus) {
	var t table.Writer
	for _, r := range relays {
		for _, s := range r.Shards {
			if t == nil {
				t = newTable(out, "shard", "database", "buckets", "is", "relay", "slot", "unconfirmed", "WAL kept", "slot lost in")
			}
			t.AppendRow(table.Row{s.Slot, r.Database, s.Buckets, s.Place, s.State, s.SlotState, volume(s.LagBytes), volume(s.RetainedBytes), span(s.LeftSeconds)})
		}
	}
	if t != nil {
		say(out, "\n")
		t.Render()
	}
}

// relayCells are what is known of a relay.
func relayCells(r ops.RelayStatus) []string {
	cells := []string{"?", "?", "?", "?", "?", "?", "?", "?", "?", "?", "?", "?", "?"}
	if r.State == "" {
		return cells
	}
	cells[0], cells[1], cells[2] = r.State, r.Slot+", "+r.SlotState, r.Confirmed
	if len(r.Shards) > 0 {
		cells[0], cells[1] = "worst: "+r.State, fmt.Sprintf("%d, worst: %s", len(r.Shards), r.SlotState)
	}
	if r.Standbys > 0 {
		cells[0] += fmt.Sprintf(", %d standing by", r.Standbys)
	}
	cells[7], cells[8], cells[9] = volume(r.LagBytes), volume(r.RetainedBytes), span(r.LeftSeconds)
	if r.Error != "" {
		return cells
	}
	cells[3], cells[4], cells[5], cells[6] = span(&r.LagSeconds), fmt.Sprint(r.Unpublished), fmt.Sprintf("%.1f", r.EventsPerSecond), span(r.DrainSeconds)
	cells[10], cells[11], cells[12] = fmt.Sprintf("%d events, %d groups", r.ParkedEvents, r.ParkedGroups), fmt.Sprintf("%d days ahead", r.PartitionDays), "-"
	if o := r.Replenishments; o != nil {
		cells[12] = fmt.Sprintf("%d of %d replenishments", o.Overdue, o.Open)
	}
	return cells
}

func printQueues(out io.Writer, queues []ops.QueueStatus) {
	t := newTable(out, "queue", "visible", "in flight", "oldest", "dead", "attempts/s", "failing", "last error")
	for _, q := range queues {
		if q.Error != "" {
			t.AppendRow(table.Row{q.Queue, "?"})
			continue
		}
		oldest := "-"
		if q.OldestSeconds != nil {
			oldest = span(q.OldestSeconds)
		}
		if q.OldestAtLeast {
			oldest = "over " + oldest
		}
		trouble := short(q.LastError, 60)
		if q.LastErrorAt != nil {
			trouble += " (" + age(*q.LastErrorAt) + " ago)"
		}
		t.AppendRow(table.Row{q.Queue, q.Visible, q.InFlight, oldest, q.Dead, fmt.Sprintf("%.1f", q.AttemptsPerSecond), q.Failing, trouble})
	}
	t.Render()
}

// span is seconds for people; nil is for ever.
func span(seconds *float64) string {
	if seconds == nil || *seconds > (100*365*24*time.Hour).Seconds() {
		return "never"
	}
	d := time.Duration(*seconds * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// volume is bytes for people.
func volume(bytes int64) string {
	const unit = 1024
	if bytes < unit {
		return fmt.Sprintf("%d B", bytes)
	}
	value, names := float64(bytes)/unit, "KMGTPE"
	for value >= unit {
		value, names = value/unit, names[1:]
	}
	return fmt.Sprintf("%.1f %ciB", value, names[0])
}
