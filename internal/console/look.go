package console

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/restock-dev/restock/internal/ops"
)

// cursor is the part of a list that is asked for.
func cursor(r *http.Request) (ops.Cursor, error) {
	asked := ops.Cursor{After: r.URL.Query().Get("after")}
	if most := r.URL.Query().Get("most"); most != "" {
		n, err := strconv.Atoi(most)
		if err != nil || n < 1 || n > ops.MaxPage {
			return asked, refused(http.StatusUnprocessableEntity, "most must be a number from 1 to %d", ops.MaxPage)
		}
		asked.Most = n
	}
	return asked, nil
}

func (c *Console) events(_ http.ResponseWriter, r *http.Request) (any, error) {
	part, err := cursor(r)
	if err != nil {
		return nil, err
	}
	return c.cfg.Pipeline.Reached(r.Context()).Tracer().Recent(r.Context(), part)
}

func (c *Console) trace(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return c.cfg.Pipeline.Reached(r.Context()).Tracer().Trace(r.Context(), id)
}

func pathID(r *http.Request) (uuid.UUID, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return id, refused(http.StatusUnprocessableEntity, "%.60q is not an id: want a UUID", r.PathValue("id"))
	}
	return id, nil
}

// comparison is what a Reconciler said last.
type comparison struct {
	Result *ops.Reconciliation `json:"result,omitempty"` // the last that could tell
	Error  string              `json:"error,omitempty"`  // why it could not since
}

// reconcile compares again and again. That it cannot tell is shown, and tried again.
func (c *Console) reconcile(ctx context.Context) error {
	if c.cfg.Reconciler == nil {
		<-ctx.Done()
		return nil
	}
	return c.cfg.Reconciler.Loop(ctx, c.cfg.ReconcileEvery, c.cfg.Logger, func(found ops.Reconciliation, err error) {
		c.cfg.Reconciled(found, err)
		now := &comparison{Result: &found}
		if err != nil {
			now = &comparison{Error: ops.Unable(err)}
			if before := c.reconciled.Load(); before != nil {
				now.Result = before.Result
			}
		}
		c.reconciled.Store(now)
	})
}

func (c *Console) reconciliation(http.ResponseWriter, *http.Request) (any, error) {
	switch found := c.reconciled.Load(); {
	case found != nil:
		return found, nil
	case c.cfg.Reconciler == nil:
		return nil, refused(http.StatusNotFound, "nothing is compared here: start restock admin with --reconcile-every, or run restock reconcile")
	}
	return nil, notYet("the first comparison goes on")
}

// notYet is that there is nothing to show so shortly after the start.
func notYet(why string) error {
	return refused(http.StatusServiceUnavailable, "%s", fmt.Sprintf("%s: ask again in some seconds", why))
}

func (c *Console) replenishments(_ http.ResponseWriter, r *http.Request) (any, error) {
	var openFor time.Duration
	if asked := r.URL.Query().Get("openFor"); asked != "" {
		var err error
		if openFor, err = time.ParseDuration(asked); err != nil {
			return nil, refused(http.StatusUnprocessableEntity, "openFor must be a duration such as 24h: %.40q is not", asked)
		}
	}
	part, err := cursor(r)
	if err != nil {
		return nil, err
	}
	store, err := c.makeReplenishments(r, "")
	if err != nil {
		return nil, err
	}
	return store.List(r.Context(), openFor, part)
}

// list is a list that is there in JSON, too, where it is empty.
func list[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}
