package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// shards measures what more relays give, against a stub that takes serviceTime for each
// call, and what each costs the database, whose every slot decodes all of the WAL. Then it
// changes their number under load.
func shards(ctx context.Context, pg *localpg.Server, o options) (bool, error) {
	debug.SetGCPercent(400) // as restock relay has it by default
	address, stop, err := startStub(ctx)
	if err != nil {
		return false, err
	}
	defer stop()
	const database = "shards"
	if err := store(ctx, pg, database); err != nil {
		return false, err
	}
	f := &fleet{pg: pg, database: database, stub: address + countedPath}
	if err := execute(ctx, pg.DSN(database), "CREATE SEQUENCE bench_ids"); err != nil {
		return false, err
	}
	if _, err := relay.CreateSlot(ctx, pg.DSN(database), f.slot(), schema.Publication, relay.RefuseExisting, time.Minute); err != nil {
		return false, err
	}
	for _, inFlight := range []int{4, 16} {
		if err := f.rates(ctx, o, inFlight); err != nil {
			return false, err
		}
	}
	return f.changes(ctx)
}

// fleet is an outbox and the relays that publish it, all in this process.
type fleet struct {
	pg       *localpg.Server
	database string
	stub     string
	calls    atomic.Int64 // of SNS
}

// counted counts the calls of a publisher.
type counted struct {
	relay.Publisher
	calls *atomic.Int64
}

func (c counted) Publish(ctx context.Context, events []schema.Event) ([]relay.Result, error) {
	c.calls.Add(1)
	return c.Publisher.Publish(ctx, events)
}

func (f *fleet) slot() string { return schema.SlotName(f.database) }

// rates drains a backlog with 1, 2 and 4 relays in turns.
func (f *fleet) rates(ctx context.Context, o options, inFlight int) error {
	counts := []int{1, 2, 4}
	rates, senders, backends, calls := map[int][]float64{}, map[int][]float64{}, map[int][]float64{}, map[int][]float64{}
	for range o.Rounds {
		for _, n := range counts {
			d, err := f.drain(ctx, n, o.Rows, inFlight)
			if err != nil {
				return fmt.Errorf("%d relays: %w", n, err)
			}
			rows := float64(o.Rows)
			rates[n] = append(rates[n], rows/d.took.Seconds())
			senders[n] = append(senders[n], d.senders.Seconds()*1e6/rows/float64(n))
			backends[n] = append(backends[n], (d.senders+d.others).Seconds()*1e6/rows)
			calls[n] = append(calls[n], float64(d.calls)*1e6/rows)
		}
	}
	for _, n := range counts {
		name := fmt.Sprintf("relay_shards_%d_in_flight_%d_relays_", inFlight, n)
		figure.Print(os.Stdout, name+"rate", "events/s", figure.Goal{}, rates[n]...)
		figure.Print(os.Stdout, name+"walsender_cpu_each", "us/committed-event", figure.Goal{}, senders[n]...)
		figure.Print(os.Stdout, name+"database_cpu", "us/event", figure.Goal{}, backends[n]...)
		figure.Print(os.Stdout, name+"publish_calls", "calls/million-events", figure.Goal{}, calls[n]...)
	}
	figure.Print(os.Stdout, fmt.Sprintf("relay_shards_%d_in_flight_2_vs_1", inFlight), "ratio", figure.Goal{}, ratios(rates[2], rates[1])...)
	figure.Print(os.Stdout, fmt.Sprintf("relay_shards_%d_in_flight_4_vs_1", inFlight), "ratio", figure.Goal{}, ratios(rates[4], rates[1])...)
	return nil
}

// emptied is what a backlog took: by the clock, and of processors in the walsenders and
// in the processes that write the ledger.
type emptied struct {
	took, senders, others time.Duration
	calls                 int64 // of SNS
}

func (f *fleet) drain(ctx context.Context, n, rows, inFlight int) (d emptied, err error) {
	stop, err := f.start(ctx, 4, inFlight, nil)
	if err != nil {
		return d, err
	}
	err = f.change(ctx, n)
	if stopped := stop(); err != nil || stopped != nil {
		return d, errors.Join(err, stopped)
	}
	if err := execute(ctx, f.pg.DSN(f.database), "TRUNCATE outbox, ledger", "SET synchronous_commit = off", fmt.Sprintf(loadSQL, rows, 1), "CHECKPOINT"); err != nil {
		return d, err
	}
	began, before := time.Now(), f.calls.Load()
	if stop, err = f.start(ctx, n, inFlight, nil); err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for recorded := 0; recorded < rows; time.Sleep(20 * time.Millisecond) {
		if recorded, err = ask[int](ctx, f.pg.DSN(f.database), `SELECT count(*) FROM ledger`); err != nil {
			return d, err
		}
	}
	d.took, d.calls = time.Since(began), f.calls.Load()-before
	if d.others, err = f.processorTime(ctx, `application_name LIKE '%\_ledger'`); err != nil {
		return d, err
	}
	d.senders, err = f.processorTime(ctx, `backend_type = 'walsender'`)
	return d, err
}

// processorTime is what some of the server's processes have used since they began.
func (f *fleet) processorTime(ctx context.Context, which string) (sum time.Duration, err error) {
	pids, err := ask[[]int](ctx, f.pg.DSN(f.database), `SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity WHERE `+which)
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		// Behind the name, which may hold anything, utime and stime are the 12th and 13th, in
		// hundredths of a second.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, field := range fields[11:13] {
			ticks, err := strconv.Atoi(field)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum, err
}

func (f *fleet) change(ctx context.Context, n int) error {
	return relay.ShardsChange{
		DSN: f.pg.DSN(f.database), Slot: f.slot(), Publication: schema.Publication, Shards: n,
		Say: func(what string) { fmt.Fprintln(os.Stderr, what) },
	}.Run(ctx)
}

// start starts n relays, each as a process of its own would be but for the process. stop
// ends them.
func (f *fleet) start(ctx context.Context, n, inFlight int, publisher relay.Publisher) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, n)
	for range n {
		to := publisher
		if to == nil {
			sns, err := relay.NewSNS(relay.SNSConfig{AWS: stubConfig(f.stub), TopicARN: topic, Conns: inFlight})
			if err != nil {
				cancel()
				return nil, err
			}
			to = counted{sns, &f.calls}
		}
		r, err := relay.New(relay.Config{
			DSN: f.pg.RoleDSN(schema.RoleRelay, password, f.database), Slot: f.slot(), Publication: schema.Publication,
			Publisher: to, InFlight: inFlight, Logger: zerolog.New(os.Stderr).Level(zerolog.WarnLevel), HeartbeatEvery: time.Second,
		})
		if err != nil {
			cancel()
			return nil, err
		}
		go func() { ended <- r.Run(ctx) }()
	}
	return func() (err error) {
		cancel()
		for range n {
			err = errors.Join(err, <-ended)
		}
		return err
	}, nil
}
