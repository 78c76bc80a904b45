package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// errDrill is what is not well yet, or not any more.
var errDrill = errors.New("not all is well")

// looked is what a look at everything found.
type looked struct {
	events                      int64
	missing, dead, parked, open int64
	doubled                     int // effects outside that happened twice
}

// look tells whether every event is published and handled, and every effect came once.
// An error that is not errDrill is one of the look itself.
func (s *stage) look() (l looked, err error) {
	var out, errs bytes.Buffer
	if code := run(s.ctx, []string{"reconcile", "--json", "--grace", "1ns", "--stale", "1ns"}, &out, &errs); code > 1 {
		return l, fmt.Errorf("reconcile: %s", errs.String())
	}
	var r ops.Reconciliation
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return l, fmt.Errorf("read what reconcile found: %w", err)
	}
	l.missing = r.Missing
	for _, o := range r.Outboxes {
		l.events, l.parked = l.events+o.Events, l.parked+o.Parked
	}
	for _, c := range r.Consumers {
		l.dead, l.open = l.dead+c.Dead, l.open+c.Waiting
	}
	l.doubled = s.repeats()
	if l.missing+l.dead+l.parked+l.open > 0 || l.doubled > 0 {
		return l, fmt.Errorf("%w: %d events are missing, %d dead, %d parked, %d waiting; %d effects came twice", errDrill, l.missing, l.dead, l.parked, l.open, l.doubled)
	}
	return l, nil
}

// repeats counts what the factory, the marketing system and the ads' manager were told
// more than once.
func (s *stage) repeats() (n int) {
	for _, p := range s.factory.Productions() {
		n += p.Requests - 1
	}
	for _, r := range s.marketing.Received() {
		n += len(r.Timestamps) - 1
	}
	mails := map[string]bool{}
	for _, m := range s.aws.Mails() {
		key := m.Tags["event-id"] + " " + m.Tags["kind"]
		if mails[key] {
			n++
		}
		mails[key] = true
	}
	return n
}

// audit waits until all is well, and prints the figures of the drill.
func (s *stage) audit(took time.Duration) error {
	if err := errors.Join(s.settled(), s.whatEnded()); err != nil {
		return err
	}
	l, err := s.look()
	if err != nil {
		return err
	}
	if err := s.asOwner(demoStore, s.conserved); err != nil {
		return err
	}
	name := "drill_" + strings.ReplaceAll(s.cmd.Name, "-", "_")
	ok := figure.Print(s.inv.stdout, name+"_events", "events", figure.Goal{}, float64(l.events))
	ok = figure.Print(s.inv.stdout, name+"_missing", "events", figure.AtMost(0), float64(l.missing)) && ok
	ok = figure.Print(s.inv.stdout, name+"_doubled", "effects", figure.AtMost(0), float64(l.doubled)) && ok
	ok = figure.Print(s.inv.stdout, name+"_out_of_order", "events", figure.AtMost(0), float64(s.handled.inverted())) && ok
	ok = figure.Print(s.inv.stdout, name+"_mended_in", "s", figure.Goal{}, took.Seconds()) && ok
	if !ok {
		return errDrill
	}
	s.tell("all is well: nothing is missing, nothing happened twice")
	return nil
}

// conserved holds every unit to account.
func (s *stage) conserved(conn *pgx.Conn) error {
	var wrong []string
	rows, err := conn.Query(s.ctx, `SELECT sku FROM products p WHERE stock <> initial_stock
		+ coalesce((SELECT sum(delivered_quantity) FROM replenishments r WHERE r.sku = p.sku), 0)
		- coalesce((SELECT sum(quantity) FROM all_order_lines o WHERE o.sku = p.sku), 0)`)
	if err == nil {
		wrong, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err == nil && len(wrong) > 0 {
		err = fmt.Errorf("%w: units of %s are lost or made", errDrill, strings.Join(wrong, ", "))
	}
	return err
}

// order notes in which order a handler succeeded with orders.
type order struct {
	mu   sync.Mutex
	seen map[string][]int64 // sequences by customer, whose id is the message group
}

// noted is h, whose successes are noted.
func (o *order) noted(h consumers.Handler) consumers.Handler {
	return handlerFunc(func(ctx context.Context, d consumers.Delivery) (consumers.Effect, error) {
		effect, err := h.Handle(ctx, d)
		if placed, ok := d.Payload.(schema.OrderPlaced); ok && err == nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.seen == nil {
				o.seen = map[string][]int64{}
			}
			o.seen[placed.CustomerID] = append(o.seen[placed.CustomerID], d.Event.Seq())
		}
		return effect, err
	})
}

// inverted counts orders that came after a later one of their customer.
func (o *order) inverted() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, numbers := range o.seen {
		for i, number := range numbers {
			if i > 0 && number < slices.Max(numbers[:i]) {
				n++
			}
		}
	}
	return n
}

// handlerFunc is a function that handles.
type handlerFunc func(context.Context, consumers.Delivery) (consumers.Effect, error)

// Handle implements consumers.Handler.
func (f handlerFunc) Handle(ctx context.Context, d consumers.Delivery) (consumers.Effect, error) {
	return f(ctx, d)
}
