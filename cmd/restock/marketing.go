package main

import (
	"github.com/restock-dev/restock/internal/localmarketing"
	"github.com/restock-dev/restock/internal/service"
)

type marketingCommand struct {
	Addr    string   `default:"127.0.0.1:9091" env:"RESTOCK_MARKETING_ADDR" help:"Where to listen; webhooks go to /webhooks."`
	Secrets []string `name:"secret" required:"" env:"RESTOCK_MARKETING_SECRETS" placeholder:"whsec_…" help:"Secrets of the webhooks, comma-separated; one signed with any of them is taken. They belong in the environment, not on the command line."`
}

// Run serves until a signal. What it holds goes with it.
func (c *marketingCommand) Run(inv *invocation) error {
	s, err := localmarketing.New(localmarketing.Config{Secrets: c.Secrets, Logger: inv.log.With().Str("part", "marketing").Logger()})
	if err != nil {
		return &setupError{err}
	}
	ln, err := listen(inv, "marketing", c.Addr)
	if err != nil {
		return err
	}
	return service.Run(inv, service.HTTP(ln, s.Handler()))
}
