package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/internal/localpg"
)

// contender reads a backlog to its end through a slot of its own.
type contender struct {
	name    string
	drain   func(ctx context.Context, b *backlog, slot string) error
	prepare func(ctx context.Context, b *backlog) error // not measured; nil is nothing
	share   int                                         // it drains only the share-th part; 0 is all
	against string                                      // whom it is measured against; "" is recvlogical
}

const (
	recvlogical    = "pg_recvlogical"
	recvlogicalTLS = "pg_recvlogical_tls"
)

var contenders = []contender{
	{name: recvlogical, drain: drainRecvlogical("disable")},
	{name: "restock", drain: drainRestock(asIs, withoutLedger)},
	{name: "restock_with_ledger", drain: drainRestock(asIs, withLedger)},
	{name: recvlogicalTLS, drain: drainRecvlogical("require")},
	{name: "restock_tls", drain: drainRestock(withTLS, withoutLedger), against: recvlogicalTLS},
	{name: "server_decode_alone", drain: drainNowhere},
	{name: "pglogrepl_loop", drain: drainPlainLoop},
	{name: "polling_skip_locked", drain: drainPolling, prepare: preparePolling},
	{name: "node_pg_logical_replication", drain: drainNode, prepare: prepareNode},
	{name: "watermill_sql", drain: drainWatermill, prepare: prepareWatermill, share: watermillShare},
}

// goals are the ratios to pg_recvlogical that the relay is to reach.
var goals = map[string]figure.Goal{
	"m1 restock": figure.AtLeast(2), "m100 restock": figure.AtLeast(1.5),
	"m1 restock_with_ledger": figure.AtLeast(1.9), "m100 restock_with_ledger": figure.AtLeast(1.3),
}

// drain lets the contenders take turns on two backlogs: one row per transaction, and a
// hundred.
func drain(ctx context.Context, pg *localpg.Server, o options) (bool, error) {
	debug.SetGCPercent(400) // as restock relay has it by default
	if err := errors.Join(store(ctx, pg, "drain"), offerTLS(ctx, pg)); err != nil {
		return false, err
	}
	ok := true
	for _, perTransaction := range []int{1, 100} {
		shape := fmt.Sprintf("m%d", perTransaction)
		b, err := newBacklog(ctx, pg, "drain", "backlog_"+shape, o.Rows, perTransaction)
		if err != nil {
			return false, err
		}
		met, err := drainInTurns(ctx, b, shape, o.Rounds, chosen(o.Contenders))
		if err != nil {
			return false, err
		}
		ok = ok && met
	}
	return ok, nil
}

// chosen are the contenders of the given names, or all, and always the one that the others
// are measured against.
func chosen(names []string) []contender {
	if len(names) == 0 {
		return contenders
	}
	return slices.DeleteFunc(slices.Clone(contenders), func(c contender) bool {
		return c.name != recvlogical && !slices.Contains(names, c.name)
	})
}

func drainInTurns(ctx context.Context, b *backlog, shape string, rounds int, contenders []contender) (bool, error) {
	speeds, cpu, server := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for round := range rounds + 1 {
		for _, c := range inOrder(contenders, round) {
			t, err := timed(ctx, b, c)
			if err != nil {
				return false, fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 { // the first only warms the caches
				rows := float64(b.rows / max(1, c.share))
				speeds[c.name] = append(speeds[c.name], rows/t.took.Seconds())
				cpu[c.name] = append(cpu[c.name], t.client.Seconds()*1e6/rows)
				server[c.name] = append(server[c.name], t.server.Seconds()*1e6/rows)
			}
		}
	}
	ok := true
	for _, c := range contenders {
		figure.Print(os.Stdout, fmt.Sprintf("relay_drain_%s_%s", shape, c.name), "rows/s", figure.Goal{}, speeds[c.name]...)
		figure.Print(os.Stdout, fmt.Sprintf("relay_drain_%s_%s_cpu", shape, c.name), "us/row", figure.Goal{}, cpu[c.name]...)
		figure.Print(os.Stdout, fmt.Sprintf("relay_drain_%s_%s_server_cpu", shape, c.name), "us/row", figure.Goal{}, server[c.name]...)
	}
	for _, c := range contenders {
		against := cmp.Or(c.against, recvlogical)
		if c.name == against || len(speeds[against]) == 0 {
			continue
		}
		ratios := slices.Clone(speeds[c.name])
		for i := range ratios {
			ratios[i] /= speeds[against][i]
		}
		name := fmt.Sprintf("relay_drain_%s_%s_vs_%s", shape, c.name, against)
		ok = figure.Print(os.Stdout, name, "ratio", goals[shape+" "+c.name], ratios...) && ok
	}
	return ok, nil
}

// inOrder turns the order round every other round, so that nobody always comes behind the
// same one.
func inOrder(contenders []contender, round int) []contender {
	turned := slices.Clone(contenders)
	if round%2 == 1 {
		slices.Reverse(turned)
	}
	return turned
}

// drained is how long a drain took, and the processor time that it took of this process
// and the clients that it ran, and of the server.
type drained struct{ took, client, server time.Duration }

func timed(ctx context.Context, b *backlog, c contender) (drained, error) {
	slot := "drain_" + c.name
	if err := b.copy(ctx, slot); err != nil {
		return drained{}, err
	}
	if c.prepare != nil {
		if err := c.prepare(ctx, b); err != nil {
			return drained{}, fmt.Errorf("prepare: %w", err)
		}
	}
	runtime.GC()
	serverBefore, err := serverTime(b.pg.Pid())
	if err != nil {
		return drained{}, err
	}
	started, clientBefore := time.Now(), processorTime()
	if err := c.drain(ctx, b, slot); err != nil {
		return drained{}, err
	}
	took, client := time.Since(started), processorTime()-clientBefore
	server, err := serverTime(b.pg.Pid())
	return drained{took, client, server - serverBefore}, err
}

func processorTime() (busy time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var used syscall.Rusage
		if err := syscall.Getrusage(who, &used); err != nil {
			panic(err) // it fails for a bad argument only
		}
		busy += time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	return busy
}
