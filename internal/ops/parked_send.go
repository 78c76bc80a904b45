package ops

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// SendReport is what was asked to be sent of what is parked.
type SendReport struct {
	DryRun bool        `json:"dryRun"`
	Groups []SentGroup `json:"groups"`
	// Missing is what was named and is not parked.
	Missing []string `json:"missing"`

	groups []string    // released whole
	events []uuid.UUID // sent by themselves
}

// SentGroup is what was asked for of one group.
type SentGroup struct {
	Group  string      `json:"group"`
	Whole  bool        `json:"whole"` // the group is released
	Events []uuid.UUID `json:"events"`
	// Overtaken are those of Events of whose group a later one is published already.
	Overtaken []uuid.UUID `json:"overtaken"`
}

// Count is how many events were asked for.
func (r SendReport) Count() int {
	n := 0
	for _, g := range r.Groups {
		n += len(g.Events)
	}
	return n
}

// Send asks the active relay to send what is parked, each group in its order. A
// group that is parked can be sent whole only, and goes on then. Send returns as
// soon as that is asked for; Sending tells how far it is.
func (p *Parked) Send(ctx context.Context, s ParkedSelection, dryRun bool) (SendReport, error) {
	report := SendReport{DryRun: dryRun, Groups: []SentGroup{}, Missing: []string{}}
	if err := s.Validate(); err != nil {
		return report, fmt.Errorf("send what is parked: %w", err)
	}
	err := pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error {
		events, groups, err := s.choose(ctx, tx, false)
		if err != nil {
			return err
		}
		if err := p.plan(ctx, tx, s, events, groups, &report); err != nil || dryRun {
			return err
		}
		return p.ask(ctx, tx, &report)
	})
	if err != nil {
		return report, fmt.Errorf("send what is parked: %w", err)
	}
	if !dryRun {
		for _, g := range report.Groups {
			p.log.Info().Str("group", g.Group).Int("events", len(g.Events)).Bool("whole", g.Whole).Str("by", p.by).Msg("parked events are to be sent")
		}
	}
	return report, nil
}

func (p *Parked) plan(ctx context.Context, tx pgx.Tx, s ParkedSelection, events []chosenParked, groups map[string]bool, report *SendReport) error {
	overtaken, err := overtaken(ctx, tx, events)
	if err != nil {
		return err
	}
	index := make(map[string]int)
	group := func(name string) *SentGroup {
		if _, ok := index[name]; !ok {
			index[name] = len(report.Groups)
			report.Groups = append(report.Groups, SentGroup{Group: name, Overtaken: []uuid.UUID{}, Events: []uuid.UUID{}})
		}
		return &report.Groups[index[name]]
	}
	for _, e := range events {
		if e.Held && len(s.Events) > 0 {
			return refuse("event %s is held with its group %s: send the group, or skip the event", e.Event, e.Group)
		}
		g := group(e.Group)
		g.Events = append(g.Events, e.Event)
		if overtaken[e.Event] {
			g.Overtaken = append(g.Overtaken, e.Event)
		}
		if !e.Held {
			report.events = append(report.events, e.Event)
		}
	}
	for name := range groups {
		if len(s.Events) == 0 {
			group(name).Whole = true
			report.groups = append(report.groups, name)
		}
	}
	for _, id := range s.Events {
		if !slices.ContainsFunc(events, func(e chosenParked) bool { return e.Event == id }) {
			report.Missing = append(report.Missing, id.String())
		}
	}
	for _, name := range s.Groups {
		if _, ok := index[name]; !ok {
			report.Missing = append(report.Missing, name)
		}
	}
	return nil
}

func (p *Parked) ask(ctx context.Context, tx pgx.Tx, report *SendReport) error {
	_, err := tx.Exec(ctx, `UPDATE parked_groups SET state = 'sending', asked_by = $2, asked_at = now()
		WHERE message_group = ANY($1) AND state = 'parked'`, report.groups, p.by)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE parked SET state = 'sending', asked_by = $2, asked_at = now() WHERE event_id = ANY($1) AND state = 'parked'`, report.events, p.by)
	return err
}

// overtaken finds the events that were parked by themselves and of whose group a
// later one is published.
func overtaken(ctx context.Context, tx pgx.Tx, events []chosenParked) (map[uuid.UUID]bool, error) {
	var days []time.Time
	var ids []uuid.UUID
	var groups []string
	var seqs []int64
	for _, e := range events {
		if !e.Held {
			days, ids, groups, seqs = append(days, e.Day), append(ids, e.Event), append(groups, e.Group), append(seqs, e.Seq)
		}
	}
	found := make(map[uuid.UUID]bool)
	if len(ids) == 0 {
		return found, nil
	}
	rows, err := tx.Query(ctx, `SELECT DISTINCT r.event_id
		FROM unnest($1::date[], $2::uuid[], $3::text[], $4::bigint[]) AS r (day, event_id, message_group, seq)
		JOIN outbox o ON o.day >= r.day AND o.message_group = r.message_group AND o.seq > r.seq
		JOIN ledger l ON l.day = o.day AND l.event_id = o.id AND l.outcome = 'published'
		WHERE o.day >= $5`, days, ids, groups, seqs, slices.MinFunc(days, time.Time.Compare))
	if err != nil {
		return nil, err
	}
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		found[id] = true
		return nil
	})
	return found, err
}

// SendProgress is how far the relay is with what was asked for.
type SendProgress struct {
	Left   int // events still to be sent, those that were parked meanwhile included
	Parked int // events parked again, by themselves or with their group
	Done   bool
}

// Sending tells how far the relay is with what a Send asked for.
func (p *Parked) Sending(ctx context.Context, r SendReport) (SendProgress, error) {
	var at SendProgress
	var groups int
	err := p.db.QueryRow(ctx, `WITH going AS (SELECT message_group FROM parked_groups WHERE message_group = ANY($1) AND state = 'sending'),
		again AS (SELECT message_group FROM parked_groups WHERE message_group = ANY($1) AND state = 'parked')
		SELECT (SELECT count(*) FROM going),
			(SELECT count(*) FROM parked WHERE state = 'sending' AND event_id = ANY($2))
			+ (SELECT count(*) FROM parked JOIN going USING (message_group) WHERE state = 'parked' AND reason = 'held'),
			(SELECT count(*) FROM parked WHERE state = 'parked' AND (event_id = ANY($2) OR reason = 'held' AND message_group IN (SELECT * FROM again)))`,
		r.groups, r.events).Scan(&groups, &at.Left, &at.Parked)
	if err != nil {
		return at, fmt.Errorf("look how far sending is: %w", err)
	}
	at.Done = at.Left+groups == 0
	return at, nil
}
