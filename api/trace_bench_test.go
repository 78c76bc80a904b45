package api

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func untraced() *call {
	r := httptest.NewRequest(http.MethodPost, "/checkout", nil)
	r.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	return &call{r: r}
}

// TestUntracedRequest: a request has a trace context, which is one string, and
// nothing else of tracing where nobody traces.
func TestUntracedRequest(t *testing.T) {
	c := untraced()
	require.InDelta(t, 1, testing.AllocsPerRun(100, func() {
		c.begin("/checkout")
		c.end("/checkout", http.StatusOK, nil)
	}), 0)
}

// BenchmarkTracingOff is what a request pays for tracing where nobody traces.
func BenchmarkTracingOff(b *testing.B) {
	c := untraced()
	b.ReportAllocs()
	for b.Loop() {
		c.begin("/checkout")
		c.end("/checkout", http.StatusOK, nil)
	}
}
