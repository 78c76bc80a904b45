// Package relay publishes an outbox table to SNS FIFO by logical replication.
// It is a library, and knows nothing of what the events mean: any table with
// the outbox's columns that stands in a publication, any FIFO topic.
//
//	stream -> window -> ledger look-up -> lanes -> batches -> SNS
//	   ^                                                       |
//	   +---- confirm <- cursor <- ledger <---------------------+
//
// # Another outbox
//
// The table may have any name and be in any schema, and have its columns in any order and
// others beside them: day date, id uuid and seq bigint, NOT NULL each; type,
// message_group, subject, attributes ({"name": {"type", "value"}}, as jsonb), body and
// traceparent. None is a generated column, which Postgres replicates from version 18 only.
// day is the UTC day of the commit: the ledger has partitions for those days only. The
// relay's role may read every row of it. One database has one outbox, because ledger,
// parked events and replays are the database's: schema.MigrateStore makes them in the
// schema public. CREATE PUBLICATION … FOR TABLE … WITH (publish = 'insert',
// publish_via_partition_root) comes next, then CreateSlot, then New and Run. What is set
// up otherwise is refused by a RefusedError, which says the mend.
//
// # Delivery
//
// A committed row is published at least once, an aborted one never. What SNS
// will never take is parked with its reason, visible in the table parked, and
// counts as dealt with. Postgres is told that a position is flushed only when
// every transaction up to it is published or parked and the ledger says so
// durably; a position once reported never goes back.
//
// # Order
//
// Within a message group events are published in commit order: at most one
// entry of a group is in flight, and one that fails holds its own group and no
// other. Between groups there is no order. A group therefore publishes at most
// one event per round trip to SNS; many groups publish side by side.
//
// # Parking
//
// A group whose events are refused for Config.HoldAfter while those of others are
// accepted is parked: the event at its head and all that follow, in order, so that
// window and slot move on. It stays parked, also for the next relay, until somebody
// asks for its release in the table parked_groups; then its events go out in the
// order in which they were parked, and those that come meanwhile behind them. While
// nothing at all is accepted, nothing is parked for failing: that is an outage. But what
// is left of a release, and is one group that the publisher answers and refuses for the
// hold, is parked again: whoever asked for it waits.
//
// # Replays
//
// A replay publishes events of the outbox once more: a row of the table replays, and
// its items, which the active relay carries out, one replay at a time. Its events go
// through the same lanes, so that at most one entry of a group is in flight, live or
// replayed. They carry the attribute replay and a deduplication id of the event and the
// replay, so that SNS takes them as new, and drops what one replay sends twice.
//
// The events of one replay keep their order within a group, by seq; so do the live
// ones, by commit. Between the two there is none but this: what is replayed was
// published before, so a group that is live and replayed at once shows older events
// between newer ones, to all that do not skip what they have handled. An event that was
// not published yet may so come by its replay before the stream brings it, which then
// publishes it all the same.
//
// A live event waits for the items of its group that are in its lane: one second of
// the replay's rate, and never more than 2,000. How far a replay is stands in its row,
// up to the first item that is not dealt with; a crash repeats what is behind that, at
// most 2,000 items. A replay parks nothing and is held up by no group for longer than
// HoldAfter: what cannot be published has its error, and the rest goes on. While a sweep
// reads the outbox no replay goes on.
//
// # Shards
//
// An outbox may be split by a stored hash of the message group into shards, each with a
// slot, a publication with a filter, and one relay at a time (Shard). Relays started
// with the same Config.Slot share them: each takes one that is free. All that is said
// here of a slot holds for each shard by itself, and all that is said of a group for the
// outbox, also while ShardsChange changes their number.
//
// # Duplicates
//
// A crash between SNS's answer and the ledger's commit, a lost answer, or a
// slot that went back with a crashed server make the relay meet an event again.
// It skips what the ledger holds; what it does send again carries the same
// deduplication id, which SNS drops for five minutes and a consumer's inbox
// for as long as the event exists.
//
// # Tracing
//
// SNS makes spans where it is given a provider (SNSConfig.Tracing): for each event one
// in the trace of who wrote it, and one for each call, linked with those. The events
// themselves are not changed.
//
// # Stopping
//
// Run takes no more, lets what is in flight finish under StopTimeout, records
// it, confirms it and closes. When Postgres itself shuts down, the replication
// connection is closed at once, because a walsender that waits for
// confirmations would keep the server from ever stopping.
package relay
