package relay

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/internal/service"
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
