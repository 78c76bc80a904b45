package schema

import "strings"

// TraceID is the trace id in a W3C traceparent of version 00, empty where that is
// none. https://www.w3.org/TR/trace-context/#traceparent-header
func TraceID(traceparent string) string {
	const version, trace, parent, flags = 2, 32, 16, 2
	parts := strings.Split(traceparent, "-")
	if len(parts) != 4 {
		return ""
	}
	for i, length := range []int{version, trace, parent, flags} {
		if len(parts[i]) != length || strings.Trim(parts[i], "0123456789abcdef") != "" {
			return ""
		}
	}
	return parts[1]
}
