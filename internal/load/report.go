package load

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

// Report is what came of a run.
type Report struct {
	Took        time.Duration
	Requests    int
	Bought      int
	Short       int // 409: out of stock, or in progress
	Unavailable int // 503
	Refused     int // any other answer
	Failed      int // no answer

	Orders []uuid.UUID // that were bought, where they are kept

	latencies []time.Duration
}

func (r *Report) add(o Report) {
	r.Requests += o.Requests
	r.Bought += o.Bought
	r.Short += o.Short
	r.Unavailable += o.Unavailable
	r.Refused += o.Refused
	r.Failed += o.Failed
	r.Orders = append(r.Orders, o.Orders...)
	r.latencies = append(r.latencies, o.latencies...)
}

func (r *Report) sort() { slices.Sort(r.latencies) }

// Rate is checkouts that were decided, by the second.
func (r *Report) Rate() float64 { return float64(r.Bought+r.Short) / r.Took.Seconds() }

// Latency is the one that a share q of the answers did not exceed.
func (r *Report) Latency(q float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[min(int(q*float64(len(r.latencies))), len(r.latencies)-1)]
}
