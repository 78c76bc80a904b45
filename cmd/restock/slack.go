package main

import (
	"io"
	"slices"
	"strings"

	"github.com/restock-dev/restock/internal/service"
)

// slacken begins the program again with slack timers, where the command that args ask for
// gains by it. What is wrong with args is said by run.
func slacken(args, env []string) {
	// Most commands are soon over, and should not be read twice.
	if slices.Contains(env, service.Slackened) || !maySlacken(args) {
		return
	}
	var c cli
	wantsHelp := false
	parser, err := newParser(&c, args, io.Discard, io.Discard, func(int) { wantsHelp = true })
	if err != nil {
		return
	}
	kctx, err := parser.Parse(args)
	if err != nil || wantsHelp || !c.slackens(kctx.Command()) {
		return
	}
	_ = service.SlackenTimers(env) // it works without, and nobody could mend it
}

// maySlacken tells whether args are worth to be read for it.
func maySlacken(args []string) bool {
	return slices.Contains(args, "api") || slices.Contains(args, "relay") || slices.Contains(args, "load")
}

// slackens tells whether a command gains by timers that may be late. An open loop would
// send its checkouts late.
func (c *cli) slackens(command string) bool {
	switch name, _, _ := strings.Cut(command, " "); name {
	case "api", "relay":
		return true
	case "load":
		return c.Load.Rate == nil
	}
	return false
}
