package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/schema"
)

var errOops = errors.New("oops")

// recorder is a handler that notes what it handled, and fails as told.
type recorder struct {
	mu      sync.Mutex
	handled []consumers.Delivery
	calls   int
	fail    func(d consumers.Delivery) error
}

func (r *recorder) Handle(_ context.Context, d consumers.Delivery) (consumers.Effect, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if r.fail != nil {
		if err := r.fail(d); err != nil {
			return consumers.Effect{}, err
		}
	}
	r.handled = append(r.handled, d)
	return consumers.Effect{}, nil
}

func (r *recorder) seen() []consumers.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]consumers.Delivery(nil), r.handled...)
}

func (r *recorder) called() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// gate is a handler that says when it is called and goes on when told.
type gate struct {
	entered chan consumers.Delivery
	leave   chan error
}

func newGate() *gate {
	return &gate{entered: make(chan consumers.Delivery), leave: make(chan error)}
}

func (g *gate) Handle(ctx context.Context, d consumers.Delivery) (consumers.Effect, error) {
	select {
	case g.entered <- d:
	case <-ctx.Done():
		return consumers.Effect{}, ctx.Err()
	}
	select {
	case err := <-g.leave:
		return consumers.Effect{}, err
	case <-ctx.Done():
		return consumers.Effect{}, consumers.Uncertain(ctx.Err())
	}
}

func TestGroupsKeepTheirOrderUnderFailures(t *testing.T) {
	w := setup(t)
	const groups, each = 5, 8
	want := make(map[string][]uuid.UUID)
	fails := make(map[uuid.UUID]int)
	for range each {
		for g := range groups {
			sku := fmt.Sprintf("G%d", g)
			e := w.event(sku)
			want[sku] = append(want[sku], e.ID)
			fails[e.ID] = rand.IntN(3)
		}
	}
	r := &recorder{fail: func(d consumers.Delivery) error {
		if d.Attempt <= fails[d.Event.ID] {
			return errOops
		}
		return nil
	}}
	worker := w.start(r, func(c *consumers.Config) { c.CircuitFailures = 1000 })
	w.awaitEmpty()
	got := make(map[string][]uuid.UUID)
	for _, d := range r.seen() {
		got[sku(d)] = append(got[sku(d)], d.Event.ID)
	}
	require.Equal(t, want, got)
	attempts := 0
	for _, ids := range want {
		for _, id := range ids {
			row := w.inbox(id, uuid.Nil)
			require.Equal(t, "done", row.state)
			require.Equal(t, fails[id]+1, row.attempt, "as many as it failed, and none for those before it")
			attempts += row.attempt
		}
	}
	require.NoError(t, worker.stop())
	require.InDelta(t, attempts, worker.metric(w, "attempts_total"), 0)
	require.InDelta(t, 0, worker.metric(w, "sequence_inversions_total"), 0)
	require.InDelta(t, 0, worker.metric(w, "repeated_uncertain_total"), 0)
}

// Without its group a message is alone, and goes past one that failed.
func TestGroupsKeepTheirOrderOnAnOldSQS(t *testing.T) {
	w := setup(t)
	first, second := w.event("G"), w.event("G")
	r := &recorder{fail: func(d consumers.Delivery) error {
		if d.Event.ID == first.ID && d.Attempt == 1 {
			return errOops
		}
		return nil
	}}
	w.start(r, func(c *consumers.Config) {
		c.SQS = w.through(func(next sqs.HTTPClient) sqs.HTTPClient { return localaws.OldSQS{Next: next} })
	})
	w.await(first.ID, "done")
	w.awaitEmpty()
	var handled []uuid.UUID
	for _, d := range r.seen() {
		handled = append(handled, d.Event.ID)
	}
	require.Equal(t, []uuid.UUID{first.ID, second.ID}, handled)
}

func TestTwoDeliveriesAtOnceAreOneAttempt(t *testing.T) {
	w := setup(t)
	g, r := newGate(), &recorder{}
	first := w.start(g)
	e := w.event("G")
	<-g.entered
	second := w.start(r)
	w.comeBack() // the visibility timeout ran out although the first still works
	w.eventually("the second delivery is held off", func() bool {
		return first.metric(w, "messages_total", "busy")+second.metric(w, "messages_total", "busy") > 0
	})
	g.leave <- nil
	require.Equal(t, 1, w.await(e.ID, "done").attempt)
	w.eventually("it is acknowledged", func() bool {
		w.comeBack()
		waiting, inFlight := w.counts(w.queue.URL)
		return waiting+inFlight == 0
	})
	require.Zero(t, r.called())
	require.Zero(t, w.inbox(e.ID, uuid.Nil).uncertain)
}

// A worker that dies in a call leaves a lease, and the one that takes over
// counts the repeat.
func TestCrashBetweenClaimAndRecord(t *testing.T) {
	w := setup(t)
	g := newGate()
	dying := w.consumersPool()
	first := w.start(g, func(c *consumers.Config) { c.Pool, c.Grace = dying, time.Millisecond })
	e := w.event("G")
	<-g.entered
	dying.Close() // it can record nothing more
	require.NoError(t, first.stop())
	require.Equal(t, "claimed", w.inbox(e.ID, uuid.Nil).state)

	r := &recorder{}
	second := w.start(r)
	w.eventually("the lease holds the second off", func() bool {
		w.comeBack()
		return second.metric(w, "messages_total", "busy") > 0
	})
	require.Zero(t, r.called())
	w.exec(`UPDATE inbox SET lease_until = now() - interval '1 second' WHERE event_id = $1 AND state = 'claimed'`, e.ID)
	w.eventually("it takes over", func() bool {
		w.comeBack()
		return w.inbox(e.ID, uuid.Nil).state == "done"
	})
	row := w.inbox(e.ID, uuid.Nil)
	require.Equal(t, 2, row.attempt)
	require.Equal(t, 1, row.uncertain)
	require.InDelta(t, 1, second.metric(w, "repeated_uncertain_total"), 0)
	w.awaitEmpty()
}

// An attempt whose lease was taken over records nothing: exactly one effect.
func TestLostLeaseRecordsNothing(t *testing.T) {
	w := setup(t)
	w.exec(`CREATE TABLE done_by (who text)`)
	w.exec(`GRANT INSERT ON done_by TO ` + schema.RoleConsumers)
	mark := func(who string) consumers.Effect {
		return consumers.Effect{
			Call: &consumers.Call{Kind: who, Outcome: consumers.CallOK, Started: time.Now(), Ended: time.Now()},
			Record: func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO done_by VALUES ($1)`, who)
				return err
			},
		}
	}
	g := newGate()
	slow := w.start(handlerFunc(func(ctx context.Context, d consumers.Delivery) (consumers.Effect, error) {
		if d.Attempt > 1 {
			return mark("quick"), nil // either worker may be the one that takes over
		}
		_, err := g.Handle(ctx, d)
		return mark("slow"), err
	}))
	e := w.event("G")
	<-g.entered
	w.exec(`UPDATE inbox SET lease_until = now() - interval '1 second' WHERE event_id = $1`, e.ID)
	w.start(handlerFunc(func(context.Context, consumers.Delivery) (consumers.Effect, error) { return mark("quick"), nil }))
	w.comeBack()
	w.await(e.ID, "done")
	g.leave <- nil
	w.eventually("the slow one is told", func() bool { return slow.metric(w, "messages_total", "busy") > 0 })
	require.Equal(t, []string{"quick"}, scan[[]string](w, `SELECT array_agg(who) FROM done_by`))
	require.ElementsMatch(t, []string{"quick", "slow"}, scan[[]string](w, `SELECT array_agg(kind) FROM effects`), "both calls were made, and both are known")
}

func TestCrashBetweenRecordAndDelete(t *testing.T) {
	w := setup(t)
	w.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Action: "DeleteMessageBatch", Count: 1, SenderFault: true})
	e := w.event("G")
	r := &recorder{}
	first := w.start(r)
	w.await(e.ID, "done")
	w.eventually("the delete is given up", func() bool { return first.metric(w, "deletes_total", "lost") == 1 })
	w.comeBack()
	w.awaitEmpty()
	require.Len(t, r.seen(), 1)
}

// SQS calls it the sender's fault to be too fast, and the next try is not.
func TestThrottledDeletesAreRetried(t *testing.T) {
	w := setup(t)
	w.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Action: "DeleteMessageBatch", Count: 1, Code: "RequestThrottled", SenderFault: true})
	w.event("G")
	worker := w.start(&recorder{})
	w.eventually("the delete is through", func() bool {
		return worker.metric(w, "deletes_total", "ok")+worker.metric(w, "deletes_total", "lost") == 1
	})
	require.InDelta(t, 1, worker.metric(w, "deletes_total", "error"), 0)
	require.Zero(t, worker.metric(w, "deletes_total", "lost"))
}

func TestFailedDeletesAreRetried(t *testing.T) {
	w := setup(t)
	w.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Action: "DeleteMessageBatch", Count: 2})
	w.aws.Faults().Add(localaws.Rule{Effect: localaws.DropAnswer, Action: "DeleteMessageBatch", Count: 1})
	for i := range 12 {
		w.event(fmt.Sprintf("G%d", i))
	}
	r := &recorder{}
	worker := w.start(r)
	w.awaitEmpty()
	require.Len(t, r.seen(), 12)
	require.NoError(t, worker.stop())
	require.InDelta(t, 12, worker.metric(w, "deletes_total", "ok")+worker.metric(w, "deletes_total", "lost"), 0)
	require.Positive(t, worker.metric(w, "deletes_total", "error"))
}

// dead(reason) commits, then the message is sent, then deleted: a crash between
// any two repeats the rest and leaves one message.
func TestDeadLetterSurvivesCrashes(t *testing.T) {
	w := setup(t)
	faults := w.aws.Faults()
	refused := faults.Add(localaws.Rule{Effect: localaws.InternalError, Action: "SendMessage", Resource: schema.DLQName("factory")})
	e := w.event("G")
	r := &recorder{fail: func(consumers.Delivery) error { return consumers.Permanent(errOops) }}
	worker := w.start(r)
	require.Equal(t, "oops", w.await(e.ID, "dead").lastError)
	w.eventually("the send failed", func() bool { return faults.Hits(refused) > 0 })
	waiting, _ := w.counts(w.queue.DLQURL)
	require.Zero(t, waiting)

	// Accepted, and the answer lost; then sent, and not deleted.
	faults.Clear()
	lost := faults.Add(localaws.Rule{Effect: localaws.DropAnswer, Action: "SendMessage", Count: 1})
	kept := faults.Add(localaws.Rule{Effect: localaws.FailEntries, Action: "DeleteMessageBatch", Count: 1, SenderFault: true})
	w.eventually("it is gone", func() bool {
		worker.comeBack(w)
		waiting, inFlight := w.counts(w.queue.URL)
		return waiting+inFlight == 0
	})
	require.Equal(t, 1, faults.Hits(lost))
	require.Equal(t, 1, faults.Hits(kept))
	require.Equal(t, 1, r.called(), "a dead event is not handled again")
	dead := w.deadLetters()
	require.Len(t, dead, 1)
	require.Equal(t, "G", dead[0].Attributes["MessageGroupId"])
	require.Contains(t, dead[0].Attributes["MessageDeduplicationId"], e.ID.String()+":restock-factory.fifo:0")
}

func TestPoisonIsDeadLetteredAndBlocksNothing(t *testing.T) {
	w := setup(t)
	good := func() string { return w.append(w.replenishment("P")).Body }
	old := time.Now().AddDate(0, 0, -60).UTC().Format("2006-01-02T")
	day := time.Now().UTC().Format("2006-01-02T")
	poison := map[string]string{ // by reason
		"not an event: invalid character 'h'":                  "hello",
		`not an event: CloudEvents specversion ""`:             `{"a":"b"}`,
		"unknown event type \"replenishment.eaten\"":           strings.Replace(good(), `"type":"replenishment.requested"`, `"type":"replenishment.eaten"`, 1),
		"unknown version":                                      strings.Replace(good(), `requested:1"`, `requested:9"`, 1),
		"decode replenishment.requested: factoryId is missing": strings.Replace(good(), `"factoryId":"FF-500293"`, `"factoryId":""`, 1),
		"past retention, or its time was made by hand":         strings.Replace(good(), day, old, 1),
	}
	sent := make(map[string]bool)
	for _, body := range poison {
		w.send("P", body) // all in one group, in front of a good one
		sent[body] = true
	}
	e := w.event("P")
	other := w.event("Q")
	r := &recorder{}
	worker := w.start(r)
	w.await(e.ID, "done")
	w.await(other.ID, "done")
	w.awaitEmpty()
	require.Len(t, r.seen(), 2)
	dead := w.deadLetters()
	require.Len(t, dead, len(poison))
	for _, m := range dead {
		require.True(t, sent[aws.ToString(m.Body)], "the body as received")
		require.Equal(t, "blue", aws.ToString(m.MessageAttributes["color"].StringValue), "the attributes as received")
	}
	reasons := scan[[]string](w, `SELECT array_agg(last_error) FROM inbox WHERE state = 'dead'`)
	require.Len(t, reasons, len(poison))
	for reason := range poison {
		require.Contains(t, strings.Join(reasons, "\n"), reason)
	}
	require.NoError(t, worker.stop())
	require.InDelta(t, len(poison), worker.metric(w, "messages_total", "dead"), 0)
}

// A poison message seen again is the same one.
func TestPoisonSeenAgain(t *testing.T) {
	w := setup(t)
	w.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Action: "DeleteMessageBatch", Count: 1, SenderFault: true})
	w.send("P", "hello")
	worker := w.start(&recorder{})
	w.eventually("the delete is given up", func() bool { return worker.metric(w, "deletes_total", "lost") == 1 })
	w.comeBack()
	w.awaitEmpty()
	require.Len(t, w.deadLetters(), 1)
	require.Equal(t, 1, scan[int](w, `SELECT count(*) FROM inbox`))
}

func TestUnwantedIsAcknowledgedAndCounted(t *testing.T) {
	w := setup(t)
	w.send("G", w.append(schema.StockReplenished{ReplenishmentID: uuid.New(), SKU: "G", Quantity: 1}).Body)
	r := &recorder{}
	worker := w.start(r)
	w.awaitEmpty()
	require.Zero(t, r.called())
	require.InDelta(t, 1, worker.metric(w, "messages_total", "unwanted"), 0)
	require.Zero(t, scan[int](w, `SELECT count(*) FROM inbox`))
}

func TestMissingPartitionIsMade(t *testing.T) {
	w := setup(t)
	e := w.event("G")
	r := &recorder{}
	entered := newGate()
	worker := w.start(handlerFunc(func(ctx context.Context, d consumers.Delivery) (consumers.Effect, error) {
		if sku(d) == "FIRST" {
			return entered.Handle(ctx, d)
		}
		return r.Handle(ctx, d)
	}))
	w.await(e.ID, "done")
	first := w.event("FIRST")
	<-entered.entered
	for _, table := range []string{"inbox", "effects"} {
		w.exec(fmt.Sprintf(`DROP TABLE %s_%s`, table, e.Day.Format("20060102")))
	}
	again := w.event("G")
	w.await(again.ID, "done")
	// Its own row went with the partition: it is lost to nobody else, and tried again.
	entered.leave <- nil
	<-entered.entered
	entered.leave <- nil
	w.await(first.ID, "done")
	w.awaitEmpty()
	require.NoError(t, worker.stop())
}

func TestPanicIsAFailure(t *testing.T) {
	w := setup(t)
	e := w.event("G")
	w.start(&recorder{fail: func(d consumers.Delivery) error {
		if d.Attempt == 1 {
			panic("dropped the donut")
		}
		return nil
	}})
	row := w.await(e.ID, "done")
	require.Equal(t, 2, row.attempt)
}

func TestPanicOrErrorWhileRecordingIsAFailure(t *testing.T) {
	w := setup(t)
	e := w.event("G")
	w.start(handlerFunc(func(_ context.Context, d consumers.Delivery) (consumers.Effect, error) {
		return consumers.Effect{Record: func(ctx context.Context, tx pgx.Tx) error {
			switch d.Attempt {
			case 1:
				panic("dropped the donut")
			case 2:
				return errOops
			case 3:
				_, err := tx.Exec(ctx, `INSERT INTO inbox (day) VALUES (NULL)`)
				return err
			}
			return nil
		}}, nil
	}))
	require.Equal(t, 4, w.await(e.ID, "done").attempt)
}

// A connection that breaks between the call and its record repeats the record,
// not the call.
func TestRecordIsRetried(t *testing.T) {
	w := setup(t)
	e := w.event("G")
	var calls, records atomic.Int64
	w.start(handlerFunc(func(context.Context, consumers.Delivery) (consumers.Effect, error) {
		calls.Add(1)
		return consumers.Effect{Record: func(ctx context.Context, tx pgx.Tx) error {
			if records.Add(1) == 1 {
				_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
				return err
			}
			return nil
		}}, nil
	}))
	row := w.await(e.ID, "done")
	require.Equal(t, []int64{1, 2}, []int64{calls.Load(), records.Load()})
	require.Equal(t, 1, row.attempt)
	require.Zero(t, row.uncertain)
}

// A lock that was not had in time is no refusal: the call was made and its record is
// tried again.
func TestRecordWaitsForALock(t *testing.T) {
	w := setup(t)
	e := w.request()
	holder, err := w.owner.Begin(t.Context())
	require.NoError(t, err)
	_, err = holder.Exec(t.Context(), `SELECT FROM replenishments FOR UPDATE`)
	require.NoError(t, err)
	var calls, records atomic.Int64
	w.start(handlerFunc(func(context.Context, consumers.Delivery) (consumers.Effect, error) {
		calls.Add(1)
		return consumers.Effect{Record: func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '10ms'`)
			if err == nil {
				_, err = tx.Exec(ctx, `UPDATE replenishments SET production_id = 'p-1'`)
			}
			if records.Add(1) == 1 {
				return errors.Join(err, holder.Rollback(ctx))
			}
			return err
		}}, nil
	}))
	row := w.await(e.ID, "done")
	require.Equal(t, []int64{1, 2}, []int64{calls.Load(), records.Load()})
	require.Equal(t, 1, row.attempt)
	require.Zero(t, row.uncertain)
}

// A commit whose answer was lost is found in the inbox when it is tried again.
func TestRecordWhoseAnswerWasLost(t *testing.T) {
	w := setup(t)
	e := w.event("G")
	r := &recorder{}
	worker := w.start(handlerFunc(func(ctx context.Context, d consumers.Delivery) (consumers.Effect, error) {
		_, err := r.Handle(ctx, d)
		return consumers.Effect{Record: func(ctx context.Context, tx pgx.Tx) error {
			_, cut := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			_, err := w.owner.Exec(ctx, `UPDATE inbox SET state = 'done', lease_until = NULL WHERE event_id = $1`, d.Event.ID)
			return errors.Join(cut, err)
		}}, err
	}))
	w.awaitEmpty()
	require.Equal(t, "done", w.inbox(e.ID, uuid.Nil).state)
	require.Len(t, r.seen(), 1)
	require.NoError(t, worker.stop())
	require.InDelta(t, 1, worker.metric(w, "messages_total", "handled"), 0)
}

// A call whose record was committed and its answer lost is one call in the audit,
// however often it is recorded: two would be a call that was repeated.
func TestCallWhoseRecordsAnswerWasLostIsAuditedOnce(t *testing.T) {
	for consumer, lose := range map[string]func(*cell){
		schema.ConsumerFactory:   func(c *cell) { c.wire.loseACommit() },    // has rows of its own
		schema.ConsumerMarketing: func(c *cell) { c.wire.loseNextAnswer() }, // has none
	} {
		t.Run(consumer, func(t *testing.T) {
			c := newCell(t, consumer)
			c.subject.Outside.Up()
			c.pool.Close()
			c.pool = c.connect(c.db.RoleDSN(c.role, password), c.wire.use, func(cfg *pgxpool.Config) { cfg.MaxConns = 1 })
			worker := c.prepare(c.handler())
			c.reaches("F") // its statements are prepared
			require.Empty(t, worker.ProcessBatch(t.Context(), c.receive()))
			held, leave := c.subject.Hold("G", false)
			e := c.reaches("G")
			batch := c.receive()
			through := make(chan []string)
			go func() { through <- worker.ProcessBatch(t.Context(), batch) }()
			c.eventually("it is held", func() bool { return held() == 1 })
			lose(c)
			leave()
			require.Empty(t, <-through)
			require.Equal(t, "done", c.inbox(e.ID, uuid.Nil).state)
			require.Equal(t, 1, scan[int](c.world, `SELECT count(*) FROM effects WHERE event_id = $1`, e.ID))
		})
	}
}

func TestGivesUpAfterItsAttempts(t *testing.T) {
	w := setup(t)
	e, next := w.event("G"), w.event("G")
	r := &recorder{fail: func(d consumers.Delivery) error {
		if d.Event.ID == e.ID {
			return errOops
		}
		return nil
	}}
	w.start(r, func(c *consumers.Config) { c.MaxAttempts = 7 })
	w.await(next.ID, "done")
	row := w.inbox(e.ID, uuid.Nil)
	require.Equal(t, "dead", row.state)
	require.Equal(t, 7, row.attempt)
	require.Regexp(t, `^gave up after 7 attempts in .*: oops$`, row.lastError)
	require.Len(t, w.deadLetters(), 1)
}

func TestGivesUpAtItsAge(t *testing.T) {
	w := setup(t)
	e := w.event("G")
	w.start(&recorder{fail: func(consumers.Delivery) error { return errOops }}, func(c *consumers.Config) { c.MaxAge = 1 })
	require.Equal(t, 2, w.await(e.ID, "dead").attempt, "the first failure is no age yet")
}

func TestGivesUpOnAnEventThatKillsItsWorkers(t *testing.T) {
	w := setup(t)
	e := w.event("G")
	w.exec(`INSERT INTO inbox (day, consumer, event_id, state, attempt, lease_until) VALUES ($1, 'factory', $2, 'claimed', 20, now())`, e.Day, e.ID)
	r := &recorder{}
	w.start(r)
	require.Contains(t, w.await(e.ID, "dead").lastError, "never ended")
	require.Zero(t, r.called())
}

func TestOutageOfTheOtherSideBurnsNoAttempt(t *testing.T) {
	w := setup(t)
	var down atomic.Bool
	down.Store(true)
	r := &recorder{fail: func(consumers.Delivery) error {
		if down.Load() {
			return consumers.Unavailable(errOops)
		}
		return nil
	}}
	events := make([]schema.Event, 6)
	for i := range events {
		events[i] = w.event(fmt.Sprintf("G%d", i))
	}
	// Short polls, so that none is under way still when the circuit is open.
	worker := w.start(r, func(c *consumers.Config) { c.CircuitFailures, c.CircuitOpen, c.Wait = 3, time.Hour, -1 })
	w.eventually("the circuit opens", func() bool { return worker.metric(w, "circuit_state") == 2 })
	require.EqualError(t, worker.Ready(t.Context()), "factory: the circuit is open after: oops")
	w.eventually("everything is put back", func() bool { return worker.metric(w, "polls")+worker.metric(w, "in_flight") == 0 })
	polls, calls := worker.metric(w, "receives_total"), r.called()
	require.LessOrEqual(t, calls, len(events), "each at most once")
	late := w.event("LATE")
	w.comeBack()
	w.eventually("all wait, unpolled", func() bool {
		waiting, inFlight := w.counts(w.queue.URL)
		return waiting == 7 && inFlight == 0
	})
	require.InDelta(t, polls, worker.metric(w, "receives_total"), 0)
	require.NoError(t, worker.stop())
	for _, e := range events {
		require.Zero(t, w.inbox(e.ID, uuid.Nil).attempt)
	}

	// The same with a short pause: it probes, finds the other side back, and closes.
	second := w.start(r, func(c *consumers.Config) { c.CircuitFailures, c.CircuitOpen = 3, time.Millisecond })
	w.eventually("it probes", func() bool {
		w.comeBack()
		return r.called() > calls+10
	})
	down.Store(false)
	w.eventually("all is handled", func() bool {
		w.comeBack()
		return len(r.seen()) >= 7
	})
	for _, e := range append(events, late) {
		require.Equal(t, 1, w.await(e.ID, "done").attempt)
	}
	w.awaitEmpty()
	require.InDelta(t, 0, second.metric(w, "circuit_state"), 0)
	require.Len(t, r.seen(), 7)
}

// TestAnsweredProbesCount: the circuit was opened by an outage, and the one event
// that waits is then answered with failures. Those are its attempts, or it would be
// tried until SQS drops it.
func TestAnsweredProbesCount(t *testing.T) {
	w := setup(t)
	e := w.event("G")
	r := &recorder{fail: func(d consumers.Delivery) error {
		if d.Attempt == 1 && w.inbox(e.ID, uuid.Nil).lastError == "" {
			return consumers.Unavailable(errOops)
		}
		return errOops
	}}
	worker := w.start(r, func(c *consumers.Config) { c.CircuitFailures, c.CircuitOpen, c.MaxAttempts = 1, time.Millisecond, 5 })
	w.eventually("it is dead", func() bool {
		w.comeBack()
		return w.inbox(e.ID, uuid.Nil).state == "dead"
	})
	require.Equal(t, 5, w.inbox(e.ID, uuid.Nil).attempt)
	require.NoError(t, worker.stop())
}

func TestOutageOfTheInboxBurnsNoAttempt(t *testing.T) {
	w := setup(t)
	r := &recorder{}
	worker := w.start(r, func(c *consumers.Config) { c.CircuitOpen = 20 * time.Millisecond })
	before := w.event("G")
	w.await(before.ID, "done")
	w.awaitEmpty()

	w.exec(`ALTER ROLE ` + schema.RoleConsumers + ` IN DATABASE ` + pgx.Identifier{w.db.Name}.Sanitize() + ` SET default_transaction_read_only = on`)
	kick := func() {
		w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = $2`, w.db.Name, schema.RoleConsumers)
	}
	kick()
	events := []schema.Event{w.event("G"), w.event("G"), w.event("H")}
	w.eventually("the worker notices", func() bool { return worker.metric(w, "inbox_up") == 0 })
	w.exec(`ALTER ROLE ` + schema.RoleConsumers + ` IN DATABASE ` + pgx.Identifier{w.db.Name}.Sanitize() + ` RESET default_transaction_read_only`)
	kick()
	w.eventually("all is handled", func() bool {
		w.comeBack()
		return len(r.seen()) == 4
	})
	for _, e := range events {
		require.Equal(t, 1, w.await(e.ID, "done").attempt)
	}
	w.awaitEmpty()
	require.InDelta(t, 1, worker.metric(w, "inbox_up"), 0)
}

func TestStopLetsTheAttemptInHandFinish(t *testing.T) {
	w := setup(t)
	e, next := w.event("G"), w.event("G")
	g := newGate()
	worker := w.start(g)
	<-g.entered
	worker.cancel()
	g.leave <- nil
	require.NoError(t, worker.stop())
	require.Equal(t, "done", w.inbox(e.ID, uuid.Nil).state)
	require.Empty(t, w.inbox(next.ID, uuid.Nil).state, "what was not begun is left")
	waiting, inFlight := w.counts(w.queue.URL)
	require.Equal(t, []int{1, 0}, []int{waiting, inFlight}, "the one deleted, the other there for another worker")
}

func TestStopCutsWhatTakesTooLong(t *testing.T) {
	w := setup(t)
	e, next := w.event("G"), w.event("G")
	g := newGate()
	worker := w.start(g, func(c *consumers.Config) { c.Grace = time.Millisecond })
	<-g.entered
	require.NoError(t, worker.stop())
	row := w.inbox(e.ID, uuid.Nil)
	require.Equal(t, "failed", row.state)
	require.Zero(t, row.attempt, "it is given back")
	require.Equal(t, 1, row.uncertain, "its call may have been accepted")
	require.Empty(t, w.inbox(next.ID, uuid.Nil).state)
	waiting, inFlight := w.counts(w.queue.URL)
	require.Equal(t, []int{2, 0}, []int{waiting, inFlight}, "another may take them at once")

	r := &recorder{}
	w.start(r)
	w.await(next.ID, "done")
	require.Equal(t, 1, w.inbox(e.ID, uuid.Nil).attempt)
}

// Every message in hand is renewed, those that wait for their head too.
func TestVisibilityIsRenewedForTheWholeGroup(t *testing.T) {
	w := setup(t)
	clock := newClock()
	server, err := localaws.Start(localaws.Config{Now: clock.now})
	require.NoError(t, err)
	w.useAWS(server)
	for range 3 {
		w.event("G")
	}
	g := newGate()
	tick := make(chan time.Time)
	worker := w.prepare(g)
	worker.SetRenewTick(tick)
	w.run(worker)
	<-g.entered
	renewed := 0.0
	for range 5 { // 200 s, which is more than three visibility timeouts
		clock.advance(40 * time.Second)
		server.Tick()
		waiting, inFlight := w.counts(w.queue.URL)
		require.Equal(t, []int{0, 3}, []int{waiting, inFlight})
		tick <- time.Now()
		renewed += 3
		w.eventually("renewed", func() bool { return worker.metric(w, "renewals_total", "ok") == renewed })
	}
	for i := range 3 {
		g.leave <- nil
		if i < 2 {
			<-g.entered
		}
	}
	w.awaitEmpty()
	require.InDelta(t, 0, worker.metric(w, "renewals_total", "error"), 0)
}

// Many workers, many groups, duplicates, cut answers, lost deletes, messages that
// come back early: every event is handled exactly once, in its group's order.
func TestStorm(t *testing.T) {
	w := setup(t)
	const groups, each = 12, 15
	want := make(map[string][]uuid.UUID)
	for range each {
		for g := range groups {
			sku := fmt.Sprintf("G%d", g)
			e := w.event(sku)
			if rand.IntN(4) == 0 {
				w.publish(e)
			}
			want[sku] = append(want[sku], e.ID)
		}
	}
	w.exec(`CREATE TABLE handled (n bigint GENERATED ALWAYS AS IDENTITY, sku text, id uuid)`)
	w.exec(`GRANT INSERT ON handled TO ` + schema.RoleConsumers)
	h := handlerFunc(func(_ context.Context, d consumers.Delivery) (consumers.Effect, error) {
		if rand.IntN(5) == 0 {
			return consumers.Effect{}, errOops
		}
		return consumers.Effect{Record: func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO handled (sku, id) VALUES ($1, $2)`, sku(d), d.Event.ID)
			return err
		}}, nil
	})
	faults := w.aws.Faults()
	for _, action := range []string{"DeleteMessageBatch", "ChangeMessageVisibilityBatch", "ReceiveMessage"} {
		faults.Add(localaws.Rule{Effect: localaws.DropAnswer, Service: "sqs", Action: action, Count: 5})
	}
	faults.Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sqs", Action: "DeleteMessageBatch", Count: 5, SenderFault: true})
	workers := make([]*running, 3)
	for i := range workers {
		workers[i] = w.start(h, func(c *consumers.Config) { c.Concurrency, c.CircuitFailures = 3, 1000 })
	}
	storm := 0
	w.eventually("all is handled and the queue empty", func() bool {
		if storm++; storm%20 == 0 {
			w.comeBack()
		}
		waiting, inFlight := w.counts(w.queue.URL)
		return waiting+inFlight == 0
	})
	got := make(map[string][]uuid.UUID)
	rows, err := w.owner.Query(t.Context(), `SELECT sku, id FROM handled ORDER BY n`)
	require.NoError(t, err)
	var group string
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&group, &id}, func() error {
		got[group] = append(got[group], id)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, want, got)
	waiting, _ := w.counts(w.queue.DLQURL)
	require.Zero(t, waiting)
}

func TestConfigIsChecked(t *testing.T) {
	w := setup(t)
	good := consumers.Config{
		Interest: schema.Interest{Consumer: "factory", Types: []string{"x"}}, QueueURL: "q", DLQURL: "d",
		SQS: w.queues, Pool: w.pool, Handler: &recorder{}, Metrics: prometheus.NewRegistry(),
	}
	_, err := consumers.New(good)
	require.NoError(t, err)
	_, err = consumers.New(good)
	require.ErrorContains(t, err, "register metrics of consumer factory")
	good.Metrics = nil
	for _, change := range []func(*consumers.Config){
		func(c *consumers.Config) { c.Interest = schema.Interest{} },
		func(c *consumers.Config) { c.DLQURL = "" },
		func(c *consumers.Config) { c.Handler = nil },
		func(c *consumers.Config) { c.Visibility = time.Millisecond },
		func(c *consumers.Config) { c.Wait = time.Minute },
		func(c *consumers.Config) { c.Concurrency = -1 },
	} {
		bad := good
		change(&bad)
		_, err := consumers.New(bad)
		require.Error(t, err)
	}
}

func TestRunSaysThatTheDatabaseIsNotThere(t *testing.T) {
	w := setup(t)
	w.pool.Close()
	worker := w.prepare(&recorder{})
	require.ErrorContains(t, worker.Run(t.Context()), "consumer factory: ensure partitions")
}

// TestRunStopsBeforeItBegins: a signal amid the start is no failure.
func TestRunStopsBeforeItBegins(t *testing.T) {
	w := setup(t)
	worker := w.prepare(&recorder{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, worker.Run(ctx))
}

// TestProgress: a handler that never comes back shows; an idle worker does not.
func TestProgress(t *testing.T) {
	w := setup(t)
	release := make(chan struct{})
	r := w.start(handlerFunc(func(context.Context, consumers.Delivery) (consumers.Effect, error) {
		<-release
		return consumers.Effect{}, nil
	}), func(c *consumers.Config) { c.Lease = 100 * time.Millisecond })
	require.NoError(t, r.Progress())
	e := w.request()
	w.eventually("it is stuck", func() bool { return r.Progress() != nil })
	require.ErrorContains(t, r.Progress(), "consumer factory has messages in hand")
	require.Positive(t, r.metric(w, "stalled_seconds"))
	close(release)
	w.await(e.ID, "done")
	w.eventually("it goes on", func() bool { r.comeBack(w); return r.Progress() == nil })
}
