package retention

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/restock-dev/restock/internal/service"
)

// Days from the end of an event's day for which its partitions stay.
const (
	OutboxDays = 30
	RecordDays = OutboxDays + 15 // ledger, parked, inbox, effects
)

// QueueDays is how long SQS keeps a message at most: in a queue, and then in its
// dead-letter queue.
const QueueDays = 14 + 14

// KeyHours is how long an idempotency key stays at least.
const KeyHours = 24

var (
	// ErrBusy is what a run ends with that finds another at work.
	ErrBusy = errors.New("another maintain is at work")
	// ErrUnfit is what a run ends with that cannot begin on a database.
	ErrUnfit = errors.New("cannot begin")
)

// Database is one with an outbox.
type Database struct {
	Name string // for reports
	DSN  string // as the owner of the tables; to look only, as any role that reads them
}

// Config says what is to be maintained.
type Config struct {
	// Databases are all in which events of one another may be. See the package.
	Databases []Database
	// DryRun looks and changes nothing.
	DryRun bool
	// Settled are days whose dead and unended events are settled by hand.
	Settled []time.Time
	// LockTimeout is how long one try waits for a lock. While it waits for the table
	// itself nobody queues behind it but who reads that very partition. Default 2 s.
	LockTimeout time.Duration
	// Tries is how often a partition is tried. Default 5.
	Tries int
	// ConfirmTimeout is how long to wait for the relays to confirm what is recorded,
	// which one that is at work does every second. Default 10 s.
	ConfirmTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.LockTimeout <= 0 {
		c.LockTimeout = 2 * time.Second
	}
	if c.Tries <= 0 {
		c.Tries = 5
	}
	if c.ConfirmTimeout <= 0 {
		c.ConfirmTimeout = 10 * time.Second
	}
	return c
}

// run is one look at all databases.
type run struct {
	cfg       Config
	databases []*database
	report    Report

	found       map[time.Time][]Reason // by day
	unconfirmed []Reason
}

// Run removes every partition that may go and reports on each that is past its time.
// That a partition stays, or could not be removed this time, is in the report and no
// error.
func Run(ctx context.Context, cfg Config) (Report, error) {
	r := &run{cfg: cfg.withDefaults(), found: map[time.Time][]Reason{}, report: Report{DryRun: cfg.DryRun, Partitions: []Partition{}}}
	defer r.close()
	for _, d := range cfg.Databases {
		opened, err := open(ctx, d, r.cfg)
		if err != nil {
			return r.report, fmt.Errorf("maintain %s: %w", d.Name, err)
		}
		r.databases = append(r.databases, opened)
	}
	if err := r.completeDetaches(ctx); err != nil {
		return r.report, err
	}
	outboxes, records := r.due()
	if err := r.look(ctx, slices.Concat(outboxes, records)); err != nil {
		return r.report, err
	}
	for _, p := range slices.Concat(outboxes, records) {
		if err := r.settle(ctx, p); err != nil {
			return r.report, err
		}
	}
	for _, d := range r.databases {
		if err := d.forgetReplays(ctx, cfg.DryRun); err != nil {
			return r.report, fmt.Errorf("maintain %s: %w", d.name, err)
		}
		if err := d.forgetKeys(ctx, cfg.DryRun); err != nil {
			return r.report, fmt.Errorf("maintain %s: %w", d.name, err)
		}
	}
	return r.report, nil
}

func (r *run) close() {
	for _, d := range r.databases {
		d.close()
	}
}

// due are the partitions that are past their time, by day.
func (r *run) due() (outboxes, records []*partition) {
	for _, d := range r.databases {
		for _, p := range d.partitions {
			switch {
			case p.table == outbox && p.pastBy(d.today, OutboxDays):
				outboxes = append(outboxes, p)
			case p.table != outbox && p.pastBy(d.today, RecordDays):
				records = append(records, p)
			}
		}
	}
	byDay := func(a, b *partition) int { return a.day.Compare(b.day) }
	slices.SortStableFunc(outboxes, byDay)
	slices.SortStableFunc(records, byDay)
	return outboxes, records
}

// look finds out what keeps the days of the partitions. The slots come last: what a
// ledger was seen to have, its relay recorded before.
func (r *run) look(ctx context.Context, due []*partition) error {
	for _, p := range due {
		if _, known := r.found[p.day]; known {
			continue
		}
		reasons, err := r.reasons(ctx, p.day)
		if err != nil {
			return err
		}
		r.found[p.day] = reasons
	}
	if len(due) == 0 {
		return nil
	}
	for _, d := range r.databases {
		slots, err := d.unconfirmed(ctx, r.cfg.ConfirmTimeout)
		if err != nil {
			return err
		}
		if slots > 0 {
			r.unconfirmed = append(r.unconfirmed, Reason{Unconfirmed, d.name, slots})
		}
	}
	return nil
}

// settle removes the partition or reports why it stays.
func (r *run) settle(ctx context.Context, p *partition) error {
	reasons := r.holding(p, r.found[p.day])
	before := p.db.stuck[p.table]
	switch {
	case before == p.name(): // reported already
	case p.state != attached && !p.marked:
		r.report.add(p, Kept, []Reason{{Foreign, p.db.name, 1}}, nil)
	case len(reasons) > 0 && (p.state == attached || r.cfg.DryRun):
		return r.keep(ctx, p, reasons)
	case r.cfg.DryRun:
		p.planned = true
		r.report.add(p, Planned, nil, nil)
	case before != "":
		r.report.add(p, Failed, nil, fmt.Errorf("%s comes first", before))
	default:
		return r.remove(ctx, p)
	}
	return nil
}

// holding adds to what was found of the partition's day what is not a matter of the
// day alone.
func (r *run) holding(p *partition, found []Reason) []Reason {
	all := slices.Concat(found, r.unconfirmed)
	if p.table != outbox {
		all = append(all, r.outboxesOf(p.day)...)
	}
	return all
}

// outboxesOf are the outbox partitions of a day that are still there.
func (r *run) outboxesOf(day time.Time) []Reason {
	var there []Reason
	for _, d := range r.databases {
		if p := d.find(outbox, day); p != nil && p.ours() && !p.planned {
			there = append(there, Reason{Outbox, d.name, 1})
		}
	}
	return there
}

// keep leaves an attached partition as it is. A mark from a run that was cut off goes:
// should somebody detach the table now, it is not ours to drop.
func (r *run) keep(ctx context.Context, p *partition, reasons []Reason) error {
	var err error
	if p.marked && !r.cfg.DryRun {
		err = p.unmark(ctx)
	}
	r.report.add(p, Kept, reasons, err)
	return ctx.Err()
}

// remove takes a partition away, or tells what came up meanwhile.
func (r *run) remove(ctx context.Context, p *partition) error {
	err := p.detach(ctx, r.patience())
	var reasons []Reason
	if err == nil {
		reasons, err = r.drop(ctx, p)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		p.db.stuck[p.table] = p.name()
		r.report.add(p, Failed, nil, err)
	case len(reasons) > 0:
		r.report.add(p, Kept, reasons, nil)
	default:
		p.db.forget(p)
		r.report.add(p, Removed, nil, nil)
	}
	return nil
}

func (r *run) patience() service.Backoff {
	return service.Backoff{Initial: 200 * time.Millisecond, Max: 5 * time.Second, Tries: r.cfg.Tries}
}

// completeDetaches ends what a run that was cut off had begun: a table can have one
// partition on its way out, so nothing else of it goes before.
func (r *run) completeDetaches(ctx context.Context) error {
	if r.cfg.DryRun {
		return nil
	}
	for _, d := range r.databases {
		for _, p := range d.partitions {
			if p.state != pending {
				continue
			}
			if err := p.detach(ctx, r.patience()); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				d.stuck[p.table] = p.name()
				r.report.add(p, Failed, nil, err)
			}
		}
	}
	return nil
}
