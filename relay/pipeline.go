package relay

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// pipeline takes the stream's changes to the publisher and the ledger, and moves
// the cursor behind them. One goroutine, run's, owns lanes, cursor and throttle;
// each batch and each write of the ledger has a goroutine that reports back to it.
type pipeline struct {
	publisher Publisher
	ledger    books
	window    *window
	backoff   service.Backoff
	metrics   *metrics
	log       zerolog.Logger
	onProbe   func(change)
	// holds tells whether the slot's lock is surely held. Without it nothing is sent
	// and nothing is parked.
	holds func(now time.Time) bool

	holdAfter time.Duration
	lanes     *lanes
	groups    *groups
	witness   witness
	cursor    *cursor
	throttle  *throttle

	inFlight   int       // batches at the publisher
	calls      uint64    // batches sent so far
	finished   []*entry  // waiting for the ledger
	unrecorded int       // bytes of memory that they hold
	recording  bool      // a write of the ledger is under way
	recordAt   time.Time // when the next may begin that is worth little
	published  chan batchResult
	recorded   chan recordResult

	visits   int // questions to the database under way, beside the ledger's
	visited  chan func()
	looking  bool      // one of them asks what is to be released
	lookAt   time.Time // when to ask that next
	lookUpTo string    // the group that was begun with last
	parking  int       // groups that were parked and are not recorded as such yet
	changes  uint64    // to what such a question is answered

	replays *replaying // nil where none are carried out

	left     int           // of a sweep that has ended, not recorded yet
	noneLeft chan struct{} // closed when that comes to 0

	confirmedLSN atomic.Uint64
	oldestNanos  atomic.Int64  // commit time of the oldest unfinished transaction; 0 is none
	moved        *atomic.Int64 // when something was last recorded or confirmed
}

// books is the ledger, as the pipeline needs it.
type books interface {
	record(ctx context.Context, entries []*entry) error
	asked(ctx context.Context, after string) ([]asked, error)
	load(ctx context.Context, r *release, whole bool, most int) (entries []*entry, more bool, err error)
	endRelease(ctx context.Context, group string) error
	nextReplay(ctx context.Context) (*replay, error)
	items(ctx context.Context, replay uuid.UUID, behind int64, n int) ([]*entry, error)
}

type batchResult struct {
	call    uint64 // which one it was, from 1
	entries []*entry
	results []Result
	err     error
}

type recordResult struct {
	entries []*entry
	err     error
}

func newPipeline(cfg Config, l books, w *window, m *metrics, confirmed pglogrepl.LSN, onProbe func(change), holds func(time.Time) bool) *pipeline {
	p := &pipeline{
		publisher: cfg.Publisher, ledger: l, window: w, backoff: cfg.Backoff, metrics: m, log: cfg.Logger, onProbe: onProbe, holds: holds,
		holdAfter: cfg.HoldAfter,
		lanes:     newLanes(), groups: newGroups(), cursor: newCursor(confirmed), throttle: newThrottle(cfg.InFlight, cfg.Backoff),
		published: make(chan batchResult, cfg.InFlight), recorded: make(chan recordResult), visited: make(chan func()),
		moved: new(atomic.Int64), noneLeft: make(chan struct{}),
	}
	p.confirmedLSN.Store(uint64(confirmed))
	return p
}

// leave is called when run has ended after a sweep. It returns which events of the sweep
// are left in the lanes.
func (p *pipeline) leave() map[uuid.UUID]bool {
	left := p.lanes.swept()
	p.left = len(left)
	return left
}

// follow readies the pipeline for a stream that begins at confirmed.
func (p *pipeline) follow(confirmed pglogrepl.LSN) {
	p.cursor, p.replays = newCursor(confirmed), &replaying{}
	p.confirmedLSN.Store(uint64(confirmed))
	// The last of these was recorded when nothing was read any more, so nobody looked
	// whether there is more of it: the next look asks anew.
	for _, r := range p.groups.releases {
		if r.left == 0 {
			p.groups.end(r)
		}
	}
}

// confirmed is the position that Postgres may be told; any goroutine may ask.
func (p *pipeline) confirmed() pglogrepl.LSN { return pglogrepl.LSN(p.confirmedLSN.Load()) }

// oldest is the commit time of the oldest transaction not wholly dealt with.
func (p *pipeline) oldest() (time.Time, bool) {
	n := p.oldestNanos.Load()
	return time.Unix(0, n), n != 0
}

// run works until in is closed, and then until nothing is at the publisher or
// on its way to the ledger. hard ends what does not finish by itself; the error
// is then why something that was published may not be recorded.
func (p *pipeline) run(hard context.Context, in <-chan []change) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	reads, stopReads := context.WithCancel(hard)
	defer stopReads()
	var failed error
	for in != nil || p.inFlight > 0 || p.recording || len(p.finished) > 0 || p.visits > 0 {
		now := time.Now()
		if in != nil {
			p.replay(reads, now)
			p.start(hard, now)
			p.look(reads, now)
			p.setTimer(timer, now)
		}
		if failed == nil || errors.Is(failed, errLockLost) { // then what was published is recorded all the same
			p.record(hard, now, in == nil)
		} else {
			p.finished, p.unrecorded = nil, 0
		}
		if in == nil && p.inFlight == 0 && !p.recording && p.visits == 0 {
			continue
		}
		select {
		case chunk, ok := <-in:
			if !ok {
				in = nil
				stopReads()
				continue
			}
			p.take(chunk)
		case r := <-p.published:
			p.settle(r)
			p.settleWaiting()
		case r := <-p.recorded:
			p.recording = false
			if r.err != nil {
				failed = r.err
				continue
			}
			p.finish(reads, r.entries)
		case then := <-p.visited:
			p.visits--
			then()
		case <-timer.C:
		}
		p.share()
	}
	return failed
}

// take adds what the stream brought.
func (p *pipeline) take(chunk []change) {
	for _, c := range chunk {
		switch c.kind {
		case changeBegin:
			p.cursor.begin(c.lsn, c.time())
		case changeEnd:
			p.cursor.end(c.lsn)
		case changeIdle:
			p.cursor.idle(c.lsn)
		case changeProbe:
			p.onProbe(c)
		case changeEvent:
			p.add(c.entry)
		}
	}
}

func (p *pipeline) add(e *entry) {
	if e.fromStream() {
		p.cursor.add()
	}
	if e.recorded {
		p.metrics.skipped.Inc()
		p.cursor.finish(e.position)
		p.window.release(e.memory)
		return
	}
	if g := p.groups.parked[e.group]; g != nil {
		p.parkHeld(e, g)
		return
	}
	p.lanes.push(e)
}

// start sends batches while there are some and the throttle lets it.
func (p *pipeline) start(ctx context.Context, now time.Time) {
	for p.throttle.allows(p.inFlight, now) && p.holds(now) {
		most := maxBatchEntries
		if p.throttle.probing() {
			most = 1
			p.lanes.untriedFirst()
		}
		batch := p.lanes.next(now, most, maxBatchBytes)
		if batch == nil {
			return
		}
		p.inFlight++
		p.calls++
		p.metrics.batchEntries.Observe(float64(len(batch)))
		go func(call uint64) {
			results, err := p.publish(ctx, batch)
			p.published <- batchResult{call, batch, results, err}
		}(p.calls)
	}
}

// publish reads the events of a batch and publishes those that can be.
func (p *pipeline) publish(ctx context.Context, batch []*entry) ([]Result, error) {
	events := make([]schema.Event, 0, len(batch))
	var poison map[int]error
	for i, e := range batch {
		event, err := e.event()
		if e.item != nil {
			event.Replay = e.item.replay.as
		}
		if err != nil {
			if poison == nil {
				poison = make(map[int]error)
			}
			poison[i] = err
			continue
		}
		events = append(events, event)
	}
	if poison == nil {
		return p.send(ctx, events)
	}
	var sent []Result
	if len(events) > 0 {
		var err error
		if sent, err = p.send(ctx, events); err != nil {
			return nil, err
		}
	}
	results := make([]Result, len(batch))
	for i := range batch {
		if err := poison[i]; err != nil {
			results[i] = Result{Err: &poisonError{err}, Permanent: true}
			continue
		}
		results[i], sent = sent[0], sent[1:]
	}
	return results, nil
}

// poisonError is what makes an event impossible to publish before it is tried.
type poisonError struct{ error }

// send makes one call. Where the service rejects it whole, one of its events may
// be the cause: each then goes alone, to find out which.
func (p *pipeline) send(ctx context.Context, events []schema.Event) ([]Result, error) {
	start := time.Now()
	results, err := p.publisher.Publish(ctx, events)
	p.metrics.publishSeconds.Observe(time.Since(start).Seconds())
	if err == nil && len(results) != len(events) { // of which events they are is not known
		return nil, fmt.Errorf("the publisher returned %d results for %d events", len(results), len(events))
	}
	var rejected *RejectedError
	switch {
	case !errors.As(err, &rejected):
		return results, err
	case len(events) == 1:
		return []Result{{Err: rejected}}, nil
	}
	results = make([]Result, len(events))
	for i := range events {
		one, err := p.send(ctx, events[i:i+1])
		if err != nil {
			results[i] = Result{Err: err, Throttled: true} // as all calls that fail as a whole
			continue
		}
		results[i] = one[0]
	}
	return results, nil
}

// settleWaiting takes the answers that are there already, so that what they let go
// fills whole batches.
func (p *pipeline) settleWaiting() {
	for {
		select {
		case r := <-p.published:
			p.settle(r)
		default:
			return
		}
	}
}

// settle takes a batch's answer.
func (p *pipeline) settle(r batchResult) {
	p.inFlight--
	now := time.Now()
	if r.err != nil {
		p.throttle.failed(now)
		p.metrics.callFailures.Inc()
		p.log.Warn().Err(r.err).Int("events", len(r.entries)).Int("in_a_row", p.throttle.failures).Msg("publishing failed, trying again")
		failed := make([]failure, len(r.entries))
		for i, e := range r.entries {
			failed[i] = failure{entry: e, err: r.err}
		}
		for _, f := range p.parkOverdue(r.call, failed, true, now) {
			p.lanes.hold(f.entry, p.throttle.until)
		}
		return
	}
	t := count(r.results)
	if t.accepted > 0 {
		p.witness.accepted = max(p.witness.accepted, r.call)
		p.metrics.published.Add(float64(t.accepted))
	}
	switch {
	case t.throttled > 0, t.accepted == 0 && (t.failed > 1 || t.failed > 0 && p.throttle.probing()):
		// A service that is short of breath may answer, and fail the entries.
		p.throttle.failed(now)
	case t.accepted > 0:
		p.throttle.succeeded()
	}
	var failed []failure
	for i, e := range r.entries {
		if !p.settleEntry(r.call, e, r.results[i]) {
			failed = append(failed, failure{e, r.results[i].Err, r.results[i].Throttled})
		}
	}
	p.holdFailed(p.parkOverdue(r.call, failed, false, now), now)
}

// tally sums up the results of a batch.
type tally struct{ accepted, failed, throttled int }

func count(results []Result) tally {
	var t tally
	for _, r := range results {
		switch {
		case r.Err == nil:
			t.accepted++
		case !r.Permanent:
			t.failed++
		}
		if r.Throttled {
			t.throttled++
		}
	}
	return t
}

// settleEntry takes an entry's answer, and tells whether it is done with.
func (p *pipeline) settleEntry(call uint64, e *entry, r Result) bool {
	switch {
	case r.Err == nil:
		if line := p.log.Debug(); line.Enabled() {
			identify(line, e).Str("message_id", r.MessageID).Msg("published")
		}
		e.messageID, e.sequenceNumber = r.MessageID, r.SequenceNumber
		if e.release != nil {
			p.metrics.released.Inc()
		}
		p.done(e)
		return true
	case (r.Permanent || p.guilty(call, e, r.Err)) && p.holds(time.Now()):
		p.park(e, r.Err)
		return true
	}
	return false
}

// done ends an entry in flight, published or parked.
func (p *pipeline) done(e *entry) {
	if e.release != nil {
		e.release.standing = going
	}
	p.lanes.done(e)
	p.toRecord(e)
}

// toRecord has the ledger note what became of e, soon.
func (p *pipeline) toRecord(e *entry) {
	p.finished = append(p.finished, e)
	p.unrecorded += e.memory
}

// guilty tells whether a rejected call is the event's own fault. A service that
// rejects everything is set up wrongly, and parks nothing; but where it rejects
// this event alone and has accepted others in this call or in one begun since the
// event was first rejected, it is the event.
func (p *pipeline) guilty(call uint64, e *entry, err error) bool {
	var rejected *RejectedError
	if !errors.As(err, &rejected) {
		return false
	}
	t := e.troubled()
	if t.rejectedIn == 0 {
		t.rejectedIn = call
	}
	return p.witness.accepted >= call || p.witness.accepted > t.rejectedIn
}

// holdFailed puts the entries that failed for now back, each with the delay of its
// own failures.
func (p *pipeline) holdFailed(failed []failure, now time.Time) {
	if len(failed) == 0 {
		return
	}
	p.metrics.entryFailures.Add(float64(len(failed)))
	identify(p.log.Warn(), failed[0].entry).Err(failed[0].err).Int("events", len(failed)).Msg("not accepted, trying again; their groups wait")
	for _, f := range failed {
		f.entry.failures++
		p.lanes.hold(f.entry, now.Add(p.backoff.Delay(f.entry.failures)))
	}
}

// park gives an entry in flight up and lets its group go on.
func (p *pipeline) park(e *entry, why error) {
	if e.item != nil {
		e.parked = why
		p.metrics.replayFailed.Inc()
		identify(p.log.Error(), e).Err(why).Msg("not replayed: it cannot be published")
		p.done(e)
		return
	}
	e.parked, e.reason = why, reasonRejected
	if errors.As(why, new(*poisonError)) {
		e.reason = reasonInvalid
	}
	p.metrics.parked.Inc()
	identify(p.log.Error(), e).Err(why).Str("reason", e.reason).Msg("event parked: it cannot be published")
	p.done(e)
}

// identify says which event a log line is about.
func identify(line *zerolog.Event, e *entry) *zerolog.Event {
	if !line.Enabled() {
		return line
	}
	event, _ := e.event() // what can be read of it is what there is to say
	if e.item != nil {
		line = line.Stringer("replay_id", e.replayID())
	}
	return line.Stringer("event_id", e.id).Str("trace_id", schema.TraceID(event.Traceparent)).
		Str("type", event.Type).Stringer("position", e.position)
}

const (
	// maxRecord bounds one write of the ledger.
	maxRecord = 5000
	// worthRecording is how many entries are written as soon as they are there, or those
	// of a fourth of the window, which the reader may be waiting for. Fewer wait for more,
	// so that writes begin recordEvery apart: each is a commit that the database waits for,
	// and many rows cost it less than a few at a time.
	worthRecording = 2000
	recordEvery    = 50 * time.Millisecond
)

// record hands what has gathered to the ledger, one write at a time, so that a
// slow database makes the writes larger and not more. The last ones wait for nothing.
func (p *pipeline) record(ctx context.Context, now time.Time, last bool) {
	if p.recording || len(p.finished) == 0 || !last && p.recordWaits(now) {
		return
	}
	p.recordAt = now.Add(recordEvery)
	n := min(len(p.finished), maxRecord)
	entries := p.finished[:n:n]
	if p.finished = p.finished[n:]; len(p.finished) == 0 {
		p.finished = nil
	}
	for _, e := range entries {
		p.unrecorded -= e.memory
	}
	p.recording = true
	handOver(entries)
	go func() { p.recorded <- recordResult{entries, p.ledger.record(ctx, entries)} }()
}

// recordWaits tells whether what there is to write waits for more.
func (p *pipeline) recordWaits(now time.Time) bool {
	return len(p.finished) < worthRecording && p.unrecorded < int(p.window.limit)/4 && now.Before(p.recordAt)
}

// finish moves the cursor past what is durable and gives its memory back.
func (p *pipeline) finish(ctx context.Context, entries []*entry) {
	p.moved.Store(time.Now().UnixNano())
	read, beside := 0, 0
	for _, e := range entries {
		if e.fromStream() {
			p.cursor.finish(e.position)
		}
		if e.beside() {
			beside += e.memory
		} else {
			read += e.memory
		}
		if e.swept() {
			p.sweptOne()
		}
		p.unpark(ctx, e)
		if e.item != nil {
			p.replayed(e.item.replay, e)
		}
	}
	p.window.release(read)
	p.window.remove(beside)
}

// sweptOne notes that an event of a sweep is durable. What is recorded before the sweep
// has ended is not counted.
func (p *pipeline) sweptOne() {
	if p.left == 0 {
		return
	}
	if p.left--; p.left == 0 {
		close(p.noneLeft)
	}
}

// share publishes what other goroutines may read. That a position is confirmed tells
// nothing of what is left of a sweep, which holds none back.
func (p *pipeline) share() {
	if confirmed := uint64(p.cursor.confirmed()); p.confirmedLSN.Swap(confirmed) != confirmed && p.left == 0 {
		p.moved.Store(time.Now().UnixNano())
	}
	p.metrics.parkedGroups.Set(float64(len(p.groups.parked)))
	oldest, ok := p.cursor.oldest()
	if !ok {
		p.oldestNanos.Store(0)
		return
	}
	p.oldestNanos.Store(oldest.UnixNano())
}

// lockRecheck is how soon to look again whether the lock is held.
const lockRecheck = 50 * time.Millisecond

// setTimer wakes run when there may be something to do that nothing else wakes it for.
func (p *pipeline) setTimer(timer *time.Timer, now time.Time) {
	if at, ok := p.wakeAt(now); ok {
		timer.Reset(time.Until(at))
	}
}

// wakeAt is when a held lane or the throttle lets something go that start, called with
// the same now, could not send, or when it is time to look; false where that is not
// after now. What waits for a batch in flight instead is woken by its answer.
func (p *pipeline) wakeAt(now time.Time) (due time.Time, ok bool) {
	due, held := p.lanes.due()
	if !p.holds(now) {
		due, held = now.Add(lockRecheck), true
	}
	throttled := p.throttle.until.After(now)
	if throttled && p.throttle.until.After(due) {
		due, held = p.throttle.until, true
	}
	sooner := func(at time.Time, ok bool) {
		if ok && (!held || !due.After(now) || at.Before(due)) {
			due, held = at, true
		}
	}
	sooner(p.throttle.until, throttled && len(p.lanes.ready) > 0)
	sooner(p.nextLook())
	sooner(p.recordAt, len(p.finished) > 0 && !p.recording && p.recordWaits(now))
	sooner(p.replayDue(now))
	return due, held && due.After(now)
}
