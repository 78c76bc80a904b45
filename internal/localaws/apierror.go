package localaws

import (
	"errors"
	"fmt"
	"net/http"
)

// apiError is an answer that refuses. code is what the service's own protocol calls it; SQS and SNS also have the
// name that the query protocol knows it by.
type apiError struct {
	code    string
	query   string // code in the query protocol; code where empty
	message string
	status  int  // 400 where zero
	fault   bool // the service's fault, not the sender's
}

func (e *apiError) Error() string { return e.queryCode() + ": " + e.message }

func (e *apiError) queryCode() string {
	if e.query != "" {
		return e.query
	}
	return e.code
}

func (e *apiError) httpStatus() int {
	if e.status == 0 {
		return http.StatusBadRequest
	}
	return e.status
}

func (e *apiError) faultName() string {
	if e.fault {
		return "Receiver"
	}
	return "Sender"
}

func refuse(code, format string, args ...any) *apiError {
	return &apiError{code: code, message: fmt.Sprintf(format, args...)}
}

// asAPIError gives every error a code; one without is ours.
func asAPIError(err error) *apiError {
	var e *apiError
	if errors.As(err, &e) {
		return e
	}
	return &apiError{code: "InternalError", message: err.Error(), status: http.StatusInternalServerError, fault: true}
}

// SNS.

func invalidParameter(format string, args ...any) *apiError {
	return refuse("InvalidParameter", "Invalid parameter: "+format, args...)
}

func parameterValueInvalid(format string, args ...any) *apiError {
	return refuse("ParameterValueInvalid", format, args...)
}

func notFound(what string) *apiError {
	return &apiError{code: "NotFound", message: what + " does not exist", status: http.StatusNotFound}
}

// SQS.

const queryPrefix = "AWS.SimpleQueueService."

func sqsError(code, format string, args ...any) *apiError {
	e := refuse(code, format, args...)
	switch code {
	case "QueueDoesNotExist":
		e.query = queryPrefix + "NonExistentQueue"
	case "QueueNameExists":
		e.query = "QueueAlreadyExists"
	case "BatchEntryIdsNotDistinct", "BatchRequestTooLong", "EmptyBatchRequest", "InvalidBatchEntryId", "MessageNotInflight",
		"PurgeQueueInProgress", "TooManyEntriesInBatchRequest", "UnsupportedOperation":
		e.query = queryPrefix + code
	}
	return e
}

func invalidParameterValue(format string, args ...any) *apiError {
	return &apiError{code: "InvalidParameterValueException", query: "InvalidParameterValue", message: fmt.Sprintf(format, args...)}
}

func missingParameter(name string) *apiError {
	return &apiError{code: "MissingRequiredParameterException", query: "MissingParameter", message: "The request must contain the parameter " + name + "."}
}

func handleIsInvalid(format string, args ...any) *apiError {
	e := sqsError("ReceiptHandleIsInvalid", format, args...)
	e.status = http.StatusNotFound
	return e
}

func invalidHandle(handle, reason string) *apiError {
	return invalidParameterValue("Value %s for parameter ReceiptHandle is invalid. Reason: %s.", clip(handle), reason)
}

func noSuchQueue() *apiError {
	return sqsError("QueueDoesNotExist", "The specified queue does not exist.")
}

var (
	errOverLimit   = &apiError{code: "OverLimit", message: "Too many messages are in flight.", status: http.StatusForbidden}
	errNotInFlight = sqsError("MessageNotInflight", "The message referred to is not in flight.")
)

// clip keeps what a client sent from filling an error message.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
