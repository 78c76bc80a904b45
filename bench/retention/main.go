// Command retention measures what old events cost those who buy: checkouts per second
// with an empty outbox, with one of many rows over 30 days, and with that one while
// days of it are being removed. All in one run, taking turns; what counts is the ratios.
// It ends with one line per figure (internal/figure).
//
//	go run ./bench/retention -h
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/restock-dev/restock/bench/internal/private"
	"github.com/restock-dev/restock/internal/localpg"
)

type options struct {
	Rows    int           `default:"10000000" help:"Rows of the full outbox, spread over 30 days."`
	Rounds  int           `default:"5" help:"How often each contender has its turn."`
	Turn    time.Duration `default:"5s" help:"How long a turn is, in slices of half a second."`
	Clients int           `default:"8" help:"Connections that buy."`
	Drop    int           `default:"2" help:"Days that are removed in one turn, each as large as one of the outbox."`
	Dir     string        `help:"Where to keep the private Postgres while it runs. Default a temporary directory." type:"path"`
}

func main() {
	var o options
	kong.Parse(&o, kong.Description("Measures what old events cost those who buy."))
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
	err = private.Run(ctx, o.Dir, true, map[string]string{"maintenance_work_mem": "256MB"}, func(pg *localpg.Server) (err error) {
		ok, err = fillAndCompare(ctx, pg, o)
		return err
	})
	return ok, err
}

func fillAndCompare(ctx context.Context, pg *localpg.Server, o options) (bool, error) {
	empty, err := newShop(ctx, pg, "empty")
	if err != nil {
		return false, err
	}
	full, err := newShop(ctx, pg, "full")
	if err != nil {
		return false, err
	}
	started := time.Now()
	if err := full.fill(ctx, o.Rows); err != nil {
		return false, fmt.Errorf("fill the outbox: %w", err)
	}
	fmt.Fprintf(os.Stderr, "%d rows in %s\n", o.Rows, time.Since(started).Round(time.Second))
	return compare(ctx, empty, full, o)
}
