package relay

import "fmt"

// RefusedError is a set-up that the relay will not run on, because it would lose
// events or stall the database. Its text says the mend. Trying again does not
// help until somebody has done it.
type RefusedError struct{ text string }

func (e *RefusedError) Error() string { return e.text }

func refusal(format string, args ...any) error {
	return &RefusedError{text: fmt.Sprintf(format, args...)}
}
