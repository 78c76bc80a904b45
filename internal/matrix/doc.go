// Package matrix holds what the tests of consumers share that try each fault
// against each consumer: the consumers' events and effects, a front to what they
// call that fails on purpose and counts, and the table of what came of it.
//
//	s := matrix.NewSubject(t, schema.ConsumerFactory, owner, aws)
//	s.Outside.Up()
//	e := s.Event("CP-1")
//	...
//	got := s.Tally(e)
//
// What a cell counts is counted where it happened: effects in the databases and
// at the other side, calls and their idempotency keys at the other side, outcomes
// in the inbox. Nothing is taken from what a consumer says of itself.
package matrix
