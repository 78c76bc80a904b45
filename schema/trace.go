package schema

import "strings"

// TraceID is the trace id in a W3C traceparent, for log lines; empty where there
// is none. https://www.w3.org/TR/trace-context/#traceparent-header
func TraceID(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) < 4 || len(parts[1]) != 32 {
		return ""
	}
	return parts[1]
}
