package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

const (
	commitEvery = 5 * time.Millisecond
	commits     = 1000
	pollEvery   = 100 * time.Millisecond
)

// latency commits 200 rows a second, each by itself, and measures from the start of the
// commit until the stub has accepted the event; beside it how long the commit itself took.
func latency(ctx context.Context, pg *localpg.Server, o options) (bool, error) {
	address, stop, err := startStub(ctx)
	if err != nil {
		return false, err
	}
	defer stop()
	if err := store(ctx, pg, "latency"); err != nil {
		return false, err
	}
	pool, err := pgxpool.New(ctx, pg.DSN("latency"))
	if err != nil {
		return false, err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, `CREATE TABLE polled (id uuid PRIMARY KEY, message_group text, body text, published boolean DEFAULT false);
		CREATE INDEX ON polled (id) WHERE NOT published`); err != nil {
		return false, err
	}
	ok := true
	for _, c := range []struct {
		name     string
		p50, p99 figure.Goal
		publish  publishing
		insert   func(context.Context, schema.Event) error
	}{
		{
			"restock", figure.AtMost(2), figure.AtMost(3),
			func(ctx context.Context, a *arrivals, ready func()) error { return relayTo(ctx, pg, a, ready) },
			func(ctx context.Context, e schema.Event) error { return schema.Append(ctx, pool, e) },
		},
		{
			"polling_100ms", figure.Goal{}, figure.Goal{},
			func(ctx context.Context, a *arrivals, ready func()) error { return poll(ctx, pool, a, ready) },
			func(ctx context.Context, e schema.Event) error {
				_, err := pool.Exec(ctx, `INSERT INTO polled (id, message_group, body) VALUES ($1, $2, $3)`, e.ID, e.Group, e.Body)
				return err
			},
		},
	} {
		var p50, p99, ms50, ms99 []float64
		for range o.Rounds {
			l, err := latencies(ctx, address, c.publish, c.insert)
			if err != nil {
				return false, fmt.Errorf("%s: %w", c.name, err)
			}
			ms50, ms99 = append(ms50, l.accepted(50)*1000), append(ms99, l.accepted(99)*1000)
			p50, p99 = append(p50, l.accepted(50)/l.committed(50)), append(p99, l.accepted(99)/l.committed(99))
		}
		name := "relay_latency_" + c.name
		figure.Print(os.Stdout, name+"_p50", "ms", figure.Goal{}, ms50...)
		figure.Print(os.Stdout, name+"_p99", "ms", figure.Goal{}, ms99...)
		ok = figure.Print(os.Stdout, name+"_p50_vs_commit_p50", "ratio", c.p50, p50...) && ok
		ok = figure.Print(os.Stdout, name+"_p99_vs_commit_p99", "ratio", c.p99, p99...) && ok
	}
	return ok, nil
}

// publishing publishes until ctx ends. It calls ready when it has begun.
type publishing func(ctx context.Context, a *arrivals, ready func()) error

// arrivals is a publisher that notes when each event was accepted.
type arrivals struct {
	relay.Publisher
	mu  sync.Mutex
	at  map[uuid.UUID]time.Time
	all chan struct{} // closed when every commit has arrived
}

// Publish implements relay.Publisher.
func (a *arrivals) Publish(ctx context.Context, events []schema.Event) ([]relay.Result, error) {
	results, err := a.Publisher.Publish(ctx, events)
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, e := range events {
		if err == nil && results[i].Err == nil {
			a.at[e.ID] = now
		}
	}
	if len(a.at) == commits && a.all != nil {
		close(a.all)
		a.all = nil
	}
	return results, err
}

// measured holds seconds, each sorted.
type measured struct{ commits, accepts []float64 }

func (m measured) committed(percent int) float64 { return m.commits[(len(m.commits)-1)*percent/100] }
func (m measured) accepted(percent int) float64  { return m.accepts[(len(m.accepts)-1)*percent/100] }

func latencies(ctx context.Context, address string, publish publishing, insert func(context.Context, schema.Event) error) (m measured, err error) {
	sns, err := relay.NewSNS(relay.SNSConfig{AWS: stubConfig(address), TopicARN: topic, Conns: 16})
	if err != nil {
		return m, err
	}
	all := make(chan struct{})
	a := &arrivals{Publisher: sns, at: make(map[uuid.UUID]time.Time, commits), all: all}
	running, cancel := context.WithCancel(ctx)
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- publish(running, a, func() { close(begun) }) }()
	select {
	case <-begun:
	case err := <-ended:
		cancel()
		return m, err
	}

	started := make(map[uuid.UUID]time.Time, commits)
	ticker := time.NewTicker(commitEvery)
	defer ticker.Stop()
	for n := range commits {
		<-ticker.C
		e := schema.Event{
			ID: schema.NewID(), Type: "order.placed", Group: fmt.Sprintf("customer-%d", n),
			Attributes: map[string]schema.Attribute{"eventType": {Type: "String", Value: "order.placed"}}, Body: `{"specversion":"1.0","data":{}}`,
		}
		at := time.Now()
		if err := insert(ctx, e); err != nil {
			cancel()
			return m, errors.Join(err, <-ended)
		}
		m.commits = append(m.commits, time.Since(at).Seconds())
		started[e.ID] = at
	}
	select {
	case <-all:
	case err := <-ended:
		cancel()
		return m, errors.Join(errors.New("publishing ended"), err)
	}
	cancel()
	if err := <-ended; err != nil {
		return m, err
	}
	for id, at := range a.at {
		m.accepts = append(m.accepts, at.Sub(started[id]).Seconds())
	}
	slices.Sort(m.commits)
	slices.Sort(m.accepts)
	return m, nil
}

// relayTo runs a relay on a slot of its own.
func relayTo(ctx context.Context, pg *localpg.Server, a *arrivals, ready func()) error {
	dsn, slot := pg.DSN("latency"), "latency"
	if _, err := relay.CreateSlot(ctx, dsn, slot, schema.Publication, relay.PublishExisting, time.Minute); err != nil {
		return err
	}
	r, err := relay.New(relay.Config{
		DSN: pg.RoleDSN(schema.RoleRelay, password, "latency"), Slot: slot, Publication: schema.Publication,
		Publisher: a, Logger: zerolog.New(os.Stderr).Level(zerolog.WarnLevel),
	})
	if err != nil {
		return err
	}
	go func() {
		for r.Ready(ctx) != nil && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		ready()
	}()
	return r.Run(ctx)
}

// poll is what an outbox without a relay does.
func poll(ctx context.Context, pool *pgxpool.Pool, a *arrivals, ready func()) error {
	if _, err := pool.Exec(ctx, `TRUNCATE polled`); err != nil {
		return err
	}
	ready()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return pollOnce(ctx, tx, a) })
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func pollOnce(ctx context.Context, tx pgx.Tx, a *arrivals) error {
	rows, err := tx.Query(ctx, `SELECT id, message_group, body FROM polled WHERE NOT published ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED`)
	if err != nil {
		return err
	}
	waiting, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e schema.Event, err error) {
		return e, row.Scan(&e.ID, &e.Group, &e.Body)
	})
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(waiting, batchSize) {
		ids := make([]uuid.UUID, len(batch))
		for i, e := range batch {
			ids[i] = e.ID
		}
		if _, err := a.Publish(ctx, batch); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE polled SET published = true WHERE id = ANY($1)`, ids); err != nil {
			return err
		}
	}
	return nil
}
