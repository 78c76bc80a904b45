package main

import (
	"errors"
	"time"

	"github.com/restock-dev/restock/internal/localfactory"
	"github.com/restock-dev/restock/internal/service"
)

type factoryCommand struct {
	Addr       string        `default:"127.0.0.1:9090" env:"RESTOCK_FACTORY_ADDR" help:"Where to listen."`
	Latency    time.Duration `help:"Time from a request to its answer."`
	Delay      time.Duration `default:"3s" help:"Time from an answer to its callback."`
	ErrorRate  float64       `help:"Share of requests that are answered 500, from 0 to 1."`
	Duplicates float64       `help:"Share of productions whose callback is made twice, from 0 to 1."`
	IgnoreKey  bool          `help:"Take every request for a new production, whatever its Idempotency-Key."`
}

// Run serves until a signal.
func (c *factoryCommand) Run(inv *invocation) error {
	if c.Latency < 0 || c.Delay < 0 || c.ErrorRate < 0 || c.ErrorRate > 1 || c.Duplicates < 0 || c.Duplicates > 1 {
		return &setupError{errors.New("--latency and --delay must not be negative; --error-rate and --duplicates are shares from 0 to 1")}
	}
	ln, err := listen(inv, "factory", c.Addr)
	if err != nil {
		return err
	}
	f := localfactory.New(localfactory.Config{
		Latency: c.Latency, Delay: c.Delay, ErrorRate: c.ErrorRate, DuplicateRate: c.Duplicates, IgnoreKey: c.IgnoreKey,
		Logger: inv.log.With().Str("part", "factory").Logger(),
	})
	return service.Run(inv, f.Run, service.HTTP(ln, f.Handler()))
}
