package main

import (
	"errors"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// loseMessages has half of the events handled, and loses the other half between the
// topic and the consumers.
func loseMessages(s *stage) error {
	half := s.cmd.Events / 2
	soldOut := half / 10
	customers := s.cmd.Events / 5 // who buy before and after
	if err := s.furnishDrill(2 * soldOut); err != nil {
		return err
	}
	buy := func(from, short int) error {
		return errors.Join(s.buy(bulk(from, half-soldOut, customers)), s.buy(inVain(short, soldOut)))
	}
	if err := errors.Join(buy(0, 0), s.settled()); err != nil {
		return err
	}
	s.tell("%d checkouts are made, and everything that follows from them has happened", half)
	s.stop(consumerNames()...)
	if err := errors.Join(buy(half, soldOut), s.published()); err != nil {
		return err
	}
	client := sqs.NewFromConfig(s.aws.AWSConfig())
	for _, q := range s.topology.Queues {
		if _, err := client.PurgeQueue(s.ctx, &sqs.PurgeQueueInput{QueueUrl: aws.String(q.URL)}); err != nil {
			return err
		}
	}
	s.tell("%d more, which the relay published: then the queues lost all that they held", half)
	return s.startConsumers(consumerNames()...)
}

// healing is a command that reconcile names.
var healing = regexp.MustCompile(`(?m)^ *heal: restock (.*)$`)

// replayWhatIsMissing has reconcile tell what is missing, and does what it says.
func replayWhatIsMissing(s *stage) error {
	if _, err := s.operator(well, "status"); err != nil {
		return err
	}
	s.tell("nothing waits, nothing is dead: only the books can tell")
	// What a replay brings may cause events of its own, which reconcile sees in their turn.
	out, err := s.operator(ill, "reconcile", "--grace", "1ns")
	if err != nil {
		return err
	}
	heals := healing.FindAllStringSubmatch(out, -1)
	if len(heals) == 0 {
		return errors.New("reconcile names no command that heals")
	}
	for _, heal := range heals {
		if _, err := s.operator(well, append(strings.Fields(heal[1]), "--rate", "0")...); err != nil {
			return err
		}
	}
	if err := s.settled(); err != nil {
		return err
	}
	_, err = s.operator(well, "reconcile", "--grace", "1ns")
	return err
}
