package console

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/restock-dev/restock/internal/ops"
)

// replayRequest is a selection, and how it is replayed.
type replayRequest struct {
	Database string `json:"database"`
	ops.ReplaySelection

	Consumer string `json:"consumer"`
	Force    bool   `json:"force"`
	Rate     *int   `json:"rate"`   // default ops.DefaultRate
	Sample   *int   `json:"sample"` // default ops.DefaultSample
}

// mostSample bounds how many events a plan shows one by one.
const mostSample = 1000

func (q replayRequest) options() (ops.ReplayOptions, error) {
	o := ops.ReplayOptions{Consumer: q.Consumer, Force: q.Force, Rate: ops.DefaultRate, Sample: ops.DefaultSample}
	if q.Rate != nil {
		o.Rate = *q.Rate
	}
	if q.Sample != nil {
		o.Sample = *q.Sample
	}
	switch {
	case o.Sample < 0 || o.Sample > mostSample:
		return o, refused(http.StatusUnprocessableEntity, "sample must be from 0 to %d", mostSample)
	case q.IDsFile != "":
		return o, refused(http.StatusUnprocessableEntity, "idsFile is for the command: send ids as events, or run restock replay --ids-file FILE")
	}
	return o, nil
}

func (c *Console) planReplay(_ http.ResponseWriter, r *http.Request) (any, error) {
	return c.prepare(r, (*ops.Replays).Plan)
}

func (c *Console) startReplay(_ http.ResponseWriter, r *http.Request) (any, error) {
	return c.prepare(r, (*ops.Replays).Start)
}

func (c *Console) prepare(r *http.Request, do func(*ops.Replays, context.Context, ops.ReplaySelection, ops.ReplayOptions) (ops.ReplayPlan, error)) (any, error) {
	var q replayRequest
	if err := read(r, &q); err != nil {
		return nil, err
	}
	o, err := q.options()
	if err != nil {
		return nil, err
	}
	replays, err := c.makeReplays(r, q.Database)
	if err != nil {
		return nil, err
	}
	return do(replays, r.Context(), q.ReplaySelection, o)
}

func (c *Console) makeReplays(r *http.Request, named string) (*ops.Replays, error) {
	return c.cfg.Pipeline.Reached(r.Context()).Replays(database(named), by(r), c.cfg.Logger)
}

func (c *Console) replays(_ http.ResponseWriter, r *http.Request) (any, error) {
	part, err := cursor(r)
	if err != nil {
		return nil, err
	}
	replays, err := c.makeReplays(r, r.URL.Query().Get("database"))
	if err != nil {
		return nil, err
	}
	return replays.List(r.Context(), part)
}

// shownFailures is how many events are shown that a replay could not publish.
const shownFailures = 20

func (c *Console) replay(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	replays, err := c.makeReplays(r, r.URL.Query().Get("database"))
	if err != nil {
		return nil, err
	}
	state, err := replays.State(r.Context(), id)
	if err != nil {
		return nil, err
	}
	failures, err := replays.Failures(r.Context(), id, shownFailures)
	return struct {
		Replay   ops.ReplayState     `json:"replay"`
		Failures []ops.ReplayFailure `json:"failures"`
	}{state, list(failures)}, err
}

func (c *Console) resumeReplay(_ http.ResponseWriter, r *http.Request) (any, error) {
	return c.changeReplay(r, (*ops.Replays).Resume)
}

func (c *Console) cancelReplay(_ http.ResponseWriter, r *http.Request) (any, error) {
	return c.changeReplay(r, (*ops.Replays).Cancel)
}

func (c *Console) changeReplay(r *http.Request, do func(*ops.Replays, context.Context, uuid.UUID) (ops.ReplayState, error)) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	var a struct {
		Database string `json:"database"`
	}
	if err := read(r, &a); err != nil {
		return nil, err
	}
	replays, err := c.makeReplays(r, a.Database)
	if err != nil {
		return nil, err
	}
	return do(replays, r.Context(), id)
}
