package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/restock-dev/restock/internal/load"
)

// Which products a load is for.
const (
	onUniform = "uniform"
	onHot     = "hot"
)

// closedLoop is what a closed loop came to.
type closedLoop struct {
	Requests, Bought int
	Rate             float64 // checkouts a second
	CPU              float64 // of the loader, in us a checkout
}

// closedLoop loads the API for a turn from a process of its own, as restock load does;
// whatever is not bought fails it.
func (s *shop) closedLoop(ctx context.Context, on string, connections int, keys bool) (closedLoop, error) {
	cmd, err := thisProgram(ctx, "--load", s.url, "--load-on", on, "--products", strconv.Itoa(s.products), "--connections", strconv.Itoa(connections),
		"--turn", s.b.Turn.String(), "--keys="+strconv.FormatBool(keys))
	if err != nil {
		return closedLoop{}, err
	}
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, 5*time.Second
	out, err := cmd.Output()
	if err != nil {
		return closedLoop{}, errors.Join(ctx.Err(), fmt.Errorf("the loader: %w", err))
	}
	var l closedLoop
	if err := json.Unmarshal(out, &l); err != nil {
		return closedLoop{}, fmt.Errorf("the loader said %s: %w", out, err)
	}
	return l, allBought(l.Bought, l.Requests)
}

func allBought(bought, requests int) error {
	if bought < requests {
		return fmt.Errorf("%d of %d checkouts did not buy", requests-bought, requests)
	}
	return nil
}

// loadHere is the loader.
func loadHere(ctx context.Context, o options) error {
	pick := load.Hot(sku(0))
	if o.LoadOn == onUniform {
		pick = uniformly(o.Products)
	}
	before := cpuTime()
	r, err := load.Run(ctx, load.Config{URL: o.Load, Connections: o.Connections, For: o.Turn, Pick: pick, Keys: o.Keys})
	if err != nil {
		return err
	}
	l := closedLoop{Requests: r.Requests, Bought: r.Bought, Rate: r.Rate()}
	l.CPU = float64((cpuTime() - before).Microseconds()) / float64(max(r.Requests, 1))
	return errors.Join(json.NewEncoder(os.Stdout).Encode(l), ctx.Err())
}

// cpuTime is what this process has used of the machine.
func cpuTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func sku(n int) string { return "P-" + strconv.Itoa(n) }

// uniformly is load.Uniform without a list, which of a million products would cost the
// loader more than one of ten thousand.
func uniformly(products int) load.Pick {
	return func(r *rand.Rand) string { return sku(r.IntN(products)) }
}
