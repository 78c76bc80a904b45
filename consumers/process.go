package consumers

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// Delivery is one attempt at one event.
type Delivery struct {
	Event    schema.Envelope
	Payload  schema.Payload // Event's data
	Body     []byte         // Event's text as it was received, out of the envelope of SNS
	ReplayID uuid.UUID      // zero but for a replay
	Attempt  int            // from 1, counted over all deliveries
	// Doubtful tells that an earlier call may have been accepted, also where Attempt
	// is 1: a call that was cut off need not count, and a redrive and a replay count anew.
	Doubtful bool
}

// Handler handles the events of one consumer.
//
// Handle does the call to the outside and returns how to record it; it holds no
// transaction meanwhile and ends when ctx does. The Effect is recorded whatever
// the error, in the transaction that writes the attempt's outcome: done, to be
// tried again, or dead. So a refusal returns Permanent with an Effect that
// records the refusal. A handler may be called again for an event whose earlier
// attempt was never recorded.
type Handler interface {
	Handle(ctx context.Context, d Delivery) (Effect, error)
}

// Bounded is a Handler that says how long its call to the outside takes at most, zero
// where it makes none. Of another the lease alone says it.
type Bounded interface {
	Handler
	Longest() time.Duration
}

// Effect is what an attempt did. The zero value did nothing.
type Effect struct {
	// Reference is kept in the inbox: an id given by the other side, or why
	// nothing was done.
	Reference string
	// Call is the call made to the outside, if any, for the audit.
	Call *Call
	// Record writes the handler's own rows. It may run more than once, each time in
	// a transaction of its own of which one at most commits.
	Record func(ctx context.Context, tx pgx.Tx) error
	// Found gives the Reference where it depends on what Record found. It is asked
	// after each run of Record, in the same transaction. Nil leaves Reference.
	Found func() string
}

// Call is one call to the outside, failed or not: a row of effects.
type Call struct {
	Kind           string
	Outcome        CallOutcome
	Reference      string
	Detail         string
	Started, Ended time.Time
}

// CallOutcome is how a call ended.
type CallOutcome string

// The outcomes. An uncertain call may have been accepted.
const (
	CallOK        CallOutcome = "ok"
	CallFailed    CallOutcome = "failed"
	CallUncertain CallOutcome = "uncertain"
)

// result is what became of one delivery, and says what to do with its message.
type result struct {
	verdict verdict
	// delay is how long the message is to wait, where it is put back.
	delay time.Duration
	err   error
	// inboxUp and inboxDown tell whether the database answered, where it was asked.
	inboxUp, inboxDown bool
	key                key
	attempt            int
	traceID            string // of the event
}

// verdict names a result; it is also the metric's label.
type verdict string

const (
	handled   verdict = "handled"   // now, by this delivery
	duplicate verdict = "duplicate" // before, by another
	unwanted  verdict = "unwanted"  // not of this consumer's interest
	dead      verdict = "dead"      // to be dead-lettered, then acknowledged

	failed   verdict = "failed"   // an attempt failed, to be tried again
	busy     verdict = "busy"     // another attempt holds the event
	deferred verdict = "deferred" // not tried, or not counted: something is down, or the worker stops
)

// acknowledged tells whether the message is through.
func (v verdict) acknowledged() bool {
	switch v {
	case handled, duplicate, unwanted, dead:
		return true
	}
	return false
}

// processor handles one delivery: claim, call, record. It knows nothing of
// where messages come from.
type processor struct {
	queue    string // the name, part of the identity of a message without an event id
	interest schema.Interest
	handler  Handler
	inbox    *inbox
	circuit  *circuit
	lease    time.Duration
	attempts int           // an event has at most
	maxAge   time.Duration // of an event that keeps failing
	backoff  service.Backoff
	metrics  *metrics
	seen     *sequences
	tracer   trace.Tracer // nil makes no spans
	log      zerolog.Logger
}

// Bounds around one attempt.
const (
	// bookkeeping bounds one visit to the database, which goes on when the worker
	// is told to stop.
	bookkeeping = 5 * time.Second
	// recordTries is how often a record is tried: the call was made, and what
	// is not recorded will be repeated.
	recordTries = 4
	// outageInitial and outageMax bound the wait of a message that met an outage. A
	// message alone in its queue is received once per wait, and SQS moves it away
	// itself after schema.MaxReceiveCount receives: half an hour makes that longer
	// than it is kept at all.
	outageInitial = time.Second
	outageMax     = 30 * time.Minute
)

// process handles one delivery. When ctx ends, an attempt under way is cut, and
// counts only as stopped says.
func (p *processor) process(ctx context.Context, m message) result {
	started := time.Now()
	a := parse(p.queue, p.interest, m)
	r := result{key: key{day: a.day, eventID: a.eventID, replayID: a.replay.ID}}
	ctx, span := p.beginSpan(ctx, a)
	if a.unwanted {
		r.verdict = unwanted
	} else {
		r = p.attempt(ctx, m, a)
	}
	r.traceID = a.traceID()
	p.endSpan(span, m, a, r)
	p.metrics.messages.WithLabelValues(string(r.verdict)).Inc()
	p.report(m, a, r, time.Since(started))
	return r
}

func (p *processor) attempt(ctx context.Context, m message, a arrival) result {
	r := result{key: key{day: a.day, eventID: a.eventID, replayID: a.replay.ID}, verdict: deferred}
	if a.err == nil && p.circuit.state() == gobreaker.StateOpen {
		r.err = p.circuit.notCalled()
		return r
	}
	c, a, err := p.claim(ctx, m, a)
	r.key, r.attempt, r.inboxUp = c.key, c.attempt, err == nil
	switch {
	case err != nil:
		r.err, r.inboxDown, r.delay = err, true, outageDelay(m)
		return r
	case c.open:
		if err := p.concede(ctx, c.key); err != nil {
			r.err, r.inboxUp, r.inboxDown, r.delay = err, false, true, outageDelay(m)
			return r
		}
		return notGranted(r, c)
	case !c.granted:
		return notGranted(r, c)
	}
	if c.takenOver {
		p.metrics.uncertain.Inc()
	}
	effect, err := p.handle(ctx, a, c)
	o := p.judge(ctx, m, c, err, &r)
	err = p.record(ctx, c, a, o, effect)
	if unrecordable(err) {
		// The handler's own rows cannot be written. The attempt failed, whatever it
		// did outside; its call is still worth its audit.
		effect.Record = nil
		if effect.Call != nil {
			err = Uncertain(err)
		}
		o = p.judge(ctx, m, c, err, &r)
		err = p.record(ctx, c, a, o, effect)
	}
	switch {
	case errors.Is(err, errLeaseLost):
		r.verdict, r.err, r.delay = busy, err, time.Second
	case err != nil:
		// The row stays claimed until its lease ends: what was done is not known there.
		r.verdict, r.err, r.inboxUp, r.inboxDown, r.delay = deferred, err, false, true, outageDelay(m)
	default:
		p.settled(c, o, a, m)
	}
	return r
}

// claim claims the message's event. An event of a day that has no partition, and
// gets none, is dead: its row goes under the day of the message, at the worst
// under today, whose partitions there are.
func (p *processor) claim(ctx context.Context, m message, a arrival) (claim, arrival, error) {
	k := key{day: a.day, eventID: a.eventID, replayID: a.replay.ID}
	c, err := p.inbox.claim(k, a.replay.Force, p.lease)
	if !schema.IsMissingPartition(err) {
		return c, a, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bookkeeping)
	defer cancel()
	if err := schema.EnsurePartitions(ctx, p.inbox.pool); err != nil {
		return claim{key: k}, a, err
	}
	if err := schema.EnsureInboxDay(ctx, p.inbox.pool, a.day); err != nil {
		return claim{key: k}, a, err
	}
	days := []time.Time{a.day, dayOfArrival(m), utcDay(time.Now())}
	for i, day := range days {
		k.day = day
		if c, err = p.inbox.claim(k, a.replay.Force, p.lease); !schema.IsMissingPartition(err) {
			if i > 0 && a.err == nil {
				a.err = fmt.Errorf("its day %s is past retention, or its time was made by hand", a.day.Format(time.DateOnly))
			}
			return c, a, err
		}
	}
	return claim{key: k}, a, err
}

// notGranted says what to do with a delivery of an event that cannot be claimed.
func notGranted(r result, c claim) result {
	switch c.state {
	case stateDone:
		r.verdict = duplicate
	case stateDead:
		// The worker died between the record and the dead-letter queue, or the
		// message came again: it is sent again, which deduplication bears.
		r.verdict, r.err = dead, errors.New(c.reason)
	default:
		r.verdict, r.err = busy, errors.New("another attempt is under way")
		r.delay = max(c.leaseLeft, time.Second)
	}
	return r
}

// limit bounds a call of the handler, inside its lease: a quarter of it is left for
// the record.
func (p *processor) limit() time.Duration { return p.lease * 3 / 4 }

// longest is how long an attempt may take.
func (p *processor) longest() time.Duration {
	if h, ok := p.handler.(Bounded); ok {
		return min(h.Longest(), p.limit())
	}
	return p.limit()
}

// handle calls the handler. A panic is an error like another.
func (p *processor) handle(ctx context.Context, a arrival, c claim) (Effect, error) {
	if a.err != nil {
		return Effect{}, Permanent(a.err)
	}
	if c.attempt > p.attempts {
		return Effect{}, Permanent(fmt.Errorf("gave up after %d attempts, the last of which never ended: its worker died or was cut off", p.attempts))
	}
	limit, cancel := context.WithTimeout(ctx, p.limit())
	defer cancel()
	cut := func(err error) bool { return stopped(ctx, err) }
	return p.circuit.call(a.eventID, cut, func() (effect Effect, err error) {
		started := time.Now()
		defer func() {
			if v := recover(); v != nil {
				p.log.Error().Stringer("event_id", a.eventID).Str("trace_id", a.traceID()).Bytes("stack", debug.Stack()).Msgf("handler panicked: %v", v)
				effect, err = Effect{}, Uncertain(fmt.Errorf("handler panicked: %v", v))
			}
			p.metrics.handleSeconds.Observe(time.Since(started).Seconds())
		}()
		return p.handler.Handle(limit, Delivery{
			Event: a.event, Payload: a.payload, Body: a.body, ReplayID: a.replay.ID, Attempt: c.attempt, Doubtful: c.doubtful,
		})
	})
}

// stopped tells an attempt that ended because ctx did, which is not the event's
// doing. One whose call outlasted the time that there was for it, ctx's deadline, is
// not such: it would be given back, and called again, without end.
func stopped(ctx context.Context, err error) bool {
	return ctx.Err() != nil && !(errors.Is(ctx.Err(), context.DeadlineExceeded) && is(err, uncertain))
}

// judge decides what an attempt's error means: for its inbox row, which it
// returns, and for its message, which it notes in r.
func (p *processor) judge(ctx context.Context, m message, c claim, err error, r *result) outcome {
	r.err, r.delay = err, 0
	if err == nil {
		r.verdict = handled
		return outcome{state: stateDone}
	}
	o := outcome{state: stateFailed, doubtful: is(err, uncertain), reason: err.Error()}
	wish := time.Duration(0)
	if f, ok := marked(err, retryAfter); ok {
		wish = f.after
	}
	switch {
	case is(err, permanent):
		r.verdict = dead
		return outcome{state: stateDead, reason: err.Error()}
	case stopped(ctx, err), errors.Is(err, errNotCalled):
		o.giveBack, r.verdict = true, deferred
	case is(err, unavailable):
		o.giveBack, r.verdict, r.delay = true, deferred, max(outageDelay(m), wish)
	case c.attempt >= p.attempts, c.age >= p.maxAge:
		r.verdict = dead
		r.err = fmt.Errorf("gave up after %d attempts in %s: %w", c.attempt, c.age.Round(time.Second), err)
		return outcome{state: stateDead, reason: r.err.Error()}
	default:
		r.verdict, r.delay = failed, max(p.backoff.Delay(c.attempt), wish)
	}
	return o
}

// record settles the attempt, trying again while the database does not answer.
func (p *processor) record(ctx context.Context, c claim, a arrival, o outcome, effect Effect) error {
	ctx = context.WithoutCancel(ctx)
	var err error
	for try := 1; ; try++ {
		err = p.settle(ctx, c, a, o, effect)
		if errors.Is(err, errLeaseLost) && try > 1 {
			// Lost to nobody, if an earlier try was committed and only its answer lost.
			if found, lookErr := p.recordedBefore(ctx, c, o); lookErr == nil && found {
				return nil
			}
		}
		if err == nil || errors.Is(err, errLeaseLost) || unrecordable(err) || try == recordTries {
			return err
		}
		if service.Sleep(ctx, p.backoff.Delay(try)) != nil {
			return err
		}
	}
}

func (p *processor) settle(ctx context.Context, c claim, a arrival, o outcome, effect Effect) error {
	ctx, cancel := context.WithTimeout(ctx, bookkeeping)
	defer cancel()
	err := p.inbox.settle(ctx, c, o, effect)
	if r := (*recordError)(nil); errors.As(err, &r) && r.stack != nil {
		p.log.Error().Stringer("event_id", c.eventID).Str("trace_id", a.traceID()).Bytes("stack", r.stack).Msg("recording panicked")
	}
	return err
}

func (p *processor) recordedBefore(ctx context.Context, c claim, o outcome) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, bookkeeping)
	defer cancel()
	return p.inbox.recorded(ctx, c, o)
}

func (p *processor) concede(ctx context.Context, k key) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bookkeeping)
	defer cancel()
	return p.inbox.concede(ctx, k)
}

// settled counts an outcome that is in the inbox.
func (p *processor) settled(c claim, o outcome, a arrival, m message) {
	if !o.giveBack {
		p.metrics.attempts.Inc()
	}
	if o.doubtful {
		p.metrics.uncertain.Inc()
	}
	// A replay comes late on purpose. Each outbox counts for itself.
	if o.state == stateDone && a.replay.ID == uuid.Nil && p.seen.handled(a.event.Source+" "+m.group, a.event.Seq()) {
		p.metrics.inversions.WithLabelValues(a.event.Type).Inc()
	}
}

// report writes the one line that each event leaves in the log.
func (p *processor) report(m message, a arrival, r result, took time.Duration) {
	level := zerolog.InfoLevel
	switch r.verdict {
	case failed, deferred:
		level = zerolog.WarnLevel
	case dead:
		level = zerolog.ErrorLevel
	case duplicate, unwanted, busy:
		level = zerolog.DebugLevel
	}
	line := p.log.WithLevel(level).
		Stringer("event_id", a.eventID).
		Str("message_id", m.id).
		Int("attempt", r.attempt).
		Int64("took_ms", took.Milliseconds())
	if a.replay.ID != uuid.Nil {
		line = line.Stringer("replay_id", a.replay.ID)
	}
	if id := a.traceID(); id != "" {
		line = line.Str("trace_id", id)
	}
	if r.delay > 0 {
		line = line.Int64("retry_in_ms", r.delay.Milliseconds())
	}
	line.Err(r.err).Msgf("event %s", r.verdict)
}

// outageDelay is the wait of a message that met an outage. The inbox counts no
// attempts then, so it goes by how often the message was received, and never
// below half of what that gives, which keeps the number of receives low.
func outageDelay(m message) time.Duration {
	b := service.Backoff{Initial: outageInitial, Max: outageMax}
	return b.Ceiling(m.receiveCount)/2 + b.Delay(m.receiveCount)/2
}
