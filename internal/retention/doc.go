// Package retention removes what is past its time from the tables about events:
// whole partitions, a UTC day each, in every database with an outbox.
//
//	report, err := retention.Run(ctx, retention.Config{Databases: []retention.Database{
//		{Name: "store", DSN: store}, {Name: "customers", DSN: customers},
//	}})
//
// # When a day goes
//
// An outbox partition goes when its youngest event is 30 days old, which is longer
// than SQS keeps a message in a queue and then in its dead-letter queue. What
// explains its events (ledger, parked, inbox, effects) stays 15 days longer, and
// never goes before the outbox of its day, in whichever database.
//
// A day that is past its time stays, in all databases, while in any of them an event
// of it
//
//   - is not published: it is in no ledger, or it is parked and neither sent nor skipped;
//   - is still to be replayed;
//   - was published or replayed in the last 28 days, so that a queue or a dead-letter queue
//     may have it still: without its day no consumer could handle it;
//   - is dead in an inbox, or was begun by a consumer and not ended, unless it was handled
//     in a replay and no queue can have its message any more;
//   - might be read again, because a slot has not confirmed what its relay recorded.
//
// All databases are looked at together because an event of one outbox may be in the
// inbox of the other. Who leaves a database out takes it on himself that no event of
// the others is in it. A dead event that was settled by hand would hold its day for
// ever, so a day can be named as settled: it then goes in spite of what is dead or
// unended in it, and of nothing else.
//
// What a replay was made of, its row aside, goes when the replay has been over for as
// long as what explains an event stays.
//
// Idempotency keys of checkouts go after 24 hours, a batch at a time.
//
// # How
//
// DETACH CONCURRENTLY, then DROP, each under lock_timeout and tried again: no insert
// waits for either. It takes the owner of the tables. A partition is marked before it
// is detached, so that a run that was cut off anywhere is completed by the next, and
// a table that somebody else has detached, to keep it, is never dropped. Between the
// two steps all is looked at once more with the table locked; where something has
// come up, the partition is attached again.
//
// One run at a time: another finds a lock held, and does nothing.
package retention
