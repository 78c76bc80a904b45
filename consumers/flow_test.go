package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/localaws"
)

// gated is a handler that holds every call until it is opened.
type gated struct {
	recorder
	open chan struct{}
}

func newGated() *gated { return &gated{open: make(chan struct{})} }

func (g *gated) Handle(ctx context.Context, d consumers.Delivery) (consumers.Effect, error) {
	select {
	case <-g.open:
	case <-ctx.Done():
		return consumers.Effect{}, ctx.Err()
	}
	return g.recorder.Handle(ctx, d)
}

// awaitHeld waits until the worker holds so many messages and asks for no more.
func (w *world) awaitHeld(worker *running, messages int) {
	w.Helper()
	w.eventually("it has enough in hand", func() bool {
		return worker.metric(w, "in_flight") == float64(messages) && worker.metric(w, "polls") == 0
	})
	_, inFlight := w.counts(w.queue.URL)
	require.Equal(w, messages, inFlight)
}

// A worker whose handler is slow leaves to others what it cannot work on.
func TestReceivesNoMoreThanThereIsRoomFor(t *testing.T) {
	t.Run("many groups", func(t *testing.T) {
		w := setup(t)
		w.fill(60, 1)
		h := newGated()
		worker := w.start(h, func(c *consumers.Config) { c.Concurrency = 4 })
		w.awaitHeld(worker, 10) // which is one receive, and groups for twice as many as are worked on
		close(h.open)
		w.awaitEmpty()
		require.Len(t, h.seen(), 60)
	})
	t.Run("long groups", func(t *testing.T) {
		w := setup(t)
		w.fill(6, 20)
		h := newGated()
		worker := w.start(h, func(c *consumers.Config) { c.Concurrency = 4 })
		w.awaitHeld(worker, 40) // ten for each group that is worked on
		close(h.open)
		w.awaitEmpty()
		require.Len(t, h.seen(), 120)
		require.NoError(t, worker.stop())
		require.InDelta(t, 0, worker.metric(w, "sequence_inversions_total"), 0)
	})
}

// crowd counts how many receives are under way at once.
type crowd struct {
	mu        sync.Mutex
	now, most int
}

func (c *crowd) wrap(next sqs.HTTPClient) sqs.HTTPClient {
	return doer(func(r *http.Request) (*http.Response, error) {
		if !isReceive(r) {
			return next.Do(r)
		}
		c.add(1)
		defer c.add(-1)
		return next.Do(r)
	})
}

func (c *crowd) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += n
	c.most = max(c.most, c.now)
}

func isReceive(r *http.Request) bool {
	return strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".ReceiveMessage")
}

// through makes an SQS client whose requests go through wrap.
func (w *world) through(wrap func(sqs.HTTPClient) sqs.HTTPClient) *sqs.Client {
	return sqs.New(w.queues.Options(), func(o *sqs.Options) { o.HTTPClient = wrap(o.HTTPClient) })
}

func TestALoadedQueueGetsSeveralReceives(t *testing.T) {
	w := setup(t)
	w.fill(100, 10)
	w.aws.Faults().Add(localaws.Rule{Effect: localaws.Delay, Action: "ReceiveMessage", Delay: 20 * time.Millisecond, Count: 100})
	c := &crowd{}
	client := w.through(c.wrap)
	r := &recorder{}
	w.start(r, func(cfg *consumers.Config) { cfg.SQS = client })
	w.awaitEmpty()
	require.Len(t, r.seen(), 1000)
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Greater(t, c.most, 1)
}

func TestDeletesGather(t *testing.T) {
	prepare := func(w *world, h consumers.Handler) (*running, *countedCalls) {
		calls := &countedCalls{}
		client := w.through(calls.wrap)
		worker := w.prepare(h, func(c *consumers.Config) { c.SQS = client })
		worker.SetDeleteLinger(time.Hour)
		w.run(worker)
		return worker, calls
	}
	t.Run("one alone waits for nobody", func(t *testing.T) {
		w := setup(t)
		_, calls := prepare(w, &recorder{})
		w.event("G")
		w.awaitEmpty()
		require.Equal(t, 1, calls.of("DeleteMessageBatch"))
	})
	t.Run("ten go together, and the rest when the last group ends", func(t *testing.T) {
		w := setup(t)
		g := newGate()
		worker, calls := prepare(w, handlerFunc(func(ctx context.Context, d consumers.Delivery) (consumers.Effect, error) {
			if sku(d) == "LAST" {
				return g.Handle(ctx, d)
			}
			return consumers.Effect{}, nil
		}))
		last := w.event("LAST")
		<-g.entered
		w.fill(1, 12)
		w.eventually("all others are handled", func() bool { return worker.metric(w, "messages_total", "handled") == 12 })
		w.eventually("ten of them are deleted", func() bool { return worker.metric(w, "in_flight") == 3 })
		g.leave <- nil
		w.awaitEmpty()
		require.Equal(t, "done", w.inbox(last.ID, uuid.Nil).state)
		require.Equal(t, 2, calls.of("DeleteMessageBatch"))
	})
}

// With several receives and groups in hand a stop finishes what was begun and
// leaves the rest to others at once.
func TestStopWithMuchInHand(t *testing.T) {
	w := setup(t)
	w.fill(6, 20)
	h := newGated()
	worker := w.start(h, func(c *consumers.Config) { c.Concurrency = 4 })
	w.awaitHeld(worker, 40)
	worker.cancel()
	close(h.open)
	require.NoError(t, worker.stop())
	waiting, inFlight := w.counts(w.queue.URL)
	require.Equal(t, []int{120 - len(h.seen()), 0}, []int{waiting, inFlight})
	require.Equal(t, len(h.seen()), scan[int](w, `SELECT count(*) FROM inbox`))
	require.Zero(t, scan[int](w, `SELECT count(*) FROM inbox WHERE state <> 'done'`))
}

// swallow takes the answer of the first receive that brings messages, and cuts it.
type swallow struct {
	once  sync.Once
	taken chan struct{}
	cut   func(context.Context) error
}

func (s *swallow) wrap(next sqs.HTTPClient) sqs.HTTPClient {
	return doer(func(r *http.Request) (*http.Response, error) {
		if !isReceive(r) {
			return next.Do(r)
		}
		var err error
		s.once.Do(func() {
			answer, failed := next.Do(r.WithContext(context.WithoutCancel(r.Context())))
			if failed == nil {
				answer.Body.Close()
			}
			close(s.taken)
			err = errors.Join(failed, s.cut(r.Context()))
		})
		if err != nil {
			return nil, err
		}
		return next.Do(r)
	})
}

// A poll that a stop cuts may have taken messages: they are put back, not hidden.
func TestStopGivesBackWhatACutReceiveHasTaken(t *testing.T) {
	w := setup(t)
	e := w.event("G")
	s := &swallow{taken: make(chan struct{}), cut: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	client := w.through(s.wrap)
	worker := w.start(&recorder{}, func(c *consumers.Config) { c.SQS = client })
	<-s.taken
	require.NoError(t, worker.stop())
	waiting, inFlight := w.counts(w.queue.URL)
	require.Equal(t, []int{1, 0}, []int{waiting, inFlight})
	require.Empty(t, w.inbox(e.ID, uuid.Nil).state)
}

// The answer of a receive that gets lost is asked for again, long before the
// messages would be seen again by themselves.
func TestLostReceiveIsRepeated(t *testing.T) {
	w := setup(t)
	e := w.event("G")
	s := &swallow{taken: make(chan struct{}), cut: func(context.Context) error { return errOops }}
	client := w.through(s.wrap)
	w.start(&recorder{}, func(c *consumers.Config) { c.SQS, c.Visibility = client, time.Hour })
	w.await(e.ID, "done")
	w.awaitEmpty()
}

// One that the database refuses fails alone among those of its transaction.
func TestTogether(t *testing.T) {
	w := setup(t)
	quotients, errs := consumers.Divide(w.pool, 1, 2, 3)
	require.Equal(t, []int{12, 6, 4}, quotients)
	require.Equal(t, []error{nil, nil, nil}, errs)
	quotients, errs = consumers.Divide(w.pool, 1, 0, 3)
	require.Equal(t, []int{12, 0, 4}, quotients)
	require.NoError(t, errors.Join(errs[0], errs[2]))
	require.ErrorContains(t, errs[1], "division by zero")
	w.pool.Close()
	_, errs = consumers.Divide(w.pool, 1, 2)
	require.ErrorContains(t, errs[0], "closed pool")
	require.ErrorContains(t, errs[1], "closed pool")
}

// A database that does not answer the handler says nothing about the other side.
func TestHandlersDatabaseOpensNoCircuit(t *testing.T) {
	w := setup(t)
	r := &recorder{fail: func(consumers.Delivery) error { return consumers.DatabaseUnavailable(errOops) }}
	worker := w.start(r, func(c *consumers.Config) { c.CircuitFailures = 2 })
	for i := range 4 {
		w.event(fmt.Sprintf("G%d", i))
	}
	w.eventually("each was tried", func() bool {
		worker.comeBack(w)
		return r.called() >= 8
	})
	require.NoError(t, worker.Ready(t.Context()))
	require.NoError(t, worker.stop())
	require.Zero(t, scan[int](w, `SELECT sum(attempt) FROM inbox`))
}

// A right that is taken away from the role is noticed, as a database that is gone is: the
// worker takes no more, says so, and goes on once it is given back.
func TestInboxThatMayNotBeWritten(t *testing.T) {
	w := setup(t)
	h := &recorder{}
	worker := w.start(h, func(c *consumers.Config) { c.CircuitOpen = 50 * time.Millisecond })
	w.eventually("it is there", func() bool { return worker.metric(w, "polls") > 0 })
	require.NoError(t, worker.Ready(t.Context()))
	w.exec(`REVOKE INSERT ON inbox FROM restock_consumers`)
	w.fill(1, 1)
	w.eventually("it is noticed", func() bool { return worker.metric(w, "inbox_up") == 0 && worker.metric(w, "polls") == 0 })
	require.ErrorContains(t, worker.Ready(t.Context()), "restock_consumers may not write the inbox")
	require.ErrorContains(t, w.prepare(h).Run(t.Context()), "may not write the inbox", "none begins so")
	require.InDelta(t, 0, worker.metric(w, "inbox_up"), 0, "it was not taken for well meanwhile")
	w.exec(`GRANT INSERT ON inbox TO restock_consumers`)
	w.awaitEmpty()
	require.Len(t, h.seen(), 1)
	require.NoError(t, worker.Ready(t.Context()))
}
