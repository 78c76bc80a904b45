// Package topology creates and finds Restock's resources on SNS and SQS: one
// FIFO topic, and for each consumer a queue, its dead-letter queue, and the
// dead-letter queue of its subscription, where SNS puts what it could not
// deliver.
//
// # Promises
//
// Create can be run again at any time, also after half of it failed and by two
// processes at once: it finds what exists, brings its attributes to what they
// should be and makes what is missing. It deletes nothing. A queue is allowed to
// receive from the topic before the topic is told of the queue, so no event
// falls between.
package topology
