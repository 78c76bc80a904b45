// Command relay measures the relay beside other ways to read an outbox: on one machine, in
// one run, on the same WAL, taking turns. What counts is the ratios; absolute figures
// belong to the machine. It ends with one line per figure (internal/figure).
//
//	go run ./bench/relay -h
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/restock-dev/restock/bench/internal/private"
	"github.com/restock-dev/restock/internal/localpg"
)

type options struct {
	Rounds     int      `default:"5" help:"How often each contender has its turn."`
	Rows       int      `default:"200000" help:"Rows of the backlog that is drained."`
	Only       []string `help:"Parts to run: drain, publish, latency, memory, replay, shards. Default all."`
	Contenders []string `help:"Contenders to run. Default all."`
	CPUProfile string   `help:"Write a CPU profile of this process to the file." type:"path" name:"cpuprofile"`
	Stub       bool     `hidden:"" help:"Be the stub that is published to."`
	DrainDSN   string   `hidden:"" help:"Drain the backlog of a slot of this database, for the part memory."`
	DrainSlot  string   `hidden:""`
	DrainRows  int      `hidden:""`
	Dir        string   `help:"Where to keep the private Postgres while it runs. Default a temporary directory." type:"path"`
}

// part is one kind of measurement. It prints figures and tells whether all goals were met.
type part struct {
	name string
	run  func(ctx context.Context, pg *localpg.Server, o options) (bool, error)
}

var parts = []part{{"drain", drain}, {"publish", publish}, {"latency", latency}, {"memory", memory}, {"replay", replay}, {"shards", shards}}

func main() {
	var o options
	kong.Parse(&o, kong.Description("Measures the relay beside other ways to read an outbox."))
	if o.CPUProfile != "" {
		f, err := os.Create(o.CPUProfile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(2)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	ok, err := run(ctx, o)
	stop()
	pprof.StopCPUProfile()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (ok bool, err error) {
	if o.Stub {
		return true, serveStub(ctx)
	}
	if o.DrainDSN != "" {
		return true, drainHere(ctx, o.DrainDSN, o.DrainSlot, o.DrainRows)
	}
	settings := map[string]string{"max_replication_slots": "40", "max_wal_senders": "20"}
	err = private.Run(ctx, o.Dir, true, settings, func(pg *localpg.Server) (err error) {
		ok, err = runParts(ctx, pg, o)
		return err
	})
	return ok, err
}

func runParts(ctx context.Context, pg *localpg.Server, o options) (bool, error) {
	ok := true
	for _, p := range parts {
		if len(o.Only) > 0 && !slices.Contains(o.Only, p.name) {
			continue
		}
		met, err := p.run(ctx, pg, o)
		if err != nil {
			return false, fmt.Errorf("%s: %w", p.name, err)
		}
		ok = ok && met
	}
	return ok, nil
}
