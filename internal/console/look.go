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

// mostEvents bounds a list of recent events.
const mostEvents = 200

func (c *Console) events(_ http.ResponseWriter, r *http.Request) (any, error) {
	most := 50
	if asked := r.URL.Query().Get("most"); asked != "" {
		n, err := strconv.Atoi(asked)
		if err != nil || n < 1 || n > mostEvents {
			return nil, refused(http.StatusUnprocessableEntity, "most must be a number from 1 to %d", mostEvents)
		}
		most = n
	}
	return c.cfg.Pipeline.Tracer().Recent(r.Context(), most)
}

func (c *Console) trace(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return c.cfg.Pipeline.Tracer().Trace(r.Context(), id)
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
	store, err := c.makeReplenishments(r, "")
	if err != nil {
		return nil, err
	}
	all, err := store.List(r.Context(), openFor)
	return list(all), err
}

// list is a list that is there in JSON, too, where it is empty.
func list[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}
