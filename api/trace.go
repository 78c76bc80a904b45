package api

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"regexp"
	"strings"
)

// traceparent is a W3C trace context, version 00:
// 00-<trace id>-<parent id>-<flags>, in lower-case hexadecimal.
// https://www.w3.org/TR/trace-context/#traceparent-header
type traceparent string

var validTraceparent = regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$`)

// traceOf takes the caller's trace context, or begins a new one where there is
// none that is valid, so that every event has one.
func traceOf(r *http.Request) traceparent {
	values := r.Header.Values("Traceparent")
	if len(values) != 1 {
		return newTrace()
	}
	if t, ok := parseTraceparent(values[0]); ok {
		return t
	}
	return newTrace()
}

func parseTraceparent(s string) (traceparent, bool) {
	// A later version may append fields; what precedes them is read as version 00.
	m := validTraceparent.FindStringSubmatch(s)
	switch {
	case m == nil, m[1] == "ff", m[1] == "00" && m[5] != "":
		return "", false
	case strings.Trim(m[2], "0") == "", strings.Trim(m[3], "0") == "":
		return "", false
	}
	return traceparent("00-" + m[2] + "-" + m[3] + "-" + m[4]), true
}

func newTrace() traceparent {
	var ids [24]byte
	_, _ = rand.Read(ids[:]) // never fails
	return traceparent("00-" + hex.EncodeToString(ids[:16]) + "-" + hex.EncodeToString(ids[16:]) + "-01")
}

// traceID is the part that all of one trace share.
func (t traceparent) traceID() string { return string(t[3:35]) }
