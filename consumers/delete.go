package consumers

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/service"
)

// deleteTries bounds how often a delete is tried. A message that stays is seen
// again, and its inbox row acknowledges it.
const deleteTries = 5

// deleter deletes messages promptly: one at once when it comes alone, and those
// that gather during a call together in the next. Promptness matters, because an
// expired receipt deletes nothing on a FIFO queue.
type deleter struct {
	queue   *queue
	renewer *renewer
	metrics *metrics
	log     zerolog.Logger
	backoff service.Backoff
	todo    chan *held
}

func newDeleter(q *queue, r *renewer, m *metrics, log zerolog.Logger) *deleter {
	return &deleter{
		queue: q, renewer: r, metrics: m, log: log,
		backoff: service.Backoff{Initial: 50 * time.Millisecond, Max: time.Second},
		todo:    make(chan *held, maxBatch),
	}
}

// run deletes what comes until todo is closed. Once ctx ends each is tried once.
func (d *deleter) run(ctx context.Context) {
	for h := range d.todo {
		batch := []*held{h}
	gather:
		for len(batch) < maxBatch {
			select {
			case h, ok := <-d.todo:
				if !ok {
					break gather
				}
				batch = append(batch, h)
			default:
				break gather
			}
		}
		d.delete(ctx, batch)
	}
}

// delete tries until all are gone, or as good as gone.
func (d *deleter) delete(ctx context.Context, batch []*held) {
	defer d.renewer.forget(batch)
	left := batch
	for try := 1; ; try++ {
		errs := d.queue.delete(context.WithoutCancel(ctx), left)
		d.count("ok", len(left)-len(errs))
		left = left[:0:0]
		for h, err := range errs {
			if stale(err) || try == deleteTries || ctx.Err() != nil {
				d.count("lost", 1)
				d.log.Warn().Err(err).Str("message_id", h.id).Msg("message not deleted: it will be seen again as a duplicate")
				continue
			}
			left = append(left, h)
		}
		if len(left) == 0 {
			return
		}
		d.count("error", len(left))
		_ = service.Sleep(ctx, d.backoff.Delay(try)) // when ctx ends the next try is the last
	}
}

func (d *deleter) count(result string, n int) {
	if n > 0 {
		d.metrics.deletes.WithLabelValues(result).Add(float64(n))
	}
}
