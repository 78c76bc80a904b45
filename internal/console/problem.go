package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/restock-dev/restock/internal/ops"
)

// refusal is why a request is not carried out, with the status that says so.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

func refused(status int, format string, args ...any) *refusal {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// unprocessable is a body that can be read and means nothing.
func unprocessable(err error) *refusal {
	return refused(http.StatusUnprocessableEntity, "%s", err.Error())
}

// meanings are what errors of ops mean to a client. Any other is a failure.
var meanings = map[error]int{
	ops.ErrSelection:       http.StatusUnprocessableEntity,
	ops.ErrNothingSelected: http.StatusUnprocessableEntity,
	ops.ErrMissing:         http.StatusUnprocessableEntity,
	ops.ErrReason:          http.StatusUnprocessableEntity,
	ops.ErrCursor:          http.StatusUnprocessableEntity,
	ops.ErrNoReplay:        http.StatusNotFound,
	ops.ErrNotParked:       http.StatusNotFound,
	ops.ErrNotDead:         http.StatusNotFound,
	ops.ErrUnknown:         http.StatusNotFound,
	ops.ErrNoReplenishment: http.StatusNotFound,
}

func statusOf(err error) int {
	if r := new(refusal); errors.As(err, &r) {
		return r.status
	}
	if errors.As(err, new(*ops.RefusedError)) {
		return http.StatusConflict
	}
	if errors.As(err, new(*ops.UnreachableError)) {
		return http.StatusServiceUnavailable
	}
	for known, status := range meanings {
		if errors.Is(err, known) {
			return status
		}
	}
	return http.StatusInternalServerError
}

// problem answers as the shop's API does.
// https://www.rfc-editor.org/rfc/rfc9457
func problem(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": text, "message": text}) // the client may be gone
}
