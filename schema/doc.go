// Package schema is what the parts of Restock agree on: the event contract in
// Go and the tables in SQL. It imports nothing of ours, and everything else
// imports it.
//
// # Events
//
// Each event is defined once, by a payload type in payload.go: its type name,
// its message group, its SNS subject and attributes, and the data it carries.
// New turns a payload into an Event, the row that a writer appends to the
// outbox in the transaction that made it true; Append is the only statement
// that writes one. The body is CloudEvents 1.0 JSON in structured mode. The
// database stamps its time, the relay puts the row's sequence in as its first
// member, and nothing else is ever added; Decode reads it back.
//
// # Interests
//
// What each consumer wants is defined once too, in interest.go: the SNS filter
// policy, the check a consumer repeats and the SQL that finds what a consumer
// should have had are three renderings of the same value.
//
// # Identity and order
//
// An event's id is its identity everywhere: outbox, ledger, inbox, SNS
// deduplication, idempotency keys. It never says anything about order. Order
// within a message group is commit order, which only the replication stream
// knows; sequence equals it where the writer held the group's row lock.
//
// # Days
//
// Every table about events is partitioned by the UTC day on which the event
// was committed by the database's clock, never by the day on which it was
// handled, so that whatever concerns one event leaves with it.
package schema
