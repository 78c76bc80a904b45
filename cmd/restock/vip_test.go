package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/schema"
)

// vipStack is a stack with the customers database, its relay and the consumer
// that promotes.
type vipStack struct {
	*stack
	db             *pgtest.Database
	customers      *pgxpool.Pool // of the owner
	customersRelay *process
	vip            *process
	promotions     string // URL of a queue that gets every event
}

func newVIPStack(t *testing.T) *vipStack {
	t.Helper()
	s := &vipStack{stack: newStack(t)}
	s.promotions = s.subscribe()
	s.db, s.customers = newDatabase(t, customers)
	s.customersRelay = launch(t, append(slices.Clone(s.awsEnv), "RESTOCK_DATABASE_URL="+s.db.RoleDSN(schema.RoleRelay, password), "RESTOCK_TOPIC_ARN="+s.topic), "relay")
	s.vip = launch(t, append(slices.Clone(s.awsEnv), "RESTOCK_CUSTOMERS_DATABASE_URL="+s.db.RoleDSN(schema.RoleCustomers, password)),
		"consume", "vip", "--lease", "2s", "--visibility", "2s", "--log-level", "warn")
	s.sell(100_000, 10, "BULK")
	return s
}

// buy buys many for a customer and returns the order.
func (s *vipStack) buy(customer string, quantity int) uuid.UUID {
	s.t.Helper()
	res, err := http.Post(s.apiURL+"/checkout", "application/json", strings.NewReader(fmt.Sprintf(`{"sku":"BULK","quantity":%d,"customerId":%q}`, quantity, customer)))
	require.NoError(s.t, err)
	defer res.Body.Close()
	var order struct{ OrderID uuid.UUID }
	require.NoError(s.t, json.NewDecoder(res.Body).Decode(&order))
	require.Equal(s.t, http.StatusOK, res.StatusCode)
	return order.OrderID
}

// counted is a number of rows in the customers database.
func (s *vipStack) counted(sql string, args ...any) int {
	s.t.Helper()
	var n int
	require.NoError(s.t, s.customers.QueryRow(s.ctx, "SELECT count(*) FROM "+sql, args...).Scan(&n))
	return n
}

// published is how often each customer's promotion was published.
func (s *vipStack) published(want int) map[string]int {
	s.t.Helper()
	seen := map[string]int{}
	for {
		out, err := s.sqs.ReceiveMessage(s.ctx, &sqs.ReceiveMessageInput{QueueUrl: &s.promotions, MaxNumberOfMessages: 10})
		require.NoError(s.t, err)
		if len(out.Messages) == 0 && len(seen) >= want {
			return seen
		}
		var done []types.DeleteMessageBatchRequestEntry
		for i, m := range out.Messages {
			e, err := schema.Decode([]byte(*m.Body))
			require.NoError(s.t, err)
			if e.Type == schema.TypeCustomerPromoted {
				seen[e.Subject]++
			}
			done = append(done, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
		}
		if len(done) > 0 {
			_, err = s.sqs.DeleteMessageBatch(s.ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &s.promotions, Entries: done})
			require.NoError(s.t, err)
		}
	}
}

// promotedOnce waits until the order's customer is VIP by it and the world knows,
// and holds both to having happened once.
func (s *vipStack) promotedOnce(customer string, order uuid.UUID) {
	s.t.Helper()
	told := `outbox o JOIN ledger l ON l.day = o.day AND l.event_id = o.id AND l.outcome = 'published'
		WHERE o.type = 'customer.promoted' AND o.message_group = $1`
	s.eventually("the promotion is published", func() bool { return s.counted(told, customer) > 0 })
	s.eventually("the order is done", func() bool {
		return s.counted(`inbox i JOIN outbox o ON i.effect = o.id::text WHERE o.message_group = $1 AND i.state = 'done'`, customer) == 1
	})
	require.Equal(s.t, 1, s.counted(`customers WHERE id = $1 AND type = 'vip' AND promoted_by_order = $2`, customer, order))
	require.Equal(s.t, 1, s.counted(`outbox WHERE message_group = $1`, customer), "one event tells of it")
}

// TestKillAroundAPromotion kills the vip consumer, the relay of the customers
// database or that of the store with SIGKILL at each point on the way from an
// order to its customer's promotion being known. It is promoted once, and the
// event is published once.
func TestKillAroundAPromotion(t *testing.T) {
	t.Parallel()
	s := newVIPStack(t)
	// The store's outbox has the order under the customer, as the customers' has the promotion.
	inLedger := `outbox o JOIN ledger l ON l.day = o.day AND l.event_id = o.id WHERE o.message_group = $1`
	points := []struct {
		name    string
		reached func(customer string, event string) bool
	}{
		{"the order is committed", func(customer, _ string) bool { return s.count(`outbox WHERE message_group = $1`, customer) == 1 }},
		{"it is in the store's ledger", func(customer, _ string) bool { return s.count(inLedger, customer) == 1 }},
		{"the consumer has claimed it", func(_, event string) bool { return s.counted(`inbox WHERE event_id = $1::uuid`, event) == 1 }},
		{"the customer is VIP", func(customer, _ string) bool {
			return s.counted(`customers WHERE id = $1 AND type = 'vip'`, customer) == 1
		}},
		{"it is in the customers' ledger", func(customer, _ string) bool { return s.counted(inLedger, customer) == 1 }},
	}
	victims := map[string]*process{"vip": s.vip, "customers-relay": s.customersRelay, "relay": s.relay}
	want := map[string]int{}
	for name, victim := range victims {
		for i, point := range points {
			customer := fmt.Sprintf("%s-%d", name, i)
			t.Logf("kill -9 of %s when %s", name, point.name)
			order := s.buy(customer, 100)
			var event string
			require.NoError(t, s.pool.QueryRow(s.ctx, `SELECT id::text FROM outbox WHERE message_group = $1`, customer).Scan(&event))
			s.eventually(point.name, func() bool { return point.reached(customer, event) })
			victim.restart()
			s.promotedOnce(customer, order)
			want[customer] = 1
		}
	}
	require.Equal(t, want, s.published(len(want)))
	require.Equal(t, len(want), s.counted(`customers`))
	require.Zero(t, s.counted(`parked`))
	require.Zero(t, s.counted(`inbox WHERE state <> 'done'`))
	s.conserved()
	for _, p := range []*process{s.vip, s.customersRelay} {
		require.Zero(t, p.stop(), "a stop in order")
	}
}

// TestKillInsideAPromotion kills the consumer while its transaction waits for the
// customer's row: nothing of it remains, and its successor promotes.
func TestKillInsideAPromotion(t *testing.T) {
	t.Parallel()
	s := newVIPStack(t)
	_, err := s.customers.Exec(s.ctx, `INSERT INTO customers (id, name) VALUES ('c-1', '김하나')`)
	require.NoError(t, err)
	blocker, err := s.customers.Begin(s.ctx)
	require.NoError(t, err)
	_, err = blocker.Exec(s.ctx, `SELECT FROM customers WHERE id = 'c-1' FOR UPDATE`)
	require.NoError(t, err)
	order := s.buy("c-1", 100)
	s.eventually("the consumer is at the customer's row", func() bool {
		return s.counted(`pg_stat_activity WHERE datname = $1 AND usename = $2 AND wait_event_type = 'Lock'`, s.db.Name, schema.RoleCustomers) == 1
	})
	s.vip.kill()
	require.NoError(t, blocker.Rollback(s.ctx))
	s.eventually("its transaction is gone", func() bool {
		return s.counted(`pg_stat_activity WHERE datname = $1 AND usename = $2`, s.db.Name, schema.RoleCustomers) == 0
	})
	require.Zero(t, s.counted(`customers WHERE type = 'vip'`))
	require.Zero(t, s.counted(`outbox`))
	s.vip.start()
	s.promotedOnce("c-1", order)
	require.Equal(t, map[string]int{"c-1": 1}, s.published(1))

	// Too few units never arrive, and later orders tell nothing new.
	s.buy("c-2", 99)
	s.buy("c-1", 1000)
	s.eventually("the VIP's next order is done", func() bool { return s.counted(`inbox WHERE state = 'done'`) == 2 })
	require.Equal(t, 1, s.counted(`customers`))
	require.Equal(t, 1, s.counted(`outbox`))
}
