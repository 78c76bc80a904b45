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
// sqs.go -> group.go -> process.go -> inbox.go and one handler file.
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
// other side is down, not when the worker is told to stop.
//
// When the database or the other side is down the worker polls nothing, and
// resumes by trying one message.
//
// # Duplicates
//
// Effects in the database happen exactly once: they commit with the inbox row,
// which the attempt must still hold, and so does an event that tells of them. Calls to the outside happen at least once.
// One is repeated, with the same idempotency key, only where a crash or a cut
// fell between the call and its record, and that is counted as
// repeated_uncertain.
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
// # Shutdown
//
// When its context ends a worker takes no more, puts back at once what it has
// not begun, and gives the attempts in hand the grace period. Those that are
// not through by then are cut and give their attempt back, and their messages
// are put back. Run returns only after all of it, so a handler must end when its
// context does. A poll that is cut may have been answered already: such a
// message is seen again after its visibility timeout.
package consumers
