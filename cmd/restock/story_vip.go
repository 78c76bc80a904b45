package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/internal/localmarketing"
	"github.com/restock-dev/restock/schema"
)

func (t *teller) buyMany() (err error) {
	t.from = time.Now()
	t.bulk, err = t.call(http.MethodPost, "/checkout", fmt.Sprintf(`{"sku":%q,"quantity":%d,"customerId":%q}`, demoBulkSKU, schema.DefaultVIPThreshold, demoCustomer))
	if err != nil {
		return err
	}
	t.say("checkout", "%d %s", t.bulk.status, t.bulk.Message)
	if t.bulk.status != http.StatusOK {
		return fmt.Errorf("buying %d at once: got %+v, want 200", schema.DefaultVIPThreshold, t.bulk)
	}
	return nil
}

// customerIsVIP looks into the customers database.
func (t *teller) customerIsVIP() error {
	return t.demo.asOwner(demoCustomers, func(conn *pgx.Conn) error {
		var order string
		err := t.until("the customer is VIP", func() (vip bool, err error) {
			err = conn.QueryRow(t.ctx, `SELECT type = 'vip', coalesce(promoted_by_order::text, '') FROM customers WHERE id = $1`, demoCustomer).Scan(&vip, &order)
			return vip, err
		})
		if err != nil {
			return err
		}
		t.say("vip", "%s is VIP by order %s", demoCustomer, order)
		if order != t.bulk.OrderID {
			return fmt.Errorf("promoted by order %s, want %s", order, t.bulk.OrderID)
		}
		err = t.until("the promotion is published", func() (published bool, err error) {
			err = conn.QueryRow(t.ctx, `SELECT EXISTS (SELECT FROM ledger l JOIN outbox o ON o.day = l.day AND o.id = l.event_id
				WHERE o.type = $1 AND l.outcome = 'published')`, schema.TypeCustomerPromoted).Scan(&published)
			return published, err
		})
		if err == nil {
			t.say("published", "%s of %s", schema.TypeCustomerPromoted, demoCustomer)
		}
		return err
	})
}

// marketingHears waits for the webhook, whose signature the pretend system has
// verified if it has it.
func (t *teller) marketingHears() error {
	var got []localmarketing.Received
	err := t.until("the marketing system hears of it", func() (bool, error) {
		got = t.demo.marketing.Received()
		return len(got) > 0, nil
	})
	if err != nil {
		return err
	}
	t.say("marketing", "webhook %s: %s is VIP", got[0].ID, got[0].CustomerID)
	if len(got) != 1 || got[0].CustomerID != demoCustomer {
		return fmt.Errorf("the marketing system heard %+v, want %s once", got, demoCustomer)
	}
	return nil
}
