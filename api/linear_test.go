package api_test

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// What was done to one product, and what the answer said.
type (
	deed struct {
		quantity int
		delivers bool
	}
	word struct {
		status int
		left   int
	}
)

// oneProduct is a shop of a single product: its state is the units left.
func oneProduct(stock int) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return stock },
		Step: func(state, input, output any) (bool, any) {
			stock, did, said := state.(int), input.(deed), output.(word)
			switch {
			case did.delivers:
				return said.left == stock+did.quantity, said.left
			case said.status == http.StatusOK:
				return stock >= did.quantity && said.left == stock-did.quantity, said.left
			default:
				return stock < did.quantity && said.left == stock, stock
			}
		},
	}
}

// Every answer about one product, a refusal too, is true of a moment between its
// request and its arrival, in one order that all answers share: of two processes,
// with deliveries between the checkouts.
func TestStockIsLinearizable(t *testing.T) {
	t.Parallel()
	const clients, each, stock = 8, 30, 60
	s := newShop(t)
	s.exec(`UPDATE products SET stock = $1, initial_stock = $1, reorder_quantity = 20 WHERE sku = $2`, stock, donut)
	other, _ := s.behind()
	var mu sync.Mutex
	var history []porcupine.Operation
	start := time.Now()
	do := func(client int, did deed, send func() answer) answer {
		called := time.Since(start)
		got := send()
		returned := time.Since(start)
		mu.Lock()
		defer mu.Unlock()
		history = append(history, porcupine.Operation{
			ClientId: client, Input: did, Call: called.Nanoseconds(), Return: returned.Nanoseconds(),
			Output: word{got.status, got.num("remainingStock")},
		})
		return got
	}
	delivered := sync.Map{}
	var all []func()
	for client := range clients {
		all = append(all, func() {
			shop := []*shop{s, other}[client%2]
			for n := range each {
				quantity := 1 + rand.IntN(4)
				got := do(client, deed{quantity: quantity}, func() answer {
					if client < 4 {
						return shop.buy(donut, quantity)
					}
					key := strconv.Itoa(client*each + n)
					return shop.once(key, `{"quantity":`+strconv.Itoa(quantity)+`}`)
				})
				if got.status != http.StatusConflict || rand.IntN(3) > 0 {
					continue
				}
				id := got.str("replenishmentId")
				if _, twice := delivered.LoadOrStore(id, true); twice {
					continue
				}
				count := one[int](s, `SELECT quantity FROM replenishments WHERE id = $1`, id)
				did := deed{quantity: count, delivers: true}
				do(client, did, func() answer {
					return s.deliver(s.api.CallbackURL(uuid.MustParse(id), donut, count), donut, strconv.Itoa(count))
				})
			}
		})
	}
	together(all...)
	for _, op := range history {
		require.Contains(t, []int{http.StatusOK, http.StatusConflict}, op.Output.(word).status)
	}
	require.Equal(t, porcupine.Ok, porcupine.CheckOperationsTimeout(oneProduct(stock), history, time.Minute))
	t.Logf("%d answers are linearizable", len(history))
	s.requireConserved()
}
