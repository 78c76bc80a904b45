package main

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/internal/localaws"
)

// park has SNS refuse the events of one customer for good.
func park(s *stage) error {
	if err := s.furnishDrill(0); err != nil {
		return err
	}
	refused := bulk(0, 1, 1)[0].customer
	rule := s.aws.Faults().Add(localaws.Rule{
		Effect: localaws.FailEntries, Service: "sns", Action: "PublishBatch", Group: refused,
		Code: "InvalidParameter", Message: "Invalid parameter: data protection policy denies this message", SenderFault: true,
	})
	s.tell("a policy of the topic begins to refuse the events of one customer, %s", refused)
	customers := max(2, s.cmd.Events/10)
	if err := s.buy(bulk(0, s.cmd.Events, customers)); err != nil {
		return err
	}
	want := (s.cmd.Events + customers - 1) / customers
	err := s.until("they are parked", func() (bool, error) {
		n, err := s.count(demoStore, `parked WHERE state = 'parked'`)
		return n == want, err
	})
	if err != nil {
		return err
	}
	s.tell("%d events are parked, the other %d went through", want, s.cmd.Events-want)
	s.aws.Faults().Remove(rule)
	return nil
}

// sendParked finds what is parked, and why, and has it sent.
func sendParked(s *stage) error {
	if _, err := s.operator(ill, "status"); err != nil {
		return err
	}
	if _, err := s.operator(well, "parked", "list"); err != nil {
		return err
	}
	var group, first string
	err := s.asOwner(demoStore, func(conn *pgx.Conn) error {
		return conn.QueryRow(s.ctx, `SELECT message_group, event_id::text FROM parked WHERE state = 'parked' ORDER BY seq LIMIT 1`).Scan(&group, &first)
	})
	if err != nil {
		return err
	}
	if _, err := s.operator(well, "parked", "show", first); err != nil {
		return err
	}
	s.tell("the policy is mended; now the events may go")
	for _, command := range []string{"parked send --dry-run --group " + group, "parked send --group " + group} {
		if _, err := s.operator(well, strings.Fields(command)...); err != nil {
			return err
		}
	}
	_, err = s.operator(well, "trace", first)
	return errors.Join(err, s.settled())
}
