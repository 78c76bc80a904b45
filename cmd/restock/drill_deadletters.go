package main

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/schema"
)

// errBug is what a consumer with a bug says of every event.
var errBug = errors.New("customers: assignment to entry in nil map")

func withBug(consumers.Handler) consumers.Handler {
	return handlerFunc(func(context.Context, consumers.Delivery) (consumers.Effect, error) {
		return consumers.Effect{}, consumers.Permanent(errBug)
	})
}

// deadLetter has the vip consumer give up every event for some time, and then mends it.
func deadLetter(s *stage) error {
	if err := s.furnishDrill(0); err != nil {
		return err
	}
	s.stop(schema.ConsumerVIP)
	if err := s.startWrapped(withBug, schema.ConsumerVIP); err != nil {
		return err
	}
	s.tell("a version of the vip consumer with a bug is deployed")
	if err := s.buy(bulk(0, s.cmd.Events, s.cmd.Groups)); err != nil {
		return err
	}
	err := s.until("all are dead", func() (bool, error) {
		n, err := s.count(demoCustomers, `inbox WHERE consumer = $1 AND state = 'dead'`, schema.ConsumerVIP)
		return n == s.cmd.Events, err
	})
	if err != nil {
		return err
	}
	s.tell("%d events of %d groups are dead", s.cmd.Events, s.cmd.Groups)
	s.stop(schema.ConsumerVIP)
	if err := s.startConsumers(schema.ConsumerVIP); err != nil {
		return err
	}
	s.tell("a version without it is deployed")
	return nil
}

// redriveAll sees what is dead, and why, and returns it to the consumer.
func redriveAll(s *stage) error {
	if _, err := s.operator(ill, "status"); err != nil {
		return err
	}
	var first string
	err := s.asOwner(demoCustomers, func(conn *pgx.Conn) error {
		return conn.QueryRow(s.ctx, `SELECT event_id::text FROM inbox WHERE state = 'dead' ORDER BY event_id LIMIT 1`).Scan(&first)
	})
	if err != nil {
		return err
	}
	for _, command := range []string{"dlq list vip", "dlq show " + first, "dlq redrive --consumer vip"} {
		if _, err := s.operator(well, strings.Fields(command)...); err != nil {
			return err
		}
	}
	if err := s.settled(); err != nil {
		return err
	}
	_, err = s.operator(well, "status")
	return err
}
