package ops

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// SendReport is what was asked to be sent of what is parked.
type SendReport struct {
	DryRun bool        `json:"dryRun"`
	Groups []SentGroup `json:"groups"`
	// Sending is how many events are meant that were being sent by themselves already.
	Sending int `json:"sending"`
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
	overtaken, err := p.overtaken(ctx, s)
	if err != nil {
		return report, fmt.Errorf("send what is parked: %w", err)
	}
	err = pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error {
		events, groups, err := s.choose(ctx, tx, false)
		if err != nil {
			return err
		}
		sending, err := s.sending(ctx, tx)
		if err != nil {
			return err
		}
		if err := report.plan(s, events, sending, groups, overtaken); err != nil || dryRun {
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

func (r *SendReport) plan(s ParkedSelection, events, sending []chosenParked, groups map[string]bool, overtaken map[uuid.UUID]bool) error {
	index := make(map[string]int)
	group := func(name string) *SentGroup {
		if _, ok := index[name]; !ok {
			index[name] = len(r.Groups)
			r.Groups = append(r.Groups, SentGroup{Group: name, Overtaken: []uuid.UUID{}, Events: []uuid.UUID{}})
		}
		return &r.Groups[index[name]]
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
			r.events = append(r.events, e.Event)
		}
	}
	for name := range groups {
		if len(s.Events) == 0 {
			group(name).Whole = true
			r.groups = append(r.groups, name)
		}
	}
	r.Sending = len(sending)
	for _, e := range sending {
		r.events = append(r.events, e.Event)
	}
	meant := slices.Concat(events, sending)
	for _, id := range s.Events {
		if !slices.ContainsFunc(meant, func(e chosenParked) bool { return e.Event == id }) {
			r.Missing = append(r.Missing, id.String())
		}
	}
	for _, name := range s.Groups {
		if _, ok := index[name]; !ok && !slices.ContainsFunc(sending, func(e chosenParked) bool { return e.Group == name }) {
			r.Missing = append(r.Missing, name)
		}
	}
	return nil
}

// sending are the events that are meant and that somebody asked to send by themselves
// before.
func (s ParkedSelection) sending(ctx context.Context, tx pgx.Tx) ([]chosenParked, error) {
	rows, err := tx.Query(ctx, `SELECT day, event_id, message_group, false FROM parked
		WHERE state = 'sending' AND ($1 OR message_group = ANY($2) OR event_id = ANY($3)) ORDER BY place`, s.All, s.Groups, s.Events)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[chosenParked])
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

// overtaken finds, of what is meant, the events that were parked by themselves and of
// whose group a later one is published. It may read all of the outbox, and so locks
// nothing: the relay would wait for it, and with the relay everybody.
func (p *Parked) overtaken(ctx context.Context, s ParkedSelection) (map[uuid.UUID]bool, error) {
	rows, err := p.db.Query(ctx, `WITH e AS MATERIALIZED (SELECT day, event_id, message_group, seq FROM parked
			WHERE state = 'parked' AND reason <> 'held' AND ($1 OR message_group = ANY($2) OR event_id = ANY($3)))
		SELECT DISTINCT e.event_id FROM e
		JOIN outbox o ON o.day >= e.day AND o.message_group = e.message_group AND o.seq > e.seq
		JOIN ledger l ON l.day = o.day AND l.event_id = o.id AND l.outcome = 'published'
		WHERE o.day >= (SELECT min(day) FROM e)`, s.All, s.Groups, s.Events)
	if err != nil {
		return nil, err
	}
	found := make(map[uuid.UUID]bool)
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
