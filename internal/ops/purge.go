package ops

import (
	"context"
	"fmt"
)

// Purge deletes for good what is in the dead-letter queues of a consumer, and
// returns about how many messages each had. confirmed must be the consumer's name
// again: what is purged cannot be redriven, only replayed. The inbox keeps its
// rows as they are, dead with their reasons. SQS takes up to a minute.
func (d *DLQ) Purge(ctx context.Context, consumer, confirmed string) ([]QueueCount, error) {
	chosen, err := d.choose([]string{consumer})
	if err != nil {
		return nil, fmt.Errorf("purge: %w", err)
	}
	if confirmed != consumer {
		return nil, fmt.Errorf("purge %s: not confirmed: give the consumer's name again", consumer)
	}
	var purged []QueueCount
	for _, q := range chosen[0].dlqs {
		n := QueueCount{Queue: q.name()}
		if n.Waiting, n.Held, err = q.count(ctx); err != nil {
			return purged, fmt.Errorf("purge: %w", err)
		}
		if err := q.purge(ctx); err != nil {
			return purged, err
		}
		d.cfg.Logger.Warn().Str("consumer", consumer).Str("queue", n.Queue).Int("messages", n.Waiting+n.Held).Msg("dead-letter queue purged")
		purged = append(purged, n)
	}
	return purged, nil
}
