package main

import (
	"io"
	"os"
	"strings"

	"github.com/restock-dev/restock/internal/service"
)

// slacken begins the program again with slack timers, where the command that args ask for
// works hard and for long. What is wrong with args is said by run.
func slacken(args []string) {
	var c cli
	wantsHelp := false
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) { wantsHelp = true })
	if err != nil {
		return
	}
	kctx, err := parser.Parse(args)
	if err != nil || wantsHelp || !c.slackens(kctx.Command()) {
		return
	}
	_ = service.SlackenTimers(os.Environ()) // it works without, and nobody could mend it
}

// slackens tells whether a command gains by timers that may be late. An open loop would
// send its checkouts late.
func (c *cli) slackens(command string) bool {
	switch name, _, _ := strings.Cut(command, " "); name {
	case "api", "relay", "consume":
		return true
	case "load":
		return c.Load.Rate == nil
	}
	return false
}
