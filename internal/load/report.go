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
	Unsent      int // of an open loop: due before its end, when every connection still waited

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

// leave counts what was due and never sent, because the first connection was back from
// what it waited for when the time was over. Each is a latency as long as it had waited
// by then: a stall that lasts to the end shows as any other.
// What would have been due after the end is not of this run.
func (r *Report) leave(cfg Config, end, back time.Duration) {
	if cfg.Rate == 0 || back == 0 {
		return
	}
	for n := int64(r.Requests); cfg.due(n) < min(back, end); n++ {
		r.Unsent++
		r.latencies = append(r.latencies, back-cfg.due(n))
	}
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
