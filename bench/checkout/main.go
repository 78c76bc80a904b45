// Command checkout measures POST /checkout beside pgbench running the same work, on one
// machine, in one run, taking turns. What counts is the ratios; absolute figures belong
// to the machine. It ends with one line per figure (internal/figure).
//
//	go run ./bench/checkout -h
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/restock-dev/restock/bench/internal/private"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/service"
)

type options struct {
	Rounds    int           `default:"5" help:"How often each contender has its turn."`
	Turn      time.Duration `default:"4s" help:"How long a turn is."`
	GrownTurn time.Duration `default:"12s" help:"How long one of grown is, for the checkpoint before it not to be most of what is measured."`
	Only      []string      `help:"Parts to run: uniform, hot, latency, relay, grown. Default all."`
	Products  int           `default:"10000" help:"Products of the uniform load."`
	Rows      int           `default:"10000000" help:"Rows of the outbox that has grown."`
	Many      int           `default:"1000000" help:"Products of the shop that has grown."`

	Compression string `default:"lz4" help:"wal_compression of the private Postgres: lz4, or on where it was built without."`

	Dir     string `help:"Where to keep the private Postgres while it runs. Default a temporary directory." type:"path"`
	Profile string `help:"Write a CPU profile of the API, of the second turn of 32 uniform connections." type:"path"`

	Serve string `hidden:"" help:"Be the API on this database."`
	Relay string `hidden:"" help:"Be the relay on this database."`
	Slot  string `hidden:""`
	Load  string `hidden:"" help:"Be the loader of this API."`

	LoadOn      string `hidden:"" enum:"uniform,hot" default:"uniform"`
	Connections int    `hidden:""`
	Keys        bool   `hidden:""`
}

// part is one kind of measurement. It prints figures and tells whether all goals were met.
type part struct {
	name string
	run  func(ctx context.Context, b *bench) (bool, error)
}

var parts = []part{{"uniform", uniform}, {"hot", hot}, {"latency", latency}, {"relay", withRelay}, {"grown", grown}}

func main() {
	var o options
	kong.Parse(&o, kong.Description("Measures POST /checkout beside pgbench running the same work."))
	if o.Serve != "" || o.Relay != "" || o.Load != "" { // as restock api, relay and load do
		_ = service.SlackenTimers(os.Environ())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	ok, err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (ok bool, err error) {
	switch {
	case o.Serve != "":
		return true, serve(ctx, o.Serve)
	case o.Relay != "":
		return true, relayNowhere(ctx, o.Relay, o.Slot)
	case o.Load != "":
		return true, loadHere(ctx, o)
	}
	// min_wal_size is what docs/checkout.md advises, for no turn to make a segment.
	settings := map[string]string{"max_connections": "200", "min_wal_size": "4GB"}
	err = private.Run(ctx, o.Dir, true, settings, func(pg *localpg.Server) error {
		b := &bench{options: o, pg: pg}
		if err := b.compressWAL(ctx); err != nil {
			return err
		}
		if err := b.touchMemory(ctx); err != nil {
			return err
		}
		ok = true
		for _, p := range parts {
			if len(o.Only) > 0 && !slices.Contains(o.Only, p.name) {
				continue
			}
			met, err := p.run(ctx, b)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			ok = ok && met
		}
		return nil
	})
	return ok, err
}
