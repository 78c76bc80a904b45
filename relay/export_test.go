package relay

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// testBackoff is short, and exactly its ceiling.
var testBackoff = service.Backoff{Initial: time.Second, Max: time.Minute, Rand: func() float64 { return 1 }}

// TestStore gives a test in this package a database with an outbox, as its owner. Where
// it comes from is known to package relay_test, which sets it.
var TestStore func(t *testing.T) *pgxpool.Pool

// Steps has a change tell each step that it has reached, on the connection that it uses.
func (c ShardsChange) Steps(reached func(conn *pgx.Conn, step string)) ShardsChange {
	c.step = reached
	return c
}

// Send makes a pipeline's call for a batch, and sums up its results.
func Send(ctx context.Context, to Publisher, events []schema.Event) (accepted, failed, throttled int, err error) {
	p := &pipeline{publisher: to, metrics: &metrics{publishSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "seconds"})}}
	results, err := p.send(ctx, events)
	t := count(results)
	return t.accepted, t.failed, t.throttled, err
}
