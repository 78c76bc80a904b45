package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"
)

// Selection says which dead events are meant: all of them, those of some
// consumers, some by their id, or some by their id of some consumers.
type Selection struct {
	All       bool
	Consumers []string
	Events    []uuid.UUID
}

// Validate tells what is wrong with a selection that means nothing, or too much.
func (s Selection) Validate() error {
	switch {
	case s.All && (len(s.Consumers) > 0 || len(s.Events) > 0):
		return errors.New("either all, or some consumers or events")
	case !s.All && len(s.Consumers) == 0 && len(s.Events) == 0:
		return errors.New("name events or a consumer, or say that all are meant")
	}
	return nil
}

// wants tells whether an event is meant, of a consumer that is.
func (s Selection) wants(event uuid.UUID) bool {
	return len(s.Events) == 0 || slices.Contains(s.Events, event)
}

// RedriveOptions change how a redrive goes.
type RedriveOptions struct {
	// DryRun looks and changes nothing.
	DryRun bool
	// Progress is told of every event, one at a time.
	Progress func(Progress)
}

// Progress is how far a redrive is.
type Progress struct {
	Event Redriven
	Done  int
	Total int // about: the queues do not count exactly
}

// Outcome is what became of an event of a redrive.
type Outcome string

// The outcomes.
const (
	OutcomePlanned Outcome = "planned" // a dry run: it would be sent
	OutcomeSent    Outcome = "sent"    // back to its consumer's queue
	OutcomeHandled Outcome = "handled" // the inbox says done: its message is deleted, or would be
	OutcomeFailed  Outcome = "failed"  // it is in the dead-letter queue still; run the redrive again
)

// Redriven is an event and what became of it.
type Redriven struct {
	DeadEvent
	Outcome Outcome `json:"outcome"`
	Error   string  `json:"error,omitempty"`
}

// RedriveReport is what a redrive did.
type RedriveReport struct {
	DryRun bool       `json:"dryRun"`
	Events []Redriven `json:"events"` // in the order done
	// Missing are events that were named and in no dead-letter queue.
	Missing []uuid.UUID `json:"missing"`
	// Held is about how many messages somebody else held, which could not be seen.
	Held int `json:"held"`
	// Unreachable are the databases without which the consumers that need them were left out.
	Unreachable []Unreachable `json:"unreachable,omitempty"`
}

// Count is how many events had an outcome.
func (r RedriveReport) Count(o Outcome) int {
	n := 0
	for _, e := range r.Events {
		if e.Outcome == o {
			n++
		}
	}
	return n
}

func (r *RedriveReport) findMissing(asked []uuid.UUID) {
	r.Missing = []uuid.UUID{}
	for _, id := range asked {
		if !slices.ContainsFunc(r.Events, func(e Redriven) bool { return e.EventID == id }) && !slices.Contains(r.Missing, id) {
			r.Missing = append(r.Missing, id)
		}
	}
}

// Redrive returns the selected dead events to their consumers' queues, each
// group in its order. Events that fail are in the report; an error means that it
// could not go on. What was not reached by then is in the dead-letter queues
// still, and the report says what was done before. See the package for what
// holds when it is cut off anywhere.
func (d *DLQ) Redrive(ctx context.Context, s Selection, o RedriveOptions) (RedriveReport, error) {
	report := RedriveReport{DryRun: o.DryRun, Events: []Redriven{}, Missing: []uuid.UUID{}}
	if err := s.Validate(); err != nil {
		return report, fmt.Errorf("redrive: %w", err)
	}
	chosen, err := d.choose(s.Consumers)
	if err != nil {
		return report, fmt.Errorf("redrive: %w", err)
	}
	if len(s.Consumers) == 0 {
		report.Unreachable = d.cfg.unreachable
	}
	if o.DryRun {
		err = d.plan(ctx, s, chosen, &report)
	} else {
		err = d.carryOut(ctx, s, o, chosen, &report)
	}
	if err == nil {
		report.findMissing(s.Events)
	}
	return report, err
}

// plan is a dry run.
func (d *DLQ) plan(ctx context.Context, s Selection, chosen []*consumer, report *RedriveReport) error {
	each, err := inParallel(chosen, func(c *consumer) (Listing, error) { return d.survey(ctx, c) })
	if err != nil {
		return fmt.Errorf("plan redrive of %w", err)
	}
	for _, l := range each {
		for _, e := range l.Events {
			if !s.wants(e.EventID) {
				continue
			}
			outcome := OutcomePlanned
			if e.State == stateDone {
				outcome = OutcomeHandled
			}
			report.Events = append(report.Events, Redriven{DeadEvent: e, Outcome: outcome})
		}
		for _, q := range l.Queues {
			report.Held += q.Held
		}
	}
	return nil
}

func (d *DLQ) carryOut(ctx context.Context, s Selection, o RedriveOptions, chosen []*consumer, report *RedriveReport) error {
	total := len(s.Events)
	for _, c := range chosen {
		for _, q := range c.dlqs {
			waiting, held, err := q.count(ctx)
			if err != nil {
				return fmt.Errorf("redrive: %w", err)
			}
			report.Held += held
			if len(s.Events) == 0 {
				total += waiting
			}
		}
	}
	var mu sync.Mutex
	tell := func(e Redriven) {
		mu.Lock()
		defer mu.Unlock()
		report.Events = append(report.Events, e)
		done := len(report.Events)
		d.log(e)
		if o.Progress != nil {
			o.Progress(Progress{Event: e, Done: done, Total: max(total, done)})
		}
	}
	for _, c := range chosen {
		r := &redrive{walk: newWalk(d, c), wants: s.wants, tell: tell}
		if err := r.run(ctx); err != nil {
			return fmt.Errorf("redrive %s: %w", c.name, err)
		}
	}
	return nil
}

// log leaves an audit line of each event that a redrive touched.
func (d *DLQ) log(e Redriven) {
	line := d.cfg.Logger.Info()
	if e.Outcome == OutcomeFailed {
		line = d.cfg.Logger.Error().Str("error", e.Error)
	}
	line.Str("consumer", e.Consumer).Stringer("event_id", e.EventID).Str("queue", e.Queue).Str("outcome", string(e.Outcome)).Msg("dead event redriven")
}
