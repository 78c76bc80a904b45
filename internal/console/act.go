package console

import (
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// reason is why somebody changes something. It must be said, and is kept or logged with
// who it was.
type reason struct {
	Reason string `json:"reason"`
}

// maxReason bounds it, in bytes.
const maxReason = 1000

func (s reason) check() error {
	switch {
	case strings.TrimSpace(s.Reason) == "":
		return unprocessable(ops.ErrReason)
	case len(s.Reason) > maxReason:
		return refused(http.StatusUnprocessableEntity, "the reason has %d bytes: at most %d are kept", len(s.Reason), maxReason)
	}
	return nil
}

// auditor is a log that says who, and why.
func (c *Console) auditor(r *http.Request, why string) zerolog.Logger {
	log := c.cfg.Logger.With().Str("by", by(r))
	if why != "" {
		log = log.Str("reason", why)
	}
	return log.Logger()
}

// database is the one that a request means, the store where it names none.
func database(named string) string {
	if named == "" {
		return ops.StoreDatabase
	}
	return named
}

func (c *Console) makeParked(r *http.Request, named string, log zerolog.Logger) (*ops.Parked, error) {
	db, err := c.cfg.Pipeline.Reached(r.Context()).Database(database(named))
	if err != nil {
		return nil, err
	}
	return ops.NewParked(db, by(r), log), nil
}

// parked lists groups, or the events of one.
func (c *Console) parked(_ http.ResponseWriter, r *http.Request) (any, error) {
	asked := r.URL.Query()
	p, err := c.makeParked(r, asked.Get("database"), c.cfg.Logger)
	if err != nil {
		return nil, err
	}
	part, err := cursor(r)
	if err != nil {
		return nil, err
	}
	if group := asked.Get("group"); group != "" {
		return p.Events(r.Context(), group, part)
	}
	return p.List(r.Context(), part)
}

func (c *Console) parkedEvent(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	p, err := c.makeParked(r, r.URL.Query().Get("database"), c.cfg.Logger)
	if err != nil {
		return nil, err
	}
	return p.Show(r.Context(), id)
}

// parkedAct is a body that says what of what is parked is meant.
type parkedAct struct {
	reason
	Database string      `json:"database"`
	All      bool        `json:"all"`
	Groups   []string    `json:"groups"`
	Events   []uuid.UUID `json:"events"`
	Seen     int         `json:"seen"`
	DryRun   bool        `json:"dryRun"`
}

func (c *Console) openParked(r *http.Request) (*ops.Parked, parkedAct, error) {
	var a parkedAct
	if err := read(r, &a); err != nil {
		return nil, a, err
	}
	if err := a.selection().Validate(); err != nil {
		return nil, a, unprocessable(err)
	}
	if !a.DryRun {
		if err := a.check(); err != nil {
			return nil, a, err
		}
	}
	p, err := c.makeParked(r, a.Database, c.auditor(r, a.Reason))
	return p, a, err
}

func (a parkedAct) selection() ops.ParkedSelection {
	return ops.ParkedSelection{All: a.All, Groups: a.Groups, Events: a.Events, Seen: a.Seen}
}

func (c *Console) sendParked(_ http.ResponseWriter, r *http.Request) (any, error) {
	p, a, err := c.openParked(r)
	if err != nil {
		return nil, err
	}
	return p.Send(r.Context(), a.selection(), a.DryRun)
}

func (c *Console) skipParked(_ http.ResponseWriter, r *http.Request) (any, error) {
	p, a, err := c.openParked(r)
	switch {
	case err != nil:
		return nil, err
	case a.DryRun:
		return nil, refused(http.StatusUnprocessableEntity, "dryRun is for send: a skip has none")
	case a.All:
		return nil, refused(http.StatusUnprocessableEntity, "all is for send: name groups or events to skip")
	}
	skipped, err := p.Skip(r.Context(), a.selection(), a.Reason)
	return struct {
		Skipped []uuid.UUID `json:"skipped"`
	}{skipped}, err
}

func (c *Console) makeDLQ(r *http.Request, consumers []string, log zerolog.Logger) (*ops.DLQ, error) {
	cfg := c.cfg.DLQ
	cfg.Logger = log
	return c.cfg.Pipeline.Reached(r.Context()).DLQ(r.Context(), consumers, cfg)
}

func (c *Console) deadEvents(_ http.ResponseWriter, r *http.Request) (any, error) {
	part, err := cursor(r)
	if err != nil {
		return nil, err
	}
	d, err := c.makeDLQ(r, r.URL.Query()["consumer"], c.cfg.Logger)
	if err != nil {
		return nil, err
	}
	return d.List(r.Context(), part)
}

func (c *Console) deadEvent(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	d, err := c.makeDLQ(r, nil, c.cfg.Logger)
	if err != nil {
		return nil, err
	}
	return d.Show(r.Context(), id)
}

func (c *Console) redrive(_ http.ResponseWriter, r *http.Request) (any, error) {
	var a struct {
		reason
		All       bool        `json:"all"`
		Consumers []string    `json:"consumers"`
		Events    []uuid.UUID `json:"events"`
		DryRun    bool        `json:"dryRun"`
	}
	if err := read(r, &a); err != nil {
		return nil, err
	}
	s := ops.Selection{All: a.All, Consumers: a.Consumers, Events: a.Events}
	if err := s.Validate(); err != nil {
		return nil, unprocessable(err)
	}
	if !a.DryRun {
		if err := a.check(); err != nil {
			return nil, err
		}
	}
	d, err := c.makeDLQ(r, a.Consumers, c.auditor(r, a.Reason))
	if err != nil {
		return nil, err
	}
	return d.Redrive(r.Context(), s, ops.RedriveOptions{DryRun: a.DryRun})
}

func (c *Console) makeReplenishments(r *http.Request, queueURL string) (*ops.Replenishments, error) {
	store, err := c.cfg.Pipeline.Reached(r.Context()).Database(ops.StoreDatabase)
	if err != nil {
		return nil, err
	}
	return ops.NewReplenishments(store, c.cfg.Pipeline.SQS, queueURL, by(r), c.cfg.Logger), nil
}

// replenishmentAct reads which one is meant, and why.
func replenishmentAct(r *http.Request) (uuid.UUID, string, error) {
	id, err := pathID(r)
	if err != nil {
		return id, "", err
	}
	var a reason
	if err := read(r, &a); err != nil {
		return id, "", err
	}
	return id, a.Reason, a.check()
}

// acted is the answer where there is nothing else to say.
type acted struct {
	ID uuid.UUID `json:"id"`
}

func (c *Console) retryReplenishment(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, why, err := replenishmentAct(r)
	if err != nil {
		return nil, err
	}
	q, err := c.cfg.Pipeline.Find(r.Context(), schema.ConsumerFactory)
	if err != nil {
		return nil, err
	}
	store, err := c.makeReplenishments(r, q.URL)
	if err != nil {
		return nil, err
	}
	return acted{id}, store.Retry(r.Context(), id, why)
}

func (c *Console) cancelReplenishment(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, why, err := replenishmentAct(r)
	if err != nil {
		return nil, err
	}
	store, err := c.makeReplenishments(r, "")
	if err != nil {
		return nil, err
	}
	return acted{id}, store.Cancel(r.Context(), id, why)
}
