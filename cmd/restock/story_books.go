package main

import (
	"fmt"

	"github.com/jackc/pgx/v5"
)

// books are the sums of one database that must agree at the end.
type books struct {
	Outbox, Published, Parked, Handled, Unhandled int
}

// shopBooks are what the store has besides.
type shopBooks struct {
	Open      int
	Conserved bool
}

// booksAgree holds both databases to what the story did: each event that was
// committed is published, each that a consumer wants is handled, and no unit is
// lost.
func (t *teller) booksAgree() error {
	for _, b := range []struct {
		database string
		want     books
	}{
		{demoStore, books{Outbox: 5, Published: 5, Handled: 3}},
		{demoCustomers, books{Outbox: 1, Published: 1, Handled: 2}},
	} {
		if err := t.demo.asOwner(b.database, func(conn *pgx.Conn) error { return t.agree(conn, b.database, b.want) }); err != nil {
			return err
		}
	}
	if err := t.demo.asOwner(demoStore, t.shopAgrees); err != nil {
		return err
	}
	if n := len(t.demo.factory.Productions()); n != 1 {
		return fmt.Errorf("the factory has %d productions, want 1", n)
	}
	return nil
}

func (t *teller) agree(conn *pgx.Conn, database string, want books) error {
	var got books
	err := t.until("the books agree", func() (bool, error) {
		err := conn.QueryRow(t.ctx, `SELECT (SELECT count(*) FROM outbox),
			(SELECT count(*) FROM ledger WHERE outcome = 'published'),
			(SELECT count(*) FROM parked),
			(SELECT count(*) FROM inbox WHERE state = 'done'),
			(SELECT count(*) FROM inbox WHERE state <> 'done')`).
			Scan(&got.Outbox, &got.Published, &got.Parked, &got.Handled, &got.Unhandled)
		return got == want, err
	})
	if err != nil {
		return fmt.Errorf("%w: the books of %s say %+v, want %+v", err, database, got, want)
	}
	t.say("books", "%s: %d events committed, %d published, %d parked, %d handled here", database, got.Outbox, got.Published, got.Parked, got.Handled)
	return nil
}

func (t *teller) shopAgrees(conn *pgx.Conn) error {
	var got shopBooks
	want := shopBooks{Conserved: true}
	err := conn.QueryRow(t.ctx, `SELECT (SELECT count(*) FROM replenishments WHERE state IN ('requested', 'accepted')),
		(SELECT bool_and(initial_stock
			+ coalesce((SELECT sum(delivered_quantity) FROM replenishments r WHERE r.sku = p.sku), 0)
			- coalesce((SELECT sum(quantity) FROM all_order_lines o WHERE o.sku = p.sku), 0) = stock) FROM products p)`).
		Scan(&got.Open, &got.Conserved)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("the shop says %+v, want %+v", got, want)
	}
	t.say("books", "no replenishment is open, and stock is conserved")
	return nil
}
