package ops

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/service"
)

// Loop runs again and again until ctx ends, logs what is missing, and tells what was
// found, or why that cannot be told.
func (r *Reconciler) Loop(ctx context.Context, every time.Duration, log zerolog.Logger, tell func(Reconciliation, error)) error {
	for {
		found, err := r.Run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		tell(found, err)
		if err == nil && len(found.Unreachable) > 0 {
			log.Error().Err(&UnreachableError{found.Unreachable}).Msg("cannot tell all of what is missing, trying again at the next turn")
		}
		if err != nil {
			log.Error().Err(err).Msg("cannot tell what is missing, trying again at the next turn")
		} else {
			for _, f := range found.Findings {
				log.Error().Int64("events", f.Count).Str("database", f.Database).Str("consumer", f.Consumer).Stringer("event_id", f.Events[0].EventID).
					Str("heal", f.Heal).Msg("events are missing: " + f.Kind)
			}
		}
		if service.Sleep(ctx, every) != nil {
			return nil
		}
	}
}
