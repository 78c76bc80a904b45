package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/schema"
)

// What a replay is asked for with where nobody says otherwise.
const (
	DefaultRate   = 500
	DefaultSample = 10
)

// ReplayOptions say how the selected events are replayed.
type ReplayOptions struct {
	// Consumer is the only one to be reached; empty is all that want an event.
	Consumer string
	// Force has consumers handle what they handled before.
	Force bool
	// Rate is how many events a second; 0 is as many as the relay can.
	Rate int
	// Sample is how many events the plan shows one by one.
	Sample int
}

// ReplayPlan is what a replay would do, or is to do.
type ReplayPlan struct {
	ID      *uuid.UUID     `json:"id,omitempty"` // nil of a plan only
	Events  int64          `json:"events"`
	Groups  int64          `json:"groups"`
	First   *PlannedEvent  `json:"first,omitempty"`
	Last    *PlannedEvent  `json:"last,omitempty"`
	Seconds *float64       `json:"seconds,omitempty"` // it takes at the rate, nil where there is none
	Effects []ReplayEffect `json:"effects"`
	// LeftOut are events that meet the selection but for what they are: published,
	// unpublished, parked, held with their group, sending, or skipped.
	LeftOut map[string]int64 `json:"leftOut"`
	// Missing is how many ids were named of which no event is selected.
	Missing int64          `json:"missing"`
	Sample  []PlannedEvent `json:"sample"`
	// Ahead is how many replays come before this one.
	Ahead int `json:"ahead"`
}

// ReplayEffect is what one consumer does of a replay.
type ReplayEffect struct {
	Consumer string `json:"consumer"`
	Wants    int64  `json:"wants"`
	// Handled is how many of these its inbox says it has handled, nil where its inbox
	// is not at hand. It skips them, or, forced, handles them again.
	Handled *int64 `json:"handled,omitempty"`
	Repeats string `json:"repeats,omitempty"` // what handling again means, where it is forced
}

// PlannedEvent is one event of a plan.
type PlannedEvent struct {
	EventID  uuid.UUID `json:"eventId"`
	Group    string    `json:"group"`
	Sequence int64     `json:"sequence"`
	Type     string    `json:"type"`
	At       time.Time `json:"at"`
	// Does says of each consumer that wants it whether it handles, skips or repeats it.
	Does map[string]string `json:"does"`
}

// Why there is nothing to replay, or not all that is meant.
var (
	ErrNothingSelected = errors.New("no event is selected")
	ErrMissing         = errors.New("events are named that cannot be replayed")
)

// Plan says what a replay of the selection would do, and changes nothing.
func (r *Replays) Plan(ctx context.Context, s ReplaySelection, o ReplayOptions) (ReplayPlan, error) {
	plan, err := r.prepare(ctx, s, o, nil)
	if err != nil {
		return plan, fmt.Errorf("plan a replay: %w", err)
	}
	return plan, nil
}

// Start asks the active relay to replay the selection, and returns as soon as that is
// asked for; State tells how far it is.
func (r *Replays) Start(ctx context.Context, s ReplaySelection, o ReplayOptions) (ReplayPlan, error) {
	id := schema.NewID()
	plan, err := r.prepare(ctx, s, o, &id)
	if err != nil {
		return plan, fmt.Errorf("start a replay: %w", err)
	}
	r.cfg.Logger.Info().Stringer("replay_id", id).Int64("events", plan.Events).Int("rate", o.Rate).Str("consumer", o.Consumer).Bool("force", o.Force).
		Str("by", r.cfg.By).Msg("replay asked for")
	return plan, nil
}

// prepare chooses, plans and, with an id, writes the replay, all in one transaction.
func (r *Replays) prepare(ctx context.Context, s ReplaySelection, o ReplayOptions, id *uuid.UUID) (plan ReplayPlan, err error) {
	plan = ReplayPlan{Effects: []ReplayEffect{}, LeftOut: map[string]int64{}, Sample: []PlannedEvent{}}
	if err := s.Validate(); err != nil {
		return plan, err
	}
	if o.Rate < 0 {
		return plan, fmt.Errorf("%w: a rate below 0", ErrSelection)
	}
	if o.Sample < 0 {
		return plan, fmt.Errorf("%w: a sample below 0", ErrSelection)
	}
	only, err := r.only(s, o)
	if err != nil {
		return plan, err
	}
	tx, err := r.cfg.DB.Begin(ctx)
	if err != nil {
		return plan, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	p := &planning{Replays: r, tx: tx, selection: s, options: o, plan: &plan}
	steps := []func(context.Context) error{p.open, p.loadIDs, p.loadUnhandled, func(ctx context.Context) error { return p.choose(ctx, only) }, p.count, p.effects, p.sample}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return plan, err
		}
	}
	if id == nil {
		return plan, nil
	}
	if err := p.write(ctx, *id); err != nil {
		return plan, err
	}
	plan.ID = id
	return plan, tx.Commit(ctx)
}

// only are the interests that an event must meet.
func (r *Replays) only(s ReplaySelection, o ReplayOptions) ([]schema.Interest, error) {
	var only []schema.Interest
	for _, name := range []string{s.Unhandled, o.Consumer} {
		if name == "" {
			continue
		}
		c, err := r.consumer(name)
		if err != nil {
			return nil, err
		}
		if name == s.Unhandled && c.Inbox == nil && len(r.cfg.unreachable) > 0 {
			return nil, fmt.Errorf("what %s has handled cannot be asked: %w", name, &UnreachableError{r.cfg.unreachable})
		}
		if name == s.Unhandled && c.Inbox == nil {
			return nil, fmt.Errorf("%w: what %s has handled is in a database that was not given", ErrSelection, name)
		}
		only = append(only, c.Interest)
	}
	return only, nil
}

// planning is one plan in the making. What it chooses is in temporary tables, so that
// memory does not grow with it.
type planning struct {
	*Replays
	tx        pgx.Tx
	selection ReplaySelection
	options   ReplayOptions
	plan      *ReplayPlan
}

// noTimeouts lets a transaction take its time, whatever the role or the database has.
// Postgres 17 and newer have a time-out of transactions, too.
const noTimeouts = `SELECT set_config(name, '0', true) FROM pg_settings
	WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')`

func (p *planning) open(ctx context.Context) error {
	for _, sql := range []string{
		noTimeouts,
		`SET LOCAL enable_partitionwise_join = on`,
		`SET LOCAL plan_cache_mode = force_custom_plan`,
		`CREATE TEMP TABLE replay_ids (id uuid) ON COMMIT DROP`,
		`CREATE TEMP TABLE replay_handled (day date, event_id uuid) ON COMMIT DROP`,
		`CREATE TEMP TABLE replay_chosen (place bigint, day date, event_id uuid, message_group text, seq bigint, type text, at timestamptz, wanted text[], status text) ON COMMIT DROP`,
	} {
		if _, err := p.tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

func (p *planning) loadIDs(ctx context.Context) error {
	ids := p.selection.ids()
	if _, err := p.tx.CopyFrom(ctx, pgx.Identifier{"replay_ids"}, []string{"id"}, ids); err != nil {
		if ids.err != nil {
			return ids.err
		}
		return fmt.Errorf("read ids: %w", err)
	}
	_, err := p.tx.Exec(ctx, `ANALYZE replay_ids`)
	return err
}

// loadUnhandled loads what the consumer has handled of which the unhandled are meant.
func (p *planning) loadUnhandled(ctx context.Context) error {
	if p.selection.Unhandled == "" {
		return nil
	}
	c, err := p.consumer(p.selection.Unhandled)
	if err != nil {
		return err
	}
	return p.loadHandled(ctx, c, p.selection.Since, p.selection.Until)
}

// choose finds what meets the selection and numbers in the order of seq what of that
// can be replayed.
func (p *planning) choose(ctx context.Context, only []schema.Interest) error {
	conditions, args := p.selection.conditions(only)
	var wants []string
	for _, c := range p.cfg.Consumers {
		if p.options.Consumer == "" || p.options.Consumer == c.Interest.Consumer {
			wants = append(wants, fmt.Sprintf("CASE WHEN %s THEN '%s' END", c.Interest.SQL(), c.Interest.Consumer))
		}
	}
	args = append(args, p.selection.status())
	sql := fmt.Sprintf(`INSERT INTO replay_chosen
		SELECT CASE WHEN status = $%[1]d THEN row_number() OVER (PARTITION BY status = $%[1]d ORDER BY seq) END, day, id, message_group, seq, type, created_at, wanted, status
		FROM (SELECT o.day, o.id, o.message_group, o.seq, o.type, o.created_at, array_remove(ARRAY[%[2]s]::text[], NULL) AS wanted,
				CASE WHEN l.outcome = 'published' THEN 'published' WHEN l.outcome IS NULL THEN 'unpublished'
					WHEN p.state = 'parked' AND p.reason = 'held' THEN 'held' ELSE coalesce(p.state, 'parked') END AS status
			FROM outbox o
			LEFT JOIN (SELECT day, event_id, outcome FROM ledger) l ON l.day = o.day AND l.event_id = o.id
			LEFT JOIN (SELECT day, event_id, state, reason FROM parked) p ON p.day = o.day AND p.event_id = o.id
			WHERE %[3]s) c`, len(args), strings.Join(wants, ", "), conditions)
	if _, err := p.tx.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("select events: %w", err)
	}
	_, err := p.tx.Exec(ctx, `ANALYZE replay_chosen`)
	return err
}

func (p *planning) count(ctx context.Context) error {
	rows, err := p.tx.Query(ctx, `SELECT status, count(*) FROM replay_chosen WHERE place IS NULL GROUP BY status`)
	if err != nil {
		return err
	}
	var status string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&status, &n}, func() error { p.plan.LeftOut[status] = n; return nil }); err != nil {
		return err
	}
	err = p.tx.QueryRow(ctx, `SELECT count(*), count(DISTINCT message_group),
			(SELECT count(DISTINCT id) FROM replay_ids i WHERE NOT EXISTS (SELECT FROM replay_chosen c WHERE c.event_id = i.id AND c.place IS NOT NULL)),
			(SELECT count(*) FROM replays WHERE state IN ('waiting', 'running'))
		FROM replay_chosen WHERE place IS NOT NULL`).Scan(&p.plan.Events, &p.plan.Groups, &p.plan.Missing, &p.plan.Ahead)
	switch {
	case err != nil:
		return err
	case p.plan.Missing > 0 && !p.selection.SkipMissing:
		return p.missing(ctx)
	case p.plan.Events == 0:
		return fmt.Errorf("%w%s", ErrNothingSelected, leftOut(p.plan.LeftOut))
	}
	if p.options.Rate > 0 {
		seconds := float64(p.plan.Events) / float64(p.options.Rate)
		p.plan.Seconds = &seconds
	}
	return nil
}

// leftOut says what was not selected for what it is.
func leftOut(by map[string]int64) string {
	says := map[string]string{
		"published":   "%d are published already: leave --unpublished or --parked out to replay those",
		"unpublished": "%d are not published yet: the relay brings them, or --unpublished replays them",
		"parked":      "%d are parked: --parked replays them, restock parked send sends them",
		"held":        "%d are held with their group: restock parked send sends them",
		"sending":     "%d are being sent from parked",
		"skipped":     "%d were skipped: nobody is to see them",
	}
	var all []string
	for status, n := range by {
		if text := says[status]; text != "" {
			all = append(all, fmt.Sprintf(text, n))
		}
	}
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return "; " + strings.Join(all, "; ")
}

// missing names ids that were given and cannot be replayed.
func (p *planning) missing(ctx context.Context) error {
	rows, err := p.tx.Query(ctx, `SELECT i.id, coalesce(c.status, CASE WHEN EXISTS (SELECT FROM outbox o WHERE o.id = i.id)
			THEN 'it does not meet the rest of the selection' ELSE 'the outbox does not hold it' END)
		FROM (SELECT DISTINCT id FROM replay_ids i WHERE NOT EXISTS (SELECT FROM replay_chosen c WHERE c.event_id = i.id AND c.place IS NOT NULL) LIMIT 5) i
		LEFT JOIN replay_chosen c ON c.event_id = i.id`)
	if err != nil {
		return err
	}
	var id uuid.UUID
	var why string
	var all []string
	if _, err := pgx.ForEachRow(rows, []any{&id, &why}, func() error { all = append(all, id.String()+" ("+why+")"); return nil }); err != nil {
		return err
	}
	return fmt.Errorf("%w: %d: %s: leave them out, yourself or with --skip-missing%s",
		ErrMissing, p.plan.Missing, strings.Join(all, ", "), leftOut(p.plan.LeftOut))
}

// write writes the replay and its items.
func (p *planning) write(ctx context.Context, id uuid.UUID) error {
	var consumer *string
	if p.options.Consumer != "" {
		consumer = &p.options.Consumer
	}
	_, err := p.tx.Exec(ctx, `INSERT INTO replays (id, selection, consumer, force, rate, events, asked_by) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		id, p.selection, consumer, p.options.Force, p.options.Rate, p.plan.Events, p.cfg.By)
	if err != nil {
		return fmt.Errorf("write the replay: %w", err)
	}
	_, err = p.tx.Exec(ctx, `INSERT INTO replay_items (replay_id, place, day, event_id)
		SELECT $1, place, day, event_id FROM replay_chosen WHERE place IS NOT NULL ORDER BY place`, id)
	if err != nil {
		return fmt.Errorf("write the replay's events: %w", err)
	}
	return nil
}
