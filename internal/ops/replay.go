package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/schema"
)

// ReplaysConfig says whose events are replayed, and who takes them.
type ReplaysConfig struct {
	// DB is the database with the outbox, as schema.RoleMaintenance. A call uses two
	// connections at once.
	DB *pgxpool.Pool
	// Consumers are those that take events of this outbox.
	Consumers []ReplayConsumer
	// By is who asks, and is kept with the replay.
	By     string
	Logger zerolog.Logger

	unreachable []Unreachable
}

// ReplayConsumer is a consumer of the outbox, and the database with its inbox, nil
// where that is not at hand.
type ReplayConsumer struct {
	Interest schema.Interest
	Inbox    *pgxpool.Pool
}

// Replays are those of one database. It is safe for concurrent use.
type Replays struct{ cfg ReplaysConfig }

// NewReplays makes a Replays. It asks the database nothing yet.
func NewReplays(cfg ReplaysConfig) *Replays { return &Replays{cfg} }

func (r *Replays) consumer(name string) (ReplayConsumer, error) {
	var names []string
	for _, c := range r.cfg.Consumers {
		if c.Interest.Consumer == name {
			return c, nil
		}
		names = append(names, c.Interest.Consumer)
	}
	if in, ok := schema.InterestOf(name, schema.DefaultVIPThreshold); ok {
		other := StoreDatabase
		if in.Consumer == schema.ConsumerMarketing {
			other = CustomersDatabase
		}
		return ReplayConsumer{}, fmt.Errorf("%w: the events of %s are in the other outbox: --outbox %s", ErrSelection, name, other)
	}
	return ReplayConsumer{}, fmt.Errorf("%w: no consumer %q takes events of this database: there are %v", ErrSelection, name, names)
}

// ReplayState is a replay as the database has it.
type ReplayState struct {
	ID          uuid.UUID       `json:"id"`
	State       string          `json:"state"` // waiting, running, done or cancelled
	Events      int64           `json:"events"`
	Done        int64           `json:"done"`   // dealt with, in order, those that failed included
	Failed      int64           `json:"failed"` // could not be published
	Consumer    string          `json:"consumer,omitempty"`
	Force       bool            `json:"force"`
	Rate        int             `json:"rate"`
	Selection   json.RawMessage `json:"selection"`
	AskedBy     string          `json:"askedBy"`
	AskedAt     time.Time       `json:"askedAt"`
	StartedAt   *time.Time      `json:"startedAt,omitempty"`
	CancelledBy string          `json:"cancelledBy,omitempty"` // the last time
	ResumedBy   string          `json:"resumedBy,omitempty"`
	EndedAt     *time.Time      `json:"endedAt,omitempty"`
	// Ahead is how many replays come before this one.
	Ahead int `json:"ahead"`
}

// Over tells that the relay does nothing more of it.
func (s ReplayState) Over() bool { return s.State == "done" || s.State == "cancelled" }

const replayColumns = `r.id, r.state, r.events, r.done,
	(SELECT count(*) FROM replay_items i WHERE i.replay_id = r.id AND i.error IS NOT NULL AND i.place <= r.done),
	coalesce(r.consumer, ''), r.force, r.rate, r.selection, r.asked_by, r.asked_at, r.started_at, coalesce(r.cancelled_by, ''), coalesce(r.resumed_by, ''), r.ended_at,
	CASE WHEN r.state = 'waiting' THEN (SELECT count(*) FROM replays o WHERE o.state = 'running' OR o.state = 'waiting' AND o.turn < r.turn) ELSE 0 END`

// List lists the replays, the newest first.
func (r *Replays) List(ctx context.Context, c Cursor) (Page[ReplayState], error) {
	turn := int64(math.MaxInt64)
	if err := c.read(&turn); err != nil {
		return Page[ReplayState]{}, err
	}
	rows, err := r.cfg.DB.Query(ctx, `SELECT `+replayColumns+`, r.turn FROM replays r WHERE r.turn < $1 ORDER BY r.turn DESC LIMIT $2`, turn, c.Most+1)
	if err != nil {
		return Page[ReplayState]{}, fmt.Errorf("list replays: %w", err)
	}
	type turned struct {
		ReplayState
		Turn int64
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[turned])
	if err != nil {
		return Page[ReplayState]{}, fmt.Errorf("list replays: %w", err)
	}
	part := pageOf(all, c.Most, func(s turned) []any { return []any{s.Turn} })
	states := make([]ReplayState, len(part.Items))
	for i, s := range part.Items {
		states[i] = s.ReplayState
	}
	return Page[ReplayState]{states, part.Next}, nil
}

// ErrNoReplay is that there is no replay of that id.
var ErrNoReplay = errors.New("no such replay: restock replay list shows all")

// State tells how far a replay is.
func (r *Replays) State(ctx context.Context, id uuid.UUID) (ReplayState, error) {
	rows, err := r.cfg.DB.Query(ctx, `SELECT `+replayColumns+` FROM replays r WHERE r.id = $1`, id)
	var s ReplayState
	if err == nil {
		s, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[ReplayState])
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s, fmt.Errorf("replay %s: %w", id, ErrNoReplay)
	case err != nil:
		return s, fmt.Errorf("look at replay %s: %w", id, err)
	}
	return s, nil
}

// ReplayFailure is an event that a replay could not publish.
type ReplayFailure struct {
	Place   int64     `json:"place"`
	EventID uuid.UUID `json:"eventId"`
	Error   string    `json:"error"`
}

// Failures lists the events of a replay that could not be published, the first ones.
func (r *Replays) Failures(ctx context.Context, id uuid.UUID, most int) ([]ReplayFailure, error) {
	rows, err := r.cfg.DB.Query(ctx, `SELECT place, event_id, error FROM replay_items WHERE replay_id = $1 AND error IS NOT NULL ORDER BY place LIMIT $2`, id, most)
	if err != nil {
		return nil, fmt.Errorf("list what replay %s could not publish: %w", id, err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ReplayFailure])
	if err != nil {
		return nil, fmt.Errorf("list what replay %s could not publish: %w", id, err)
	}
	return all, nil
}

// Cancel ends a replay that is not over. The relay learns of it within a second;
// what it is sending just then may still go.
func (r *Replays) Cancel(ctx context.Context, id uuid.UUID) (ReplayState, error) {
	tag, err := r.cfg.DB.Exec(ctx, `UPDATE replays SET state = 'cancelled', cancelled_by = $2, ended_at = now()
		WHERE id = $1 AND state IN ('waiting', 'running')`, id, r.cfg.By)
	if err != nil {
		return ReplayState{}, fmt.Errorf("cancel replay %s: %w", id, err)
	}
	s, err := r.State(ctx, id)
	if err == nil && tag.RowsAffected() == 0 {
		err = refuse("replay %s is %s already", id, s.State)
	}
	if err == nil {
		r.cfg.Logger.Warn().Stringer("replay_id", id).Str("by", r.cfg.By).Int64("done", s.Done).Int64("events", s.Events).Msg("replay cancelled")
	}
	return s, err
}

// Resume has a cancelled replay go on from where it was. One that is under way goes
// on by itself, and one that is done has nothing left.
func (r *Replays) Resume(ctx context.Context, id uuid.UUID) (ReplayState, error) {
	var tag pgconn.CommandTag
	err := pgx.BeginFunc(ctx, r.cfg.DB, func(tx pgx.Tx) error {
		// Before the items are looked for: restock maintain, which forgets in the end what a
		// replay has left, holds the row while it begins to.
		_, err := tx.Exec(ctx, `SELECT FROM replays WHERE id = $1 FOR UPDATE`, id)
		if err != nil {
			return err
		}
		// Without its next item the relay would look for that for ever, and all replays behind it
		// would wait.
		tag, err = tx.Exec(ctx, `UPDATE replays r SET state = 'waiting', resumed_by = $2, ended_at = NULL WHERE id = $1 AND state = 'cancelled'
			AND EXISTS (SELECT FROM replay_items i WHERE i.replay_id = r.id AND i.place = r.done + 1)`, id, r.cfg.By)
		return err
	})
	if err != nil {
		return ReplayState{}, fmt.Errorf("resume replay %s: %w", id, err)
	}
	s, err := r.State(ctx, id)
	switch {
	case err == nil && tag.RowsAffected() > 0:
		r.cfg.Logger.Info().Stringer("replay_id", id).Str("by", r.cfg.By).Msg("replay resumed")
	case err == nil && s.State == "cancelled":
		err = refuse("replay %s was cancelled so long ago that the events which it had left are forgotten: ask for a new one", id)
	}
	return s, err
}
