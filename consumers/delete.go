package consumers

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/service"
)

const (
	// deleteTries bounds how often a delete is tried. A message that stays is seen
	// again, and its inbox row acknowledges it.
	deleteTries = 5
	// deleteLinger is how long a message waits at most for others to be deleted with
	// it. Meanwhile its group's next messages are held in the queue.
	deleteLinger = 50 * time.Millisecond
)

// deleter deletes messages promptly: ten together as soon as there are ten, and
// fewer once no group is at work that could add to them, so that a message alone
// never waits. Promptness matters, because an expired receipt deletes nothing on a
// FIFO queue.
type deleter struct {
	queue   *queue
	renewer *renewer
	intake  *intake
	metrics *metrics
	log     zerolog.Logger
	backoff service.Backoff
	linger  time.Duration

	calls  sync.WaitGroup
	mu     sync.Mutex
	handed []*held // to be deleted by the next call
	timer  *time.Timer
}

func newDeleter(q *queue, r *renewer, i *intake, m *metrics, log zerolog.Logger) *deleter {
	return &deleter{
		queue: q, renewer: r, intake: i, metrics: m, log: log,
		backoff: service.Backoff{Initial: 50 * time.Millisecond, Max: time.Second},
		linger:  deleteLinger,
	}
}

// add hands a message over. Once ctx ends each is tried once.
func (d *deleter) add(ctx context.Context, h *held) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handed = append(d.handed, h)
	switch len(d.handed) {
	case maxBatch:
		d.send(ctx)
	case 1:
		d.timer = time.AfterFunc(d.linger, func() { d.flush(ctx) })
	}
}

// flush begins to delete what was handed over.
func (d *deleter) flush(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.handed) > 0 {
		d.send(ctx)
	}
}

// finish deletes what is left and waits for all calls. Nothing is added any more.
func (d *deleter) finish(ctx context.Context) {
	d.flush(ctx)
	d.calls.Wait()
}

func (d *deleter) send(ctx context.Context) {
	d.timer.Stop()
	batch := d.handed
	d.handed = nil
	d.calls.Go(func() { d.delete(ctx, batch) })
}

// delete tries until all are gone, or as good as gone.
func (d *deleter) delete(ctx context.Context, batch []*held) {
	defer d.intake.gone(len(batch))
	defer d.renewer.forget(batch)
	left := batch
	for try := 1; ; try++ {
		errs := d.queue.delete(context.WithoutCancel(ctx), left)
		d.count("ok", len(left)-len(errs))
		left = left[:0:0]
		for h, err := range errs {
			if stale(err) || try == deleteTries || ctx.Err() != nil {
				d.count("lost", 1)
				h.identify(d.log.Warn()).Err(err).Msg("message not deleted: it will be seen again as a duplicate")
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
