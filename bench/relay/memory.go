package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

const (
	memoryWindow = 64 << 20
	memoryLimit  = 2*memoryWindow + 48<<20 // as restock relay has it by default
	memoryBound  = 192 << 20
	callTime     = time.Millisecond // slower than reading, so that the window fills
)

// memory drains backlogs of different sizes, each by a process of its own with restock
// relay's defaults, and prints the most that it ever held, and how that grew.
func memory(ctx context.Context, pg *localpg.Server, _ options) (bool, error) {
	ok := true
	for _, load := range []struct {
		name                 string
		rows, perTransaction int
	}{
		{"1000_events", 1000, 1},
		{"1000000_events", 1_000_000, 100},
		{"one_transaction_of_500000", 500_000, 500_000},
	} {
		// A database for each, because in one whose ledger is of another slot the relay
		// sweeps before it streams.
		database := "memory_" + load.name
		if err := store(ctx, pg, database); err != nil {
			return false, err
		}
		b, err := newBacklog(ctx, pg, database, database, load.rows, load.perTransaction)
		if err != nil {
			return false, err
		}
		curve, err := drainApart(ctx, b)
		if err != nil {
			return false, err
		}
		for i, kib := range curve {
			figure.Print(os.Stdout, fmt.Sprintf("relay_memory_%s_after_%d_of_%d", load.name, i+1, len(curve)), "MiB", figure.Goal{}, kib/1024)
		}
		ok = figure.Print(os.Stdout, "relay_memory_"+load.name, "MiB", figure.AtMost(memoryBound>>20), curve[len(curve)-1]/1024) && ok
	}
	return ok, nil
}

// drainApart drains b in a process of its own, and returns the most memory that it had
// held after each quarter, in KiB.
func drainApart(ctx context.Context, b *backlog) (curve []float64, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "--drain-dsn", b.pg.RoleDSN(schema.RoleRelay, password, b.database), "--drain-slot", b.slot, "--drain-rows", strconv.Itoa(b.rows)) //nolint:gosec // it is this program
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(out)) {
		kib, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
		if err != nil {
			return nil, err
		}
		curve = append(curve, kib)
	}
	if len(curve) == 0 {
		return nil, errors.New("it printed nothing")
	}
	return curve, nil
}

// drainHere is what drainApart runs.
func drainHere(ctx context.Context, dsn, slot string, rows int) error {
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(memoryLimit)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &slowly{nowhere: newNowhere(rows)}
	r, err := relay.New(relay.Config{
		DSN: dsn, Slot: slot, Publication: schema.Publication, Publisher: p, Window: memoryWindow,
		Logger: zerolog.New(os.Stderr).Level(zerolog.WarnLevel),
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	for quarter := 1; quarter <= 4; quarter++ {
		for p.left.Load() > int64(rows-rows*quarter/4) {
			select {
			case err := <-ended:
				return errors.Join(errors.New("the relay ended"), err)
			case <-time.After(10 * time.Millisecond):
			}
		}
		kib, err := mostResident()
		if err != nil {
			return err
		}
		fmt.Println(kib)
	}
	cancel()
	return <-ended
}

// slowly leads nowhere, and takes its time.
type slowly struct{ *nowhere }

// Publish implements relay.Publisher.
func (s *slowly) Publish(ctx context.Context, events []schema.Event) ([]relay.Result, error) {
	time.Sleep(callTime)
	return s.nowhere.Publish(ctx, events)
}

// mostResident is the most memory that this process ever held, in KiB.
func mostResident() (int, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, after, _ := bytes.Cut(text, []byte("VmHWM:"))
	var kib int
	_, err = fmt.Sscan(string(after), &kib)
	return kib, err
}
