package consumers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/internal/tracing"
	"github.com/restock-dev/restock/schema"
)

// Defaults of Config.
const (
	DefaultConcurrency     = 16
	DefaultMaxAttempts     = 20
	DefaultMaxAge          = 24 * time.Hour
	DefaultLease           = time.Minute
	DefaultVisibility      = time.Minute
	DefaultWait            = 20 * time.Second
	DefaultGrace           = 20 * time.Second
	DefaultBackoffInitial  = time.Second
	DefaultCircuitFailures = 5
	DefaultCircuitOpen     = 10 * time.Second
)

// Config is what a Worker needs. Without a default a field is required.
type Config struct {
	// Interest names the consumer and says which events it wants.
	Interest schema.Interest
	// QueueURL is the consumer's queue, DLQURL where its dead events go.
	QueueURL, DLQURL string
	SQS              *SQS
	// Pool is the database with the consumer's inbox: the store as
	// schema.RoleConsumers, or the customers database as schema.RoleCustomers. An
	// attempt holds a connection only while it claims and while it records, so it
	// may be much smaller than Concurrency.
	Pool    *pgxpool.Pool
	Handler Handler

	// Concurrency is how many message groups are worked on at once. More
	// let a slow other side hold up less; each may make a call at the same time.
	Concurrency int
	// MaxAttempts and MaxAge bound how long an event is tried: what comes first
	// makes it dead, at the failure that passes the bound. The age counts from the
	// first attempt that counts.
	MaxAttempts int
	MaxAge      time.Duration
	// Backoff is the wait after a failed attempt. The default is 1 s, doubling up to
	// the 12 hours that SQS allows, with full jitter.
	Backoff service.Backoff
	// Lease is how long an attempt keeps its event to itself. The handler gets three
	// quarters of it. After a crash nobody touches the event before it ends.
	Lease time.Duration
	// Visibility is how long a message stays hidden without renewal. After a crash
	// its group waits for it. Whole seconds.
	Visibility time.Duration
	// Wait is how long a poll waits for messages, at most the 20 s that SQS allows.
	// Negative is not at all.
	Wait time.Duration
	// Grace is how long attempts in hand may go on once Run is told to stop.
	Grace time.Duration
	// CircuitFailures in a row stop the calls to the other side, and CircuitOpen
	// later one is tried.
	CircuitFailures int
	CircuitOpen     time.Duration

	Logger  zerolog.Logger
	Metrics prometheus.Registerer // nil shows none
	// Tracing makes a span of each delivery, in the trace of its event, and of each call
	// to the outside. nil makes none.
	Tracing trace.TracerProvider
}

func (c *Config) setDefaults() {
	setDefault(&c.Concurrency, DefaultConcurrency)
	setDefault(&c.MaxAttempts, DefaultMaxAttempts)
	setDefault(&c.MaxAge, DefaultMaxAge)
	setDefault(&c.Backoff.Initial, DefaultBackoffInitial)
	setDefault(&c.Backoff.Max, maxVisibility)
	setDefault(&c.Lease, DefaultLease)
	setDefault(&c.Visibility, DefaultVisibility)
	setDefault(&c.Wait, DefaultWait)
	setDefault(&c.Grace, DefaultGrace)
	setDefault(&c.CircuitFailures, DefaultCircuitFailures)
	setDefault(&c.CircuitOpen, DefaultCircuitOpen)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) validate() error {
	switch {
	case c.Interest.Consumer == "" || len(c.Interest.Types) == 0:
		return errors.New("no interest")
	case c.QueueURL == "" || c.DLQURL == "":
		return errors.New("queue and dead-letter queue are both needed")
	case c.SQS == nil || c.Pool == nil || c.Handler == nil:
		return errors.New("SQS client, database pool and handler are all needed")
	case c.Visibility < time.Second || c.Visibility%time.Second != 0 || c.Visibility > maxVisibility:
		return fmt.Errorf("visibility %s: whole seconds from 1 s to 12 h are allowed", c.Visibility)
	case c.Wait > DefaultWait:
		return fmt.Errorf("wait %s: at most %s is allowed", c.Wait, DefaultWait)
	case c.Concurrency < 1, c.MaxAttempts < 1, c.MaxAge < 0, c.Lease < 0, c.CircuitFailures < 1, c.CircuitOpen < 0:
		return errors.New("a limit is negative")
	}
	return nil
}

// Worker takes the events of one consumer from its queue to its handler. See the
// package for what it promises.
type Worker struct {
	cfg       Config
	queue     *queue
	processor *processor
	renewer   *renewer
	deleter   *deleter
	intake    *intake
	metrics   *metrics
	log       zerolog.Logger

	slots    chan struct{} // one for each group at work
	receives sync.WaitGroup
	groups   sync.WaitGroup

	// receiveFailures counts the receives that failed in a row.
	receiveFailures atomic.Int64
	// inboxFailures counts the visits to the inbox that failed in a row.
	inboxFailures atomic.Int64
	// receiveError is the last receive's, nil where it went well.
	receiveError atomic.Pointer[error]
	// renewTick is the test's, in place of a ticker.
	renewTick <-chan time.Time
}

// New makes a worker. It calls nothing yet.
func New(cfg Config) (*Worker, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("consumer %q: %w", cfg.Interest.Consumer, err)
	}
	p := &progress{now: time.Now}
	m, err := newMetrics(cfg.Interest, cfg.Metrics, p)
	if err != nil {
		return nil, err
	}
	log := cfg.Logger.With().Str("consumer", cfg.Interest.Consumer).Logger()
	q := &queue{client: cfg.SQS, url: cfg.QueueURL, dlqURL: cfg.DLQURL, wait: max(cfg.Wait, 0), visibility: cfg.Visibility}
	w := &Worker{
		cfg: cfg, queue: q, metrics: m, log: log,
		renewer: newRenewer(q, m, p, log),
		intake:  newIntake(cfg.Concurrency),
		slots:   make(chan struct{}, cfg.Concurrency),
	}
	w.deleter = newDeleter(q, w.renewer, w.intake, m, log)
	w.processor = &processor{
		queue:    q.name(),
		interest: cfg.Interest,
		handler:  cfg.Handler,
		inbox:    newInbox(cfg.Pool, cfg.Interest.Consumer),
		circuit:  newCircuit(cfg.Interest.Consumer, cfg.CircuitFailures, cfg.CircuitOpen, w.circuitChanged),
		lease:    cfg.Lease,
		attempts: cfg.MaxAttempts,
		maxAge:   cfg.MaxAge,
		backoff:  cfg.Backoff,
		metrics:  m,
		seen:     newSequences(sequenceGroups),
		tracer:   tracing.Tracer(cfg.Tracing),
		log:      log,
	}
	m.inboxUp.Set(1)
	return w, nil
}

func (w *Worker) circuitChanged(to gobreaker.State) {
	w.metrics.circuit.Set(float64(to))
	w.log.Warn().Stringer("circuit", to).Msg("the circuit to the other side changed")
}

// Run works until ctx ends and then stops in two steps: it takes no more and
// lets the attempts in hand finish within the grace period. It returns an error
// only where it cannot start.
func (w *Worker) Run(ctx context.Context) error {
	if err := schema.EnsurePartitions(ctx, w.cfg.Pool); err != nil {
		if ctx.Err() != nil {
			return nil // it was told to stop before it began
		}
		return fmt.Errorf("consumer %s: %w", w.cfg.Interest.Consumer, err)
	}
	if err := w.processor.inbox.usable(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("consumer %s: inbox database: %w", w.cfg.Interest.Consumer, err)
	}
	// Attempts and what keeps their messages outlive ctx by the grace period.
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() {
		_ = service.Sleep(work, w.cfg.Grace) // ends early where all is done
		cut()
	})()

	var helpers sync.WaitGroup
	helpers.Go(func() { w.renewals(work) })
	helpers.Go(func() { w.partitions(work) })

	w.poll(ctx, work)
	w.receives.Wait()
	w.groups.Wait()
	w.deleter.finish(work)
	cut()
	helpers.Wait()
	return nil
}

func (w *Worker) renewals(ctx context.Context) {
	tick := w.renewTick
	if tick == nil {
		ticker := time.NewTicker(w.cfg.Visibility / 2)
		defer ticker.Stop()
		tick = ticker.C
	}
	w.renewer.run(ctx, tick)
}

func (w *Worker) partitions(ctx context.Context) {
	again := schema.PartitionInterval
	for service.Sleep(ctx, again) == nil {
		again = schema.PartitionInterval
		if err := schema.EnsurePartitions(ctx, w.cfg.Pool); err != nil && ctx.Err() == nil {
			w.log.Error().Err(err).Msg("partitions not ensured: they are made ahead, so there are days to mend it")
			again = time.Minute
		}
	}
}

// step takes one message as far as it goes.
func (w *Worker) step(ctx, work context.Context, h *held) (delay time.Duration, goOn bool) {
	if ctx.Err() != nil {
		return 0, false
	}
	delay, goOn = w.settle(work, h)
	if goOn {
		w.deleter.add(work, h)
	}
	return delay, goOn
}

// settle handles one message, and dead-letters it where that is its end. It tells
// whether the message is through, and if not how long it is to wait.
func (w *Worker) settle(ctx context.Context, h *held) (delay time.Duration, through bool) {
	r := w.processor.process(ctx, h.message)
	w.renewer.progress.finished()
	w.noteInbox(r)
	if !r.verdict.acknowledged() {
		return r.delay, false
	}
	if r.verdict == dead {
		if err := w.queue.deadLetter(context.WithoutCancel(ctx), h, r.key); err != nil {
			// Its inbox row says dead, so the next delivery sends it again.
			w.metrics.deadLetters.WithLabelValues("error").Inc()
			w.log.Error().Err(err).Stringer("event_id", r.key.eventID).Str("trace_id", r.traceID).Msg("dead event not sent to the dead-letter queue")
			return outageDelay(h.message), false
		}
		w.metrics.deadLetters.WithLabelValues("ok").Inc()
	}
	return 0, true
}

func (w *Worker) noteInbox(r result) {
	switch {
	case r.inboxDown:
		w.inboxFailures.Add(1)
		w.metrics.inboxUp.Set(0)
	case r.inboxUp:
		w.inboxFailures.Store(0)
		w.metrics.inboxUp.Set(1)
	}
}

// putBack returns messages to the queue: the first, which stopped its group, after
// delay, its successors at once, since they stay blocked behind it.
func (w *Worker) putBack(ctx context.Context, messages []*held, delay time.Duration) {
	if len(messages) == 0 {
		return
	}
	w.renewer.release(messages)
	errs := w.queue.hide(context.WithoutCancel(ctx), messages, func(h *held) time.Duration {
		if h == messages[0] {
			return delay
		}
		return 0
	})
	for h, err := range errs {
		h.identify(w.log.Warn()).Err(err).Msg("message not put back: it is seen again after its visibility timeout")
	}
}

// Ready tells why the worker cannot serve, for /readyz.
func (w *Worker) Ready(ctx context.Context) error {
	if err := w.processor.inbox.usable(ctx); err != nil {
		return fmt.Errorf("inbox database: %w", schema.WithMend(err))
	}
	if last := w.receiveError.Load(); last != nil && *last != nil {
		return *last
	}
	if w.processor.circuit.state() == gobreaker.StateOpen {
		return fmt.Errorf("%s: %w", w.cfg.Interest.Consumer, w.processor.circuit.notCalled())
	}
	return nil
}
