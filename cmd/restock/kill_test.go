package main

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKillAtAnyPoint kills the relay, the consumer or the API with SIGKILL at
// each point of the story and starts it again. The story ends the same: one
// production order, the stock right, nothing lost, nothing twice.
func TestKillAtAnyPoint(t *testing.T) {
	t.Parallel()
	s := newStack(t, "--latency", "150ms", "--delay", "50ms")
	outboxHas := `outbox WHERE type = 'replenishment.requested' AND message_group = $1`
	points := []struct {
		name    string
		reached func(sku string) bool
	}{
		{"the request for more is committed", func(sku string) bool { return s.count(outboxHas, sku) == 1 }},
		{"it is in the ledger", func(sku string) bool {
			return s.count(`outbox o JOIN ledger l ON l.event_id = o.id WHERE o.type = 'replenishment.requested' AND o.message_group = $1`, sku) == 1
		}},
		{"the consumer has claimed it", func(sku string) bool {
			return s.count(`outbox o JOIN inbox i ON i.event_id = o.id WHERE o.message_group = $1`, sku) == 1
		}},
		{"the factory has taken it", func(sku string) bool { return len(s.productions(sku)) == 1 }},
		{"it is accepted", func(sku string) bool {
			return s.count(`replenishments WHERE sku = $1 AND state <> 'requested'`, sku) == 1
		}},
		{"it is delivered", func(sku string) bool {
			return s.count(`replenishments WHERE sku = $1 AND state = 'delivered'`, sku) == 1
		}},
	}
	victims := map[string]*process{"relay": s.relay, "consume": s.consume, "api": s.api}
	for name, victim := range victims {
		for i, point := range points {
			sku := fmt.Sprintf("%s-%d", name, i)
			t.Logf("kill -9 of %s when %s", name, point.name)
			s.sell(1, 5, sku)
			require.Equal(t, http.StatusOK, s.checkout(http.DefaultClient, sku, ""))
			require.Equal(t, http.StatusConflict, s.checkout(http.DefaultClient, sku, ""))
			s.eventually(point.name, func() bool { return point.reached(sku) })
			victim.restart()
			s.eventually("the stock is there", func() bool { return s.count(`products WHERE sku = $1 AND stock = 5`, sku) == 1 })
			require.Equal(t, http.StatusOK, s.checkout(http.DefaultClient, sku, ""))
			require.Len(t, s.productions(sku), 1, "one production order")
		}
	}
	s.settled()
	s.conserved()
	require.Equal(t, len(victims)*len(points), s.count(`replenishments`))
	for _, p := range []*process{s.api, s.relay, s.consume} {
		require.Zero(t, p.stop(), "a stop in order")
	}
}

// TestKillTheAPIWhileItSells kills the API again and again under load. Whatever a
// client was told, each order has its event and no unit is lost.
func TestKillTheAPIWhileItSells(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell(30, 20, "A", "B")
	stop := make(chan struct{})
	bought := make(chan int)
	for range 8 {
		go func() {
			n := 0
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for i := 0; ; i++ {
				select {
				case <-stop:
					bought <- n
					return
				default:
				}
				if s.checkout(client, []string{"A", "B"}[i%2], "") == http.StatusOK {
					n++
				}
			}
		}()
	}
	for range 5 {
		before := s.count(`orders`)
		s.eventually("it sells", func() bool { return s.count(`orders`) >= before+20 })
		s.api.restart()
	}
	close(stop)
	total := 0
	for range 8 {
		total += <-bought
	}
	s.settled()
	s.conserved()
	require.GreaterOrEqual(t, s.count(`orders`), total, "an order that was answered is not there")
}
