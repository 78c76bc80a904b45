package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// loseSlot stops the relay and has Postgres remove the WAL that its slot needs.
func loseSlot(s *stage) error {
	if err := s.furnishDrill(0); err != nil {
		return err
	}
	half := s.cmd.Events / 2
	customers := s.cmd.Events / 5 // who buy before and after
	if err := s.buy(bulk(0, half, customers)); err != nil {
		return err
	}
	if err := s.settled(); err != nil {
		return err
	}
	s.stop("relay " + demoStore)
	s.tell("%d orders are published and handled; the store's relay is stopped", half)
	if err := s.buy(bulk(half, half, customers)); err != nil {
		return err
	}
	if err := s.asOwner(demoStore, s.invalidate); err != nil {
		return err
	}
	s.tell("%d more are made, and so much is written that max_slot_wal_keep_size is exceeded: the slot is lost", half)
	return nil
}

// invalidate fills WAL until the slot is lost. https://www.postgresql.org/docs/current/runtime-config-replication.html
func (s *stage) invalidate(conn *pgx.Conn) (err error) {
	defer func() { err = errors.Join(err, s.unbound(conn)) }()
	for _, sql := range []string{"ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(s.ctx, sql); err != nil {
			return err
		}
	}
	return s.until("the slot is lost", func() (lost bool, err error) {
		for _, sql := range []string{"SELECT pg_logical_emit_message(true, 'drill', repeat('x', 4194304))", "SELECT pg_switch_wal()", "CHECKPOINT"} {
			if _, err := conn.Exec(s.ctx, sql); err != nil {
				return false, err
			}
		}
		err = conn.QueryRow(s.ctx, `SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = $1`, s.slot()).Scan(&lost)
		return lost, err
	})
}

// unbound takes the bound away, also one that an earlier drill was stopped with.
func (s *stage) unbound(conn *pgx.Conn) error {
	ctx := context.WithoutCancel(s.ctx)
	for _, sql := range []string{"ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// startRelayAgain sees the slot lost, starts the relay, and sees it heal.
func startRelayAgain(s *stage) error {
	if _, err := s.operator(ill, "status"); err != nil {
		return err
	}
	if err := s.startRelay(demoStore); err != nil {
		return err
	}
	s.tell("the relay is started: it makes a new slot, and publishes what the ledger does not know before it streams")
	if err := s.settled(); err != nil {
		return err
	}
	if err := s.relayActive(); err != nil {
		return err
	}
	for _, command := range []string{"status", "reconcile"} {
		if _, err := s.operator(well, command); err != nil {
			return err
		}
	}
	return nil
}
