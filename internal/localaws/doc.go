// Package localaws is a small, strict stand-in for AWS SNS, SQS and SES v2, for demos and tests. It serves their wire
// protocols over HTTP on one port and is used only through the AWS SDK, or the aws command, like the real thing:
//
//	server, err := localaws.Start(localaws.Config{})
//	defer server.Close()
//	topics := sns.NewFromConfig(server.AWSConfig())
//
// Delivery. A publish is delivered to every matching subscription before it is answered, so nothing is lost between a
// topic and its queues. What cannot be delivered goes to the subscription's dead-letter queue or is dropped, counted in
// Stats. Everything is in memory and ends with the Server.
//
// Order. Messages of one group are received in the order in which they were accepted, by topic and by queue alike. While
// one of a group's messages is in flight the rest of the group waits; a message given back, or whose visibility timeout
// lapsed, returns to its old place. Groups take turns.
//
// Duplicates. A deduplication id is remembered for five minutes after its first send, whatever happens to the message
// meanwhile; a repeat is answered like the first and delivers nothing. A message that is not deleted in time comes again.
//
// Shutdown. Close ends every receive that waits, finishes requests in hand, and returns when no goroutine is left.
//
// Time. Deduplication, visibility, delays and retention follow Config.Now; after moving an injected clock call Tick.
// How long a receive waits is real time.
//
// Failing on purpose. Faults drops answers, fails entries, throttles, delays, goes away and lets things expire. The same
// switches are at /_localaws over HTTP, which lists its routes.
//
// The stand-in is meant to be stricter than the services, never kinder. It refuses what they let pass: a parameter given
// twice, a value of one type compared with another type by a filter, a policy it
// does not understand. A queue without a policy that lets the topic in gets nothing from it. A batch with one bad entry is
// refused whole by SNS, as SNS does; single entries fail by Faults alone. It verifies no signatures, knows one account,
// keeps no rate limits, lets a queue's name be used again at once after its deletion, and treats a standard queue as
// FIFO queues of one message each.
package localaws
