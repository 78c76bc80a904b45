package main

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

type localawsCommand struct {
	vipFlag
	Addr   string `default:"127.0.0.1:4566" env:"RESTOCK_AWS_ADDR" help:"Where to listen."`
	Region string `default:"ap-northeast-2" env:"RESTOCK_AWS_REGION" help:"Region in the names that it gives."`
	Empty  bool   `help:"Start without Restock's topic and queues."`
}

// Run serves until a signal. What it holds goes with it.
func (c *localawsCommand) Run(inv *invocation) error {
	s, err := localaws.Start(localaws.Config{Addr: c.Addr, Region: c.Region, Logger: inv.log.With().Str("part", "aws").Logger()})
	if err != nil {
		return &setupError{err}
	}
	closing := func(ctx context.Context) error {
		<-ctx.Done()
		return s.Close()
	}
	if !c.Empty {
		t, err := createTopology(inv, s, c.VIPThreshold)
		if err != nil {
			return err
		}
		inv.log.Info().Str("topic", t.TopicARN).Msg("topic and queues are there")
	}
	endpoint(inv, "aws", s.URL())
	return service.Run(inv, closing)
}

func createTopology(ctx context.Context, s *localaws.Server, vipThreshold int64) (topology.Topology, error) {
	cfg := s.AWSConfig()
	return topology.Create(ctx, sns.NewFromConfig(cfg), sqs.NewFromConfig(cfg), schema.Interests(vipThreshold))
}
