// Package consumers takes events from SQS queues and hands each to the handler
// of its consumer.
//
//	factory, err := consumers.NewFactory(consumers.FactoryConfig{URL: url, Pool: pool})
//	...
//	w, err := consumers.New(consumers.Config{Interest: interest, QueueURL: q, DLQURL: dlq, SQS: client, Pool: pool, Handler: factory})
//	...
//	return service.Run(ctx, w.Run)
//
// A handler does its call to the outside and says how to record it. It knows
// nothing of SQS, leases or retries: those are the worker's. A message goes
// poll.go -> sqs.go -> group.go -> process.go -> inbox.go and one handler file.
//
// Where something else receives, as for a Lambda function, the same worker
// handles what it is given: ProcessBatch.
//
// # Delivery
//
// A message is deleted only after its outcome is committed in the inbox: handled,
// or dead and sent to the dead-letter queue with its reason. No transaction is
// held across a call: an attempt claims its event under a lease, calls, and
// records, the last in one transaction with the handler's own rows. A failed
// message is tried again with exponential backoff, up to a number of attempts
// and an age. Attempts are counted in the inbox and only for failures of the
// event itself: not for those that wait behind it, not while the database or the
// other side is down, not when the worker is told to stop. A call that outlasts the
// deadline of its batch does count.
//
// When the database or the other side is down the worker begins no receive, and
// resumes by trying one message. A receive that waits at that moment may still
// bring messages, which are put back at once.
//
// # Flow
//
// An idle queue has one receive under way; one whose receives come back full gets
// more, up to Concurrency. No more is received than there is room for: ten
// messages for each group that may be worked on, since SQS gives as many of one
// group at once as it can, and about as many groups waiting as at work. Deletes
// are gathered by ten; fewer go as soon as no group is at work, so a message alone
// never waits, and after 50 ms in any case. Claims that are made while another is
// on its way to the inbox go together as the next round trip and commit, and so do
// the ends of attempts without rows of a handler's own. Under full load that is a
// little over 200 calls to SQS for 1,000 messages, 200 being the least there can be.
//
// # Duplicates
//
// Effects in the database happen exactly once: they commit with the inbox row,
// which the attempt must still hold, and so does an event that tells of them. Calls to the outside happen at least once.
// One is repeated, with the same idempotency key, only where a crash or a cut
// fell between the call and its record, and that is counted as
// repeated_uncertain.
//
// # Replays
//
// A message with the attribute replay carries an event that was published before,
// and has an inbox row of its own. A consumer that handled the event under any row
// skips it, without a new row; so does an event that comes after a replay of it was
// handled. A replay that forces is held against its own row only: it is handled once,
// however often it is delivered. What the handler itself would not do twice, it does
// not do for a replay either. A replay for one consumer is skipped by the others.
//
// # Order
//
// The events of a message group are handled in order, one at a time, and a group
// stops at its first failure; the rest wait behind it. Groups are independent. A
// dead event lets its group go on. The sequence that each event carries is
// watched: an event handled after a later one of its group is counted as an
// inversion. Sequences number a whole outbox, so a consumer cannot see gaps in
// those of one group; what is missing is found by comparing outbox and inbox.
//
// # Tracing
//
// Each delivery has a span in the trace of its event, and a call to the outside one
// below it, which the other side is told. Where nobody traces it is told the event's
// context instead, so that the trace goes on.
//
// # Shutdown
//
// When its context ends a worker takes no more, puts back at once what it has
// not begun, and gives the attempts in hand the grace period. Those that are
// not through by then are cut and give their attempt back, and their messages
// are put back. Run returns only after all of it, so a handler must end when its
// context does. A receive that is cut, by the stop or by the network, may have
// taken messages: they are asked for once more under the same attempt id, which a
// stop waits for up to a second, and put back. Where that fails as well they are
// seen again after their visibility timeout.
package consumers
