package load

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/restock-dev/restock/internal/service"
)

// afterFailure is how long a connection of a closed loop that got no answer waits. An API
// that is gone refuses as fast as this process can ask: each would be a failure, and the
// whole machine busy with them.
const afterFailure = 100 * time.Millisecond

// Config says how to check out.
type Config struct {
	// URL is where the API is.
	URL string
	// Connections is how many are kept open; each has one checkout under way.
	Connections int
	// Rate is checkouts a second of an open loop, not below 0. 0: a closed loop. Of those
	// that are due and not sent each is counted, so that one that is far beyond the API's
	// costs memory.
	Rate float64
	// For is how long. Checkouts under way at its end are waited for.
	For time.Duration
	// Pick chooses the product of a checkout.
	Pick Pick
	// Keys gives each checkout an Idempotency-Key of its own.
	Keys bool
	// KeepOrders keeps the ids of what was bought in the report.
	KeepOrders bool
	// Customers is how the customer of each checkout begins, of which each has one of its
	// own, so that an audit knows which orders are whose. Empty: they are anonymous.
	Customers string
	// Each is called after each answer, by many at once.
	Each func()
}

// due is when the n-th checkout of an open loop is due, after the beginning. What is due
// in more years than a Duration has is due never.
func (c Config) due(n int64) time.Duration {
	after := float64(n) / c.Rate * float64(time.Second)
	if after >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(after)
}

// worker is one connection and what it has seen.
type worker struct {
	cfg    Config
	client *client
	random *rand.Rand
	report Report
	back   time.Duration // after the beginning it came back from a checkout, later than the end and the next one's time
}

// Run checks out for the time that cfg says, or until ctx ends.
func Run(ctx context.Context, cfg Config) (Report, error) {
	workers := make([]*worker, cfg.Connections)
	for i := range workers {
		c, err := newClient(cfg.URL)
		if err != nil {
			return Report{}, err
		}
		defer c.close()
		workers[i] = &worker{cfg: cfg, client: c, random: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))} //nolint:gosec // G404: which product is no secret
	}
	if len(workers) == 0 {
		return Report{}, errors.New("no connections: give at least one")
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.For)
	defer cancel()
	var (
		all  sync.WaitGroup
		next atomic.Int64
	)
	start := time.Now()
	ended := make(chan time.Duration, 1)
	context.AfterFunc(ctx, func() { ended <- time.Since(start) })
	for _, w := range workers {
		all.Go(func() { w.work(ctx, start, &next) })
	}
	all.Wait()
	var sum Report
	back := workers[0].back
	for _, w := range workers {
		sum.add(w.report)
		back = min(back, w.back)
	}
	sum.leave(cfg, min(<-ended, cfg.For), back)
	sum.Took = time.Since(start)
	sum.sort()
	return sum, nil
}

func (w *worker) work(ctx context.Context, start time.Time, next *atomic.Int64) {
	for {
		from := time.Now()
		if w.cfg.Rate > 0 {
			due := start.Add(w.cfg.due(next.Add(1) - 1))
			if due.After(from) {
				if service.Sleep(ctx, due.Sub(from)) != nil {
					return
				}
				from = time.Now()
			} else {
				from = due
			}
		}
		if ctx.Err() != nil {
			w.back = time.Since(start)
			return
		}
		answered := w.checkout(from)
		if w.cfg.Each != nil {
			w.cfg.Each()
		}
		if !answered && w.cfg.Rate == 0 {
			_ = service.Sleep(ctx, afterFailure) // which the loop sees
		}
	}
}

// checkout tells whether there was an answer.
func (w *worker) checkout(from time.Time) bool {
	sku, _ := json.Marshal(w.cfg.Pick(w.random)) // a string always encodes; strconv.Quote's escapes are not all JSON's
	body := `{"sku":` + string(sku) + `}`
	if w.cfg.Customers != "" {
		body = `{"sku":` + string(sku) + `,"customerId":"` + w.cfg.Customers + uuid.NewString() + `"}`
	}
	key := ""
	if w.cfg.Keys {
		key = uuid.NewString()
	}
	status, answer, err := w.client.post("/checkout", key, body)
	w.report.Requests++
	if err != nil {
		w.report.Failed++
		return false
	}
	w.report.latencies = append(w.report.latencies, time.Since(from))
	switch status {
	case http.StatusOK:
		w.report.Bought++
		if w.cfg.KeepOrders {
			w.report.Orders = append(w.report.Orders, orderOf(answer))
		}
	case http.StatusConflict:
		w.report.Short++
	case http.StatusServiceUnavailable:
		w.report.Unavailable++
	default:
		w.report.Refused++
	}
	return true
}
