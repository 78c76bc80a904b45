package relay_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// accepted is what SNS took, of all relays together, in the order in which it did.
type accepted struct {
	mu    sync.Mutex
	order map[string][]uuid.UUID // by group
	under chan struct{}          // a token for each event that is committed and not accepted
}

type witnessed struct {
	relay.Publisher
	by *accepted
}

func (w witnessed) Publish(ctx context.Context, events []schema.Event) ([]relay.Result, error) {
	results, err := w.Publisher.Publish(ctx, events)
	w.by.mu.Lock()
	defer w.by.mu.Unlock()
	for i, r := range results {
		if r.Err == nil {
			w.by.order[events[i].Group] = append(w.by.order[events[i].Group], events[i].ID)
			select {
			case <-w.by.under:
			default: // it was accepted before
			}
		}
	}
	return results, err
}

// crew are relays of one outbox.
type crew struct {
	o      *outbox
	seen   accepted
	relays []*running
	change []func(*relay.Config)
}

func (o *outbox) startCrew(n int, change ...func(*relay.Config)) *crew {
	c := &crew{o: o, seen: accepted{order: map[string][]uuid.UUID{}, under: make(chan struct{}, 100)}}
	c.change = append(change, func(cfg *relay.Config) { cfg.Publisher = witnessed{cfg.Publisher, &c.seen} })
	for range n {
		c.relays = append(c.relays, o.start(c.change...))
	}
	o.eventually("all relays are there", func() bool {
		return o.count(`pg_stat_activity WHERE datname = current_database() AND application_name = left($1 || '_guard', 63)`, o.slot) == n
	})
	return c
}

// replace lets a relay die, and starts another.
func (c *crew) replace(i int) {
	_ = c.relays[i].stop()
	c.relays[i] = c.o.start(c.change...)
}

// reshard is the change to n shards.
func (o *outbox) reshard(n int) relay.ShardsChange {
	return relay.ShardsChange{
		DSN: o.pg.DSN(o.database), Slot: o.slot, Publication: schema.Publication, Shards: n, Pause: patience, Wait: patience,
		Say: func(what string) { o.t.Log(what) },
	}
}

func (o *outbox) shards(n int) {
	o.t.Helper()
	require.NoError(o.t, o.reshard(n).Run(o.ctx))
	o.requireShards(n)
}

// requireShards says that there are n shards, each with a relay, and nothing else.
func (o *outbox) requireShards(n int) {
	o.t.Helper()
	o.eventually("every shard has a relay", func() bool {
		return o.count(`pg_replication_slots WHERE database = current_database() AND active`) == n
	})
	require.Equal(o.t, n, o.count(`pg_replication_slots WHERE database = current_database()`))
	require.Equal(o.t, n, o.count(`shards WHERE state = 'serving' AND paused_until IS NULL`))
	require.Equal(o.t, n, o.count(`shards`))
	require.Equal(o.t, n, o.count(`pg_publication`))
	require.Equal(o.t, n, o.count(`watermarks`))
}

// cutOff runs a change again and again, each time cut off at another of the steps, until
// it is through.
func (o *outbox) cutOff(n int, at func(step string), steps ...string) {
	o.t.Helper()
	for _, last := range steps {
		cut := false
		change := o.reshard(n)
		if last == "paused" || last == "left" {
			change.Pause = time.Second // after which the relays go on by themselves
		}
		run := change.Steps(func(conn *pgx.Conn, step string) {
			if step == last && !cut {
				cut = true
				at(step)
				_ = conn.PgConn().Conn().Close() // as if it had been killed
			}
		}).Run
		err := run(o.ctx)
		for err != nil && !cut { // the relays of a slow machine take longer to leave
			err = run(o.ctx)
		}
		if !cut { // there was nothing left to do for it
			require.NoError(o.t, err)
			continue
		}
		require.Error(o.t, err)
		o.changeEnded()
	}
	o.shards(n)
}

// cutOffAt runs a change that is cut off at a step.
func (o *outbox) cutOffAt(n int, last string, with ...func(*relay.ShardsChange)) {
	o.t.Helper()
	change := o.reshard(n)
	for _, w := range with {
		w(&change)
	}
	require.Error(o.t, change.Steps(func(conn *pgx.Conn, step string) {
		if step == last {
			_ = conn.PgConn().Conn().Close() // as if it had been killed
		}
	}).Run(o.ctx))
	o.changeEnded()
}

// changeEnded waits until a change that was cut off has let go of what it held.
func (o *outbox) changeEnded() {
	o.t.Helper()
	o.eventually("its session has ended", func() bool {
		return o.count(`pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND (classid::bigint << 32 | objid::bigint) = hashtextextended('restock:shards:' || $1, 0)`, o.slot) == 0
	})
}

// load commits events of many groups, each written by one writer alone, so that the
// order in which they are committed is known, until stop is called. What is committed
// and not accepted by SNS yet is bounded.
func (c *crew) load(writers, groups int) (stop func() map[string][]uuid.UUID) {
	ctx, cancel := context.WithCancel(c.o.ctx)
	written := make([]map[string][]uuid.UUID, writers)
	var all sync.WaitGroup
	for w := range writers {
		written[w] = map[string][]uuid.UUID{}
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case c.seen.under <- struct{}{}:
				case <-ctx.Done():
					return
				}
				g := fmt.Sprintf("writer-%d-%d", w, i%groups)
				written[w][g] = append(written[w][g], c.o.commit(event(g, 50))...)
			}
		})
	}
	return func() map[string][]uuid.UUID {
		cancel()
		all.Wait()
		sum := map[string][]uuid.UUID{}
		for _, of := range written {
			maps.Copy(sum, of)
		}
		return sum
	}
}

func eventsIn(of map[string][]uuid.UUID) (n int) {
	for _, ids := range of {
		n += len(ids)
	}
	return n
}

// delivered takes n messages out of the queue, by group.
func (o *outbox) delivered(n int) map[string][]uuid.UUID {
	o.t.Helper()
	got := map[string][]uuid.UUID{}
	for taken := 0; taken < n; {
		messages := o.take()
		require.NotEmpty(o.t, messages, "%d of %d messages came", taken, n)
		for _, m := range messages {
			taken++
			g := m.Attributes["MessageGroupId"]
			got[g] = append(got[g], uuid.MustParse(m.Attributes["MessageDeduplicationId"]))
		}
	}
	return got
}
