package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/schollz/progressbar/v3"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/service"
)

const (
	// watchEvery is how often a replay is looked at, and sayEvery how often that is told
	// where there is no terminal.
	watchEvery = 500 * time.Millisecond
	sayEvery   = 10 * time.Second
	// takenUpWithin is how soon a relay that works takes a replay up.
	takenUpWithin = 5 * time.Second
)

// watch follows a replay until it is over, which is an error where not all of it was
// published.
func (f replayFlags) watch(inv *invocation, r *ops.Replays, id uuid.UUID, result replayed) error {
	s, err := f.follow(inv, r, id)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("stopped watching replay %[1]s with %[2]d of %[3]d events done: the relay goes on; restock replay resume %[1]s watches again, restock replay cancel %[1]s ends it",
				id, s.Done, s.Events)
		}
		return fmt.Errorf("watch replay %s, which goes on: %w", id, err)
	}
	result.Replay = &s
	if s.Failed > 0 {
		if result.Failures, err = r.Failures(inv, id, 20); err != nil {
			return err
		}
	}
	if err := f.print(inv, result); err != nil {
		return err
	}
	if !f.JSON && s.State == "done" {
		say(inv.stdout, "done: %d events are replayed, %d could not be published\n", s.Events-s.Failed, s.Failed)
	}
	return errUnreplayed(s)
}

func (f replayFlags) follow(inv *invocation, r *ops.Replays, id uuid.UUID) (s ops.ReplayState, err error) {
	var bar *progressbar.ProgressBar
	began, said, warned := time.Now(), time.Now(), false
	for {
		now, err := r.State(inv, id)
		if err != nil {
			return s, err
		}
		s = now
		switch {
		case isTerminal(inv.stderr):
			if bar == nil {
				bar = newBar(inv.stderr, s.Events, progressbar.OptionShowIts())
			}
			_ = bar.Set64(s.Done) // a terminal that is gone stops nothing
		case time.Since(said) >= sayEvery:
			said = time.Now()
			say(inv.stderr, "replay %s is %s: %d of %d events are done\n", id, s.State, s.Done, s.Events)
		}
		if s.Over() {
			return s, nil
		}
		if !warned && s.State == "waiting" && s.Ahead == 0 && time.Since(began) >= takenUpWithin {
			warned = true
			say(inv.stderr, "no relay has taken replay %s up yet: is restock relay running on this database?\n", id)
		}
		if err := service.Sleep(inv, watchEvery); err != nil {
			return s, err
		}
	}
}
