package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/service"
)

type parkedCancelCommand struct {
	parkedFlags
	Group  []string `sep:"none" help:"This group, which is being sent; may be given again."`
	All    bool     `help:"All groups that are being sent."`
	NoWait bool     `help:"Do not wait until the relay has let go of it."`
}

// cancelled is what cancel prints as JSON.
type cancelled struct {
	Groups []string `json:"groups"`
	Parked int      `json:"parked"` // events that stay parked
}

// Run cancels.
func (c *parkedCancelCommand) Run(inv *invocation) error {
	s := ops.ParkedSelection{All: c.All, Groups: c.Group}
	if err := s.Validate(); err != nil {
		return &setupError{err}
	}
	p, done, err := c.open(inv)
	if err != nil {
		return err
	}
	defer done()
	groups, err := p.Cancel(inv, s)
	if err != nil {
		return err
	}
	result := cancelled{Groups: append([]string{}, groups...)}
	if len(groups) > 0 && !c.NoWait {
		if result.Parked, err = c.wait(inv, p, groups); err != nil {
			return err
		}
	}
	switch {
	case c.JSON:
		return printJSON(inv.stdout, result)
	case len(groups) == 0:
		say(inv.stdout, "nothing is being sent\n")
	case c.NoWait:
		say(inv.stdout, "%d groups are not to be sent any more: what the relay has in hand may still go\n", len(groups))
	default:
		say(inv.stdout, "cancelled: %d events stay parked\n", result.Parked)
	}
	return nil
}

// wait returns how many events stay parked, once the relay has let go of the groups.
func (c *parkedCancelCommand) wait(inv *invocation, p *ops.Parked, groups []string) (parked int, err error) {
	for began, warned := time.Now(), false; ; {
		left, parked, err := p.Cancelling(inv, groups)
		if err == nil && left == 0 {
			return parked, nil
		}
		if err == nil && !warned && time.Since(began) >= takenUpWithin {
			warned = true
			say(inv.stderr, "no relay has let go of it yet: is restock relay running on this database, and active?\n")
		}
		if err == nil {
			err = service.Sleep(inv, 100*time.Millisecond)
		}
		if errors.Is(err, context.Canceled) {
			return 0, fmt.Errorf("stopped waiting with %d groups that the relay has not let go of: it still does", left)
		}
		if err != nil {
			return 0, err
		}
	}
}
