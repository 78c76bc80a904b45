package ops

import (
	"errors"
	"fmt"
)

// ErrReason is that nobody said why.
var ErrReason = errors.New("a reason is needed")

// RefusedError is why something is not done that was asked for: things stand so that it
// cannot be, and nothing failed.
type RefusedError struct{ why string }

func (e *RefusedError) Error() string { return e.why }

func refuse(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }
