package consumers

import (
	"errors"
	"time"
)

// What a handler's error means to the worker. One without any of these marks is
// a failure of this event that may pass: it counts as an attempt and is retried.

// Permanent marks an error that no retry will mend: the event is dead-lettered.
func Permanent(err error) error { return mark(err, permanent, 0) }

// RetryAfter marks an error that came with the wish to wait for d at least.
func RetryAfter(err error, d time.Duration) error { return mark(err, retryAfter, d) }

// Unavailable marks an error of the infrastructure that says nothing about the
// event: it never counts as an attempt.
func Unavailable(err error) error { return mark(err, unavailable, 0) }

// DatabaseUnavailable marks an Unavailable that is of our own database: it is not
// held against the other side.
func DatabaseUnavailable(err error) error { return mark(Unavailable(err), database, 0) }

// notThereYet marks the want of a row of our own database. It is an attempt, and not
// held against the other side, which was not asked.
func notThereYet(err error) error { return mark(err, database, 0) }

// Uncertain marks the failure of a call that may have been accepted all the
// same: a time-out, or a connection cut after the request was sent.
func Uncertain(err error) error { return mark(err, uncertain, 0) }

type kind int

const (
	permanent kind = iota
	retryAfter
	unavailable
	database
	uncertain
)

// failure is an error with a mark. Marks combine by wrapping.
type failure struct {
	err   error
	kind  kind
	after time.Duration
}

func mark(err error, k kind, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &failure{err: err, kind: k, after: after}
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// marked looks for a mark anywhere in err's chain.
func marked(err error, k kind) (*failure, bool) {
	for {
		var f *failure
		if !errors.As(err, &f) {
			return nil, false
		}
		if f.kind == k {
			return f, true
		}
		err = f.err
	}
}

func is(err error, k kind) bool {
	_, ok := marked(err, k)
	return ok
}
