package ops

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
)

// Parked is what a relay parked in one database: events that cannot be published,
// and the events of groups that are refused. It is safe for concurrent use.
type Parked struct {
	db  *pgxpool.Pool
	by  string
	log zerolog.Logger
}

// NewParked makes a Parked on a database with an outbox, as schema.RoleMaintenance.
// by is who asks, and is kept with what was asked for.
func NewParked(db *pgxpool.Pool, by string, log zerolog.Logger) *Parked { return &Parked{db, by, log} }

// ParkedGroup is what is parked of one message group.
type ParkedGroup struct {
	Group  string    `json:"group"`
	Events int       `json:"events"`
	Since  time.Time `json:"since"` // when the first of them was parked
	// Held tells that the group is parked: later events of it are, too. Else it is
	// single events that are, and the group goes on without them.
	Held    bool       `json:"held"`
	Sending bool       `json:"sending"`        // somebody asked to send it, or some of it
	Head    *uuid.UUID `json:"head,omitempty"` // the first event, nil where none is left
	Reason  string     `json:"reason,omitempty"`
	Detail  string     `json:"detail,omitempty"`
	AskedBy string     `json:"askedBy,omitempty"`
}

// List lists the groups of which something is parked, the oldest first.
func (p *Parked) List(ctx context.Context, c Cursor) (Page[ParkedGroup], error) {
	var since *time.Time
	var group *string
	if err := c.read(&since, &group); err != nil {
		return Page[ParkedGroup]{}, err
	}
	if group != nil && strings.ContainsRune(*group, 0) { // no group has it, and Postgres fails on it
		return Page[ParkedGroup]{}, ErrCursor
	}
	rows, err := p.db.Query(ctx, `WITH open AS (
			SELECT message_group, count(*) AS events, min(parked_at) AS since, min(place) AS first, bool_or(state = 'sending') AS sending
			FROM parked WHERE state IN ('parked', 'sending') GROUP BY message_group)
		SELECT message_group, coalesce(o.events, 0), coalesce(o.since, g.parked_at), g.event_id IS NOT NULL,
			coalesce(o.sending, false) OR coalesce(g.state = 'sending', false), p.event_id, coalesce(p.reason, ''), coalesce(p.detail, ''),
			coalesce(g.asked_by, p.asked_by, '')
		FROM open o FULL JOIN parked_groups g USING (message_group)
		LEFT JOIN LATERAL (SELECT event_id, reason, detail, asked_by FROM parked p
			WHERE p.message_group = o.message_group AND p.place = o.first AND p.state IN ('parked', 'sending')) p ON true
		WHERE $1::timestamptz IS NULL OR (coalesce(o.since, g.parked_at), message_group) > ($1, $2)
		ORDER BY 3, 1 LIMIT $3`, since, group, c.Most+1)
	if err != nil {
		return Page[ParkedGroup]{}, fmt.Errorf("list what is parked: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ParkedGroup])
	if err != nil {
		return Page[ParkedGroup]{}, fmt.Errorf("list what is parked: %w", err)
	}
	return pageOf(all, c.Most, func(g ParkedGroup) []any { return []any{g.Since, g.Group} }), nil
}

// ParkedEvent is one event that is or was parked.
type ParkedEvent struct {
	EventID    uuid.UUID  `json:"eventId"`
	Group      string     `json:"group"`
	Sequence   int64      `json:"sequence"`
	Type       string     `json:"type,omitempty"`
	State      string     `json:"state"`
	Reason     string     `json:"reason"`
	Detail     string     `json:"detail"`
	Since      time.Time  `json:"since"`
	AskedBy    string     `json:"askedBy,omitempty"` // who sent or skipped it
	AskedAt    *time.Time `json:"askedAt,omitempty"`
	Note       string     `json:"note,omitempty"` // why it was skipped
	ResolvedAt *time.Time `json:"resolvedAt,omitempty"`
}

const parkedColumns = `p.event_id, p.message_group, p.seq, coalesce(o.type, ''), p.state, p.reason, p.detail, p.parked_at,
	coalesce(p.asked_by, ''), p.asked_at, coalesce(p.note, ''), p.resolved_at`

// Events lists what is parked of a group, in its order.
func (p *Parked) Events(ctx context.Context, group string, c Cursor) (Page[ParkedEvent], error) {
	var place int64
	if err := c.read(&place); err != nil {
		return Page[ParkedEvent]{}, err
	}
	rows, err := p.db.Query(ctx, `SELECT `+parkedColumns+`, p.place
		FROM parked p LEFT JOIN outbox o ON o.day = p.day AND o.id = p.event_id
		WHERE p.message_group = $1 AND p.state IN ('parked', 'sending') AND p.place > $2 ORDER BY p.place LIMIT $3`, group, place, c.Most+1)
	if err != nil {
		return Page[ParkedEvent]{}, fmt.Errorf("list what is parked of %s: %w", group, err)
	}
	type placed struct {
		ParkedEvent
		Place int64
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[placed])
	if err != nil {
		return Page[ParkedEvent]{}, fmt.Errorf("list what is parked of %s: %w", group, err)
	}
	part := pageOf(all, c.Most, func(e placed) []any { return []any{e.Place} })
	events := make([]ParkedEvent, len(part.Items))
	for i, e := range part.Items {
		events[i] = e.ParkedEvent
	}
	return Page[ParkedEvent]{events, part.Next}, nil
}

// ErrNotParked is that an event or a group is not parked.
var ErrNotParked = errors.New("not parked")

// ParkedDossier is all that is known of a parked event.
type ParkedDossier struct {
	ParkedEvent
	Attributes string `json:"attributes"` // as in the outbox
	Body       string `json:"body"`       // but for the signature of a callback
}

// Show tells all that is known of an event that is or was parked.
func (p *Parked) Show(ctx context.Context, event uuid.UUID) (ParkedDossier, error) {
	var d ParkedDossier
	err := p.db.QueryRow(ctx, `SELECT `+parkedColumns+`, coalesce(o.attributes::text, ''), coalesce(o.body, '')
		FROM parked p LEFT JOIN outbox o ON o.day = p.day AND o.id = p.event_id WHERE p.event_id = $1`, event).
		Scan(&d.EventID, &d.Group, &d.Sequence, &d.Type, &d.State, &d.Reason, &d.Detail, &d.Since,
			&d.AskedBy, &d.AskedAt, &d.Note, &d.ResolvedAt, &d.Attributes, &d.Body)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return d, fmt.Errorf("event %s is %w", event, ErrNotParked)
	case err != nil:
		return d, fmt.Errorf("show event %s: %w", event, err)
	}
	d.Attributes, d.Body = redact(d.Attributes), redact(d.Body)
	return d, nil
}

// ParkedSelection says what of what is parked is meant: all of it, some groups, or
// some events.
type ParkedSelection struct {
	All    bool
	Groups []string
	Events []uuid.UUID
	// Seen is how many events there were when whoever asks looked: a skip refuses to give
	// up more. 0 is no bound.
	Seen int
}

// Validate tells what is wrong with a selection that means nothing, or too much.
func (s ParkedSelection) Validate() error {
	kinds := 0
	for _, given := range []bool{s.All, len(s.Groups) > 0, len(s.Events) > 0} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return errors.New("name groups, or events, or say that all are meant, and only one of these")
	}
	return nil
}

// chosenParked is a parked event that a selection means.
type chosenParked struct {
	Day   time.Time
	Event uuid.UUID
	Group string
	Held  bool
}

// choose locks the parked events that are meant, and returns the groups that are
// parked of theirs, locked too, and which of these are being sent. The groups come
// first, as when the relay writes. What is being sent by itself is not meant any more,
// unless lost asks for those of its events that the outbox does not hold: these never go.
func (s ParkedSelection) choose(ctx context.Context, tx pgx.Tx, lost bool) (events []chosenParked, groups map[string]bool, err error) {
	rows, err := tx.Query(ctx, `SELECT message_group, state = 'sending' FROM parked_groups
		WHERE $1 OR message_group = ANY($2) OR message_group IN (SELECT message_group FROM parked WHERE event_id = ANY($3))
		ORDER BY message_group FOR UPDATE`, s.All, s.Groups, s.Events)
	if err != nil {
		return nil, nil, err
	}
	groups = make(map[string]bool)
	var group string
	var sending bool
	if _, err = pgx.ForEachRow(rows, []any{&group, &sending}, func() error {
		groups[group] = sending
		return nil
	}); err != nil {
		return nil, nil, err
	}
	rows, err = tx.Query(ctx, `SELECT day, event_id, message_group, reason = 'held' FROM parked p
		WHERE (state = 'parked' OR $4 AND state = 'sending' AND NOT EXISTS (SELECT FROM outbox o WHERE o.day = p.day AND o.id = p.event_id))
		AND ($1 OR message_group = ANY($2) OR event_id = ANY($3)) ORDER BY place FOR UPDATE`, s.All, s.Groups, s.Events, lost)
	if err != nil {
		return nil, nil, err
	}
	events, err = pgx.CollectRows(rows, pgx.RowToStructByPos[chosenParked])
	return events, groups, err
}
