package ops_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

var everything = ops.Selection{All: true}

func TestListShowsEveryEventOnce(t *testing.T) {
	w := setup(t)
	// With the copy no more than one receive shows: what lies deeper in a group
	// stays hidden behind what is in hand.
	want := w.die(2, 4)
	first := want["G00"][0]
	// Sent twice, as after a crash.
	w.repeat(first)
	w.requireDead(9)
	for range 2 { // looking changes nothing
		events := w.list()
		require.Len(t, events, 8)
		for i, e := range events {
			require.Equal(t, want[e.Group][i%4], e.EventID, "by group and sequence")
			require.Equal(t, "factory", e.Consumer)
			require.Equal(t, "restock-factory-dlq.fifo", e.Queue)
			require.Equal(t, schema.TypeReplenishmentRequested, e.Type)
			require.Equal(t, "dead", e.State)
			require.Equal(t, 1, e.Attempts)
			require.Contains(t, e.Reason, "refused")
			require.Positive(t, e.Sequence)
			require.WithinDuration(t, time.Now(), e.Since, time.Minute)
		}
		require.Equal(t, 2, events[0].Messages)
		w.requireDead(9)
	}
	require.Empty(t, w.list("ads"))
	_, err := w.dlq.List(t.Context(), ops.Cursor{}, "nobody")
	require.ErrorContains(t, err, `no consumer "nobody"`)
}

// repeat puts another copy of an event's message into the dead-letter queue.
func (w *world) repeat(event uuid.UUID) {
	w.Helper()
	dossiers, err := w.dlq.Show(w.Context(), event)
	require.NoError(w, err)
	_, err = w.queues.SendMessage(w.Context(), &sqs.SendMessageInput{
		QueueUrl: &w.queue.DLQURL, MessageBody: &dossiers[0].Message, MessageGroupId: &dossiers[0].Group,
		MessageDeduplicationId: aws.String(schema.DeadLetterID(event, schema.QueueName("factory"), uuid.Nil, uuid.NewString())),
	})
	require.NoError(w, err)
}

func TestListKnowsWhatTheQueueHides(t *testing.T) {
	w := setup(t)
	want := w.die(2, 25)
	l, err := w.dlq.List(t.Context(), ops.Cursor{})
	require.NoError(t, err)
	require.Len(t, l.Events, 50)
	for i, e := range l.Events {
		require.Equal(t, want[e.Group][i%25], e.EventID)
		require.Equal(t, i%25 >= 10, e.Hidden())
	}
	require.Equal(t, ops.QueueCount{Queue: "restock-factory-dlq.fifo", Waiting: 50, Received: 20}, l.Queues[0])

	dossier, err := w.dlq.Show(t.Context(), want["G01"][20])
	require.NoError(t, err)
	require.True(t, dossier[0].Hidden())
	require.Contains(t, dossier[0].Event, want["G01"][20].String())
	require.Len(t, dossier[0].Effects, 1)
}

func TestShow(t *testing.T) {
	w := setup(t)
	want := w.die(2, 2)
	id := want["G01"][1]
	dossiers, err := w.dlq.Show(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, dossiers, 1)
	e := dossiers[0]
	require.Equal(t, id, e.EventID)
	require.Contains(t, e.Message, `"Notification"`, "as received")
	require.Contains(t, e.Event, "  \"id\": \""+id.String()+"\"", "out of its envelope, indented")
	require.Contains(t, e.Reason, "refused")
	require.Len(t, e.Effects, 1)
	require.Equal(t, "failed", e.Effects[0].Outcome)
	require.Contains(t, e.Message, "stock-increase/1?sig=redacted")
	require.NotContains(t, e.Message+e.Event, "secret", "with it anybody could raise the stock")
	_, err = w.dlq.Show(t.Context(), uuid.New())
	require.ErrorIs(t, err, ops.ErrNotDead)
	w.requireDead(4)
}

// TestShowWhatIsGone: the inbox goes on saying dead of what was purged, or expired. No
// queue has it, so it is not said to wait in one, where no redrive would find it.
func TestShowWhatIsGone(t *testing.T) {
	w := setup(t)
	id := w.die(1, 2)["G00"][1]
	_, err := w.dlq.Purge(t.Context(), "factory", "factory")
	require.NoError(t, err)
	_, err = w.dlq.Show(t.Context(), id)
	require.ErrorIs(t, err, ops.ErrNotDead)
}

func TestRedriveKeepsOrder(t *testing.T) {
	w := setup(t)
	want := w.die(30, 17) // more of a group than the queue shows
	var steps []ops.Progress
	report, err := w.dlq.Redrive(t.Context(), everything, ops.RedriveOptions{Progress: func(p ops.Progress) { steps = append(steps, p) }})
	require.NoError(t, err)
	require.Equal(t, 510, report.Count(ops.OutcomeSent))
	require.Len(t, report.Events, 510)
	require.Len(t, steps, 510)
	require.Equal(t, 510, steps[509].Done)
	require.Equal(t, 510, steps[509].Total)
	w.requireDead(0)
	require.Equal(t, map[string]int{"failed": 510}, w.states())
	f := &factory{}
	w.work(f)
	require.Equal(t, want, f.byGroup())
	require.Equal(t, 510, f.calls, "each once")
	require.Equal(t, 1, f.handled[0].Attempt, "with all of its attempts")
	require.Equal(t, map[string]int{"done": 510}, w.states())
	require.Empty(t, w.redrive(everything).Events)
}

// A message is sent back under its group, which an old SQS tells under the old name only.
func TestRedriveOnAnOldSQS(t *testing.T) {
	w := setup(t, func(c *ops.DLQConfig) {
		c.SQS = sqs.New(c.SQS.Options(), func(o *sqs.Options) { o.HTTPClient = localaws.OldSQS{Next: o.HTTPClient} })
	})
	want := w.die(2, 3)
	require.Equal(t, 6, w.redrive(everything).Count(ops.OutcomeSent))
	f := &factory{}
	w.work(f)
	require.Equal(t, want, f.byGroup())
}

func TestRedriveWithLittleMemory(t *testing.T) {
	w := setup(t, func(c *ops.DLQConfig) { c.Memory = 1 })
	want := w.die(4, 12)
	require.Equal(t, 48, w.redrive(everything).Count(ops.OutcomeSent))
	w.requireDead(0)
	f := &factory{}
	w.work(f)
	require.Equal(t, want, f.byGroup())
}

func TestDryRunChangesNothing(t *testing.T) {
	w := setup(t)
	w.die(2, 12)
	report, err := w.dlq.Redrive(t.Context(), everything, ops.RedriveOptions{DryRun: true})
	require.NoError(t, err)
	require.True(t, report.DryRun)
	require.Equal(t, 24, report.Count(ops.OutcomePlanned))
	w.requireDead(24)
	require.Equal(t, map[string]int{"dead": 24}, w.states())
	waiting, _ := w.counts(w.queue.URL)
	require.Zero(t, waiting)
}

func TestRedriveOfSomeEvents(t *testing.T) {
	w := setup(t)
	want := w.die(2, 25)
	// One at the head, one in sight, one far behind; in no order.
	picked := []uuid.UUID{want["G00"][22], want["G00"][3], want["G01"][0]}
	absent := uuid.New()
	report := w.redrive(ops.Selection{Events: append(picked, absent), Consumers: []string{"factory"}})
	require.Equal(t, 3, report.Count(ops.OutcomeSent))
	require.Equal(t, []uuid.UUID{absent}, report.Missing)
	w.requireDead(47)
	f := &factory{}
	w.work(f)
	require.Equal(t, map[string][]uuid.UUID{"G00": {want["G00"][3], want["G00"][22]}, "G01": {want["G01"][0]}}, f.byGroup())

	// The rest goes in its order although the queue has another by now, and is told
	// that later ones were handled.
	report = w.redrive(everything)
	require.Equal(t, 47, report.Count(ops.OutcomeSent))
	for _, e := range report.Events {
		require.Equal(t, e.Group == "G00" && slices.Index(want["G00"], e.EventID) < 22, e.NewerDone > 0, "%s %d", e.Group, e.Sequence)
	}
	w.work(f)
	rest := func(group string, without ...int) []uuid.UUID {
		var ids []uuid.UUID
		for i, id := range want[group] {
			if !slices.Contains(without, i) {
				ids = append(ids, id)
			}
		}
		return ids
	}
	require.Equal(t, append([]uuid.UUID{want["G00"][3], want["G00"][22]}, rest("G00", 3, 22)...), f.byGroup()["G00"])
	require.Equal(t, append([]uuid.UUID{want["G01"][0]}, rest("G01", 0)...), f.byGroup()["G01"])
	w.requireDead(0)
}

// An event that dies again after its redrive goes behind those that died later.
// Its place in the group is its sequence all the same.
func TestRedriveOrdersWhatDiedAgain(t *testing.T) {
	w := setup(t)
	want := w.die(1, 25)
	w.redrive(ops.Selection{Events: want["G00"][:2]})
	w.work(&factory{refuse: true})
	w.requireDead(25)
	require.Equal(t, 25, w.redrive(everything).Count(ops.OutcomeSent))
	f := &factory{}
	w.work(f)
	require.Equal(t, want, f.byGroup())
}

func TestRedriveSelection(t *testing.T) {
	w := setup(t)
	for _, s := range []ops.Selection{{}, {All: true, Consumers: []string{"factory"}}, {Consumers: []string{"nobody"}}} {
		_, err := w.dlq.Redrive(t.Context(), s, ops.RedriveOptions{})
		require.Error(t, err)
	}
}

// Copies that a crash left are sent once and deleted all.
func TestRedriveOfCopies(t *testing.T) {
	w := setup(t)
	want := w.die(1, 12)
	w.repeat(want["G00"][0])
	w.repeat(want["G00"][0])
	report := w.redrive(everything)
	require.Len(t, report.Events, 12)
	w.requireDead(0)
	f := &factory{}
	w.work(f)
	require.Equal(t, want, f.byGroup())
	require.Equal(t, 12, f.calls)
}

// Whatever a redrive is cut off by between two of its steps, what it leaves is
// completed by running it again: nothing is lost, each event is handled once.
func TestRedriveSurvivesCrashes(t *testing.T) {
	const send, remove = "SendMessage", "DeleteMessageBatch"
	cuts := map[string]localaws.Rule{
		"revived, not sent":      {Effect: localaws.Cut, Action: send, Resource: schema.QueueName("factory"), Count: 1},
		"sent, answer lost":      {Effect: localaws.DropAnswer, Action: send, Resource: schema.QueueName("factory"), Count: 1},
		"sent, not deleted":      {Effect: localaws.Cut, Action: remove, Resource: schema.DLQName("factory"), Count: 1},
		"deleted, answer lost":   {Effect: localaws.DropAnswer, Action: remove, Resource: schema.DLQName("factory"), Count: 1},
		"every entry refused":    {Effect: localaws.FailEntries, Action: remove, Resource: schema.DLQName("factory"), Count: 2},
		"not received":           {Effect: localaws.Cut, Action: "ReceiveMessage", Resource: schema.DLQName("factory"), Count: 1},
		"received, answer lost":  {Effect: localaws.DropAnswer, Action: "ReceiveMessage", Resource: schema.DLQName("factory"), Count: 1},
		"SQS away for a moment":  {Effect: localaws.InternalError, Service: "sqs", Count: 3},
		"the put back goes lost": {Effect: localaws.Cut, Action: "ChangeMessageVisibilityBatch", Count: 1},
	}
	for name, cut := range cuts {
		// What the worker does with what was sent before the redrive is run again.
		for between, worker := range map[string]*factory{"waits": nil, "handles": {}, "refuses": {refuse: true}} {
			t.Run(name+", worker "+between, func(t *testing.T) {
				w := setup(t)
				want := w.die(2, 3)
				w.aws.Faults().Add(cut)
				_, _ = w.dlq.Redrive(t.Context(), everything, ops.RedriveOptions{})
				w.aws.Faults().Clear()
				f := &factory{}
				if worker != nil {
					w.work(worker)
					if !worker.refuse {
						f = worker
					}
				}
				// A crash leaves them held until their visibility timeout.
				w.aws.Faults().ExpireVisibility(schema.DLQName("factory"))
				report := w.redrive(everything)
				require.Zero(t, report.Count(ops.OutcomeFailed))
				w.requireDead(0)
				w.work(f)
				require.Equal(t, want, f.byGroup(), "in order, each once")
				require.Equal(t, map[string]int{"done": 6}, w.states())
				w.requireDead(0)
			})
		}
	}
}

// The same where a redrive is told to stop after any of its events.
func TestRedriveStopsAnywhere(t *testing.T) {
	w := setup(t)
	want := w.die(3, 14)
	for stopped := 0; ; stopped++ {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := w.dlq.Redrive(ctx, everything, ops.RedriveOptions{Progress: func(p ops.Progress) {
			if p.Done == 5 {
				cancel()
			}
		}})
		cancel()
		waiting, held := w.counts(w.queue.DLQURL)
		require.Zero(t, held, "all is put back")
		if err == nil {
			require.Zero(t, waiting)
			require.Positive(t, stopped)
			break
		}
		require.True(t, errors.Is(err, context.Canceled), err)
	}
	f := &factory{}
	w.work(f)
	require.Equal(t, want, f.byGroup())
	require.Equal(t, 42, f.calls)
}

// An event that is redriven and dies again at once is in the dead-letter queue
// again, although SQS remembers its first death.
func TestDeadAgain(t *testing.T) {
	w := setup(t)
	w.die(1, 3)
	for range 3 {
		require.Equal(t, 3, w.redrive(everything).Count(ops.OutcomeSent))
		w.requireDead(0)
		w.work(&factory{refuse: true})
		w.requireDead(3)
		require.Equal(t, map[string]int{"dead": 3}, w.states())
	}
}

// What dies again while the redrive goes on is left where it is.
func TestDeadAgainMeanwhile(t *testing.T) {
	w := setup(t)
	w.die(1, 25)
	refusing := &factory{refuse: true}
	report, err := w.dlq.Redrive(t.Context(), everything, ops.RedriveOptions{Progress: func(p ops.Progress) {
		if p.Done == 3 {
			w.work(refusing) // those three are dead again, behind the rest
		}
	}})
	require.NoError(t, err)
	require.Equal(t, 25, report.Count(ops.OutcomeSent))
	require.Len(t, report.Events, 25)
	w.requireDead(3)
	w.work(&factory{})
	require.Equal(t, map[string]int{"dead": 3, "done": 22}, w.states())
}

func TestRedrivesAtOnceLoseNothing(t *testing.T) {
	w := setup(t)
	want := w.die(10, 15)
	other, err := ops.NewDLQ(w.cfg)
	require.NoError(t, err)
	ended := make(chan error, 3)
	for _, d := range []*ops.DLQ{w.dlq, other} {
		go func() {
			_, err := d.Redrive(t.Context(), everything, ops.RedriveOptions{})
			ended <- err
		}()
	}
	go func() {
		_, err := w.dlq.List(t.Context(), ops.Cursor{})
		ended <- err
	}()
	for range 3 {
		require.NoError(t, <-ended)
	}
	w.redrive(everything) // what none of them saw because the others held it
	w.requireDead(0)
	f := &factory{}
	w.work(f)
	require.Equal(t, 150, f.calls)
	for group, ids := range f.byGroup() {
		require.ElementsMatch(t, want[group], ids)
	}
}

func TestSubscriptionQueue(t *testing.T) {
	w := setup(t)
	// The first and the last of a group SNS could not deliver, and the one between died.
	first, between, last := w.append("G"), w.append("G"), w.append("G")
	w.publish(between)
	w.work(&factory{refuse: true})
	for _, e := range []schema.Event{first, last} {
		w.put(w.queue.SubscriptionDLQURL, "G", e.Body)
	}
	events := w.list("factory")
	require.Len(t, events, 3)
	require.Equal(t, "restock-factory-sub-dlq.fifo", events[0].Queue)
	require.Equal(t, first.ID, events[0].EventID)
	require.Empty(t, events[0].State, "no consumer has seen it")
	require.Contains(t, events[0].Reason, "SNS could not deliver it")
	require.Equal(t, "restock-factory-dlq.fifo", events[1].Queue)

	require.Equal(t, 3, w.redrive(ops.Selection{Consumers: []string{"factory"}}).Count(ops.OutcomeSent))
	f := &factory{}
	w.work(f)
	require.Equal(t, map[string][]uuid.UUID{"G": {first.ID, between.ID, last.ID}}, f.byGroup())
	waiting, held := w.counts(w.queue.SubscriptionDLQURL)
	require.Zero(t, waiting+held)
}

func TestWhatIsNoEvent(t *testing.T) {
	w := setup(t)
	w.put(w.queue.URL, "G", "hello <world>")
	e := w.event("G")
	w.work(&factory{refuse: true})
	w.put(w.queue.SubscriptionDLQURL, "G", `{"some":"json"}`) // and one that no worker saw
	events := w.list()
	require.Len(t, events, 3)
	i := slices.IndexFunc(events, func(d ops.DeadEvent) bool { return strings.Contains(d.Reason, "not an event") })
	require.GreaterOrEqual(t, i, 0, "its inbox row is found")
	poison := events[i]
	require.Empty(t, poison.Type)
	require.Equal(t, "dead", poison.State)
	dossier, err := w.dlq.Show(t.Context(), poison.EventID)
	require.NoError(t, err)
	require.Equal(t, "hello <world>", dossier[0].Message)
	require.Equal(t, map[string]string{"color": "blue? sig=redacted&more"}, dossier[0].Attributes)
	require.Empty(t, dossier[0].Event)

	// Redriven it dies again, as the same.
	require.Equal(t, 3, w.redrive(everything).Count(ops.OutcomeSent))
	w.work(&factory{})
	again := w.list()
	require.Len(t, again, 2)
	require.True(t, slices.ContainsFunc(again, func(d ops.DeadEvent) bool { return d.EventID == poison.EventID && d.State == "dead" }))
	require.Equal(t, map[string]int{"dead": 2, "done": 1}, w.states())
	require.NotEqual(t, e.ID, poison.EventID)
}

func TestPurge(t *testing.T) {
	w := setup(t)
	w.die(2, 3)
	_, err := w.dlq.Purge(t.Context(), "factory", "yes")
	require.ErrorContains(t, err, "not confirmed")
	w.requireDead(6)
	purged, err := w.dlq.Purge(t.Context(), "factory", "factory")
	require.NoError(t, err)
	require.Equal(t, 6, purged[0].Waiting)
	w.requireDead(0)
	require.Equal(t, map[string]int{"dead": 6}, w.states())
	require.Empty(t, w.list())
	_, err = w.dlq.Purge(t.Context(), "factory", "factory")
	require.ErrorContains(t, err, "less than a minute ago")
}
