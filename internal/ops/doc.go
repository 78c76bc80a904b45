// Package ops answers what an operator asks: what the commands, the admin API
// and the console share.
//
//	dlq, err := ops.NewDLQ(ops.DLQConfig{Consumers: []ops.Consumer{…}, SQS: client})
//	...
//	listing, err := dlq.List(ctx)
//	report, err := dlq.Redrive(ctx, ops.Selection{Consumers: []string{"factory"}}, ops.RedriveOptions{})
//
// A Pipeline says where the databases and queues are, and makes all of these. What is not
// done because of how things stand is a RefusedError, or one of the errors that are named
// here; any other is a failure.
//
// # Dead-letter queues
//
// A consumer has two: the one that its worker sends dead events to, and the one
// of its subscription, where SNS puts what it could not deliver. Both are looked
// through together.
//
// A queue cannot be read without receiving from it. What is received is hidden
// from others until it is put back, which happens before a call returns, or, had
// the process to die first, when the visibility timeout runs out. Two operators
// at once never lose or repeat anything, but each sees only what the other does
// not hold; a report counts what was held elsewhere.
//
// Of a group, a FIFO queue gives out its first messages only, until those are
// gone: ten at most, and fewer where others filled the page. What is behind them
// is listed from the inbox and marked hidden. Only messages of the subscription's
// queue have no inbox row and cannot be known before their turn.
//
// # Redrive
//
// An event returns to its consumer's queue in three steps: its inbox row becomes
// failed with no attempts, committed; its message is sent, body, attributes and
// group as received; it is deleted from the dead-letter queue. Whatever falls
// between two steps, the message is still in the dead-letter queue and running
// the redrive again completes it. The send carries a deduplication id that was
// committed with the first step, so that it is the same when it is run again and
// another after another death. Should it repeat all the same, later than SQS
// remembers, the inbox lets the event be handled once. What the inbox says is
// done is deleted and not sent.
//
// Events of a group return in the order of their sequence, merged over both
// queues, the first of them first; the group stops at its first failure. Where
// an earlier event lies deeper in the queue than can be received, those in front
// of it are moved to the queue's end first, as copies before they are deleted.
// Messages without a sequence keep their place behind the one before them.
//
// An event that dies again is in the dead-letter queue again, and a redrive that
// is under way leaves it there.
//
// # Parked events
//
// What a relay could not publish is in the table parked, and the groups that are
// parked as such in parked_groups. Send and Skip change these rows and nothing
// else; the active relay carries a Send out, in order, and finishes it after any
// crash, also when nobody waits for it. Who asked, when, and why something was
// skipped is kept.
//
// # Replays
//
// A replay is a row with its items, which the active relay carries out; see its
// package. Start selects, plans and writes in one transaction, State tells how far it
// is, Cancel and Resume change the row. Selecting needs temporary tables, and none of
// it grows with what is selected but those. The row stays as the record of who replayed
// what, and how it ended.
//
// Without more, a selection means what is published. What is parked by itself and what
// the ledger does not know is replayed when asked for, and recorded as published then.
// What is held with its group is not: that is for Send.
//
// # Reconcile
//
// A Reconciler tells what is missing: events past the grace that are neither published
// nor parked, and events that were published before the grace and of which nothing came
// at a consumer that wants them. It compares by day: first sums of the ids on each side,
// which each database makes by itself, and the ids one by one only where two sums differ.
// Inboxes may be in another database, so these are merged as sorted streams then, in memory
// that grows with neither. What is found missing is
// looked up once more before it is said, so that what goes on meanwhile is not taken for
// a loss. What still waits in a queue past the grace is missing too: the databases do
// not tell it from what was lost.
//
// # Databases that cannot be reached
//
// With one of the two down, what does not need it is told all the same, and which it is
// and why stands beside it: Pipeline.Reached leaves it out of what is made from it then,
// and a Reconciler does so by itself. What cannot be told without it is an UnreachableError.
//
// # Lists
//
// A list that can be long comes in parts, see Cursor and Page. What is added meanwhile is
// in the part that it belongs to, or in none that was given already; nothing comes twice.
//
// # Trace and doctor
//
// A Tracer follows an event from its commit to its effects, and on to the events that it
// caused, from the databases alone. Examine checks what can be set up wrong, changes
// nothing, and gives with each thing that is not well the command or SQL that mends it.
//
// # Replenishments
//
// One that hangs can be cancelled, or asked for again by the very event that asked
// before. Both are kept with who, when and why.
//
// # Rights
//
// The databases are used as schema.RoleMaintenance, which reads the tables about
// events and changes what a redrive, a Send, a Skip, a replay and an act on a
// replenishment change. In SQS it takes the rights to receive, delete, change visibility, purge and send on the dead-letter
// queues and to send on the consumers' queues.
//
// Memory is bounded by the bodies held, not by what is in the queues.
package ops
