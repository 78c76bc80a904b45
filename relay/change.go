package relay

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// ShardsChange splits an outbox into another number of shards while its relays run.
//
// The new slots are made first, beside the old ones, which the relays go on to publish.
// Once all that was committed before the last new slot is published and recorded, the
// relays are asked to leave, and with the lock of every old slot held the new shards
// take the place of the old ones, in one transaction. A relay then streams from a new
// slot, and finds in the ledger what was published of it already. So no event is passed
// over, and none of a group is sent by one relay before another has sent the earlier ones.
type ShardsChange struct {
	// DSN is the database, as its owner, who may make slots.
	DSN string
	// Slot and Publication are those that the relays are started with.
	Slot, Publication string
	// Shards is how many there are to be, 1 to MaxShards.
	Shards int
	// SlotTimeout is how long making a slot waits for open transactions. Default 1 min.
	SlotTimeout time.Duration
	// Wait is how long the relays may take until they have published what was committed
	// before. Default 10 min.
	Wait time.Duration
	// Pause is how long the relays may take to leave, while nothing is published, and as
	// long again the rest of the change. Default 30 s.
	Pause time.Duration
	// Say is told each step. None if nil.
	Say func(what string)

	conn *pgx.Conn
	step func(conn *pgx.Conn, name string) // for tests
}

func (c ShardsChange) reached(step string) {
	if c.step != nil {
		c.step(c.conn, step)
	}
}

// shardsPlan is what the table shards holds.
type shardsPlan struct {
	serving, coming, leaving []Shard
	paused                   bool
}

// Run carries the change out, and returns when the old slots are gone. Cut off anywhere
// it leaves the outbox published by the old shards or by the new ones; run again, it
// goes on. With the present number of shards a change that was begun is given up.
func (c ShardsChange) Run(ctx context.Context) error {
	setDefault(&c.SlotTimeout, time.Minute)
	setDefault(&c.Wait, 10*time.Minute)
	setDefault(&c.Pause, 30*time.Second)
	if c.Say == nil {
		c.Say = func(string) {}
	}
	if c.Shards < 1 || c.Shards > MaxShards {
		return refusal("%d shards: there may be 1 to %d", c.Shards, MaxShards)
	}
	pool, err := parseDSN(c.DSN)
	if err != nil {
		return err
	}
	pc := pool.ConnConfig
	// Frozen or cut off while it holds the locks, this must not keep the relays away.
	for _, idle := range []string{"idle_session_timeout", "idle_in_transaction_session_timeout"} {
		pc.RuntimeParams[idle] = strconv.FormatInt(2*c.Pause.Milliseconds(), 10)
	}
	noticeDeadPeers(&pc.Config, 2*c.Pause)
	conn, err := pgx.ConnectConfig(ctx, pc)
	if err != nil {
		return fmt.Errorf("change the shards: %w", err)
	}
	defer closeUnlocked(conn)
	c.conn = conn
	var alone bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended('restock:shards:' || $1, 0))`, c.Slot).Scan(&alone); err != nil {
		return fmt.Errorf("change the shards: %w", err)
	}
	if !alone {
		return refusal("somebody else is changing the shards of %s", c.Slot)
	}
	if err := c.run(ctx); err != nil {
		return fmt.Errorf("change the shards of %s: %w", c.Slot, err)
	}
	return nil
}

func (c ShardsChange) run(ctx context.Context) error {
	plan, err := c.read(ctx)
	if err != nil {
		return err
	}
	if plan.paused { // by a change that was cut off, and nothing could be drained
		if err := c.resume(ctx); err != nil {
			return err
		}
	}
	if len(plan.leaving) > 0 { // of a change that was cut off at its end
		if err := c.clear(ctx, plan.leaving, "leaving"); err != nil {
			return err
		}
	}
	wanted := split(c.Slot, c.Publication, c.Shards)
	switch {
	case slices.Equal(plan.serving, wanted):
		return c.clear(ctx, plan.coming, "coming")
	case len(plan.coming) > 0 && !slices.Equal(plan.coming, wanted):
		return refusal("a change to %d shards is under way: restock shards %d goes on with it, restock shards %d gives it up",
			len(plan.coming), len(plan.coming), len(plan.serving))
	}
	if err := c.fit(ctx, plan.serving); err != nil {
		return err
	}
	if len(plan.coming) == 0 {
		if err := c.plan(ctx, plan.serving, wanted); err != nil {
			return err
		}
		c.reached("planned")
	}
	if err := c.makeSlots(ctx, wanted); err != nil {
		return err
	}
	c.reached("slots made")
	if err := c.drain(ctx, plan.serving); err != nil {
		return err
	}
	c.reached("drained")
	if err := c.advance(ctx, plan.serving, wanted); err != nil {
		return err
	}
	if err := c.handOver(ctx, plan.serving, wanted); err != nil {
		return err
	}
	c.reached("handed over")
	return c.clear(ctx, plan.serving, "leaving")
}

// read reads the plan. An outbox that was never split is one shard.
func (c ShardsChange) read(ctx context.Context) (p shardsPlan, err error) {
	if p.serving, p.paused, err = readShards(ctx, c.conn, c.Slot, c.Publication); err != nil {
		return p, err
	}
	for state, to := range map[string]*[]Shard{"coming": &p.coming, "leaving": &p.leaving} {
		rows, err := c.conn.Query(ctx, `SELECT slot, publication, first_bucket::int, last_bucket::int FROM shards
			WHERE relay = $1 AND state = $2 ORDER BY first_bucket`, c.Slot, state)
		if err != nil {
			return p, fmt.Errorf("read the shards: %w", err)
		}
		if *to, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Shard]); err != nil {
			return p, fmt.Errorf("read the shards: %w", err)
		}
	}
	return p, nil
}

// gathering is how long relays may take to be there: one that has just left a shard
// connects anew.
const gathering = 3 * time.Second

// fit refuses where the change could not end, or would leave a shard to nobody.
func (c ShardsChange) fit(ctx context.Context, serving []Shard) error {
	filled, err := schema.FillsBuckets(ctx, c.conn)
	if err != nil {
		return err
	}
	if !filled {
		return refusal("the trigger outbox_bucket is missing or disabled, on the outbox or a partition of it, so that rows have no bucket: ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_bucket, or restock migrate")
	}
	if err := c.noReplay(ctx, c.conn); err != nil {
		return err
	}
	needed, relays := max(len(serving), c.Shards), 0
	for end := time.Now().Add(gathering); ; {
		err := c.conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = left($1 || '_guard', 63)`, c.Slot).Scan(&relays)
		if err != nil || relays >= needed {
			return err
		}
		if time.Now().After(end) {
			return refusal("%d relays run, and %d shards need one each: start more restock relay with slot %s, one more than there are shards if one is to stand by",
				relays, needed, c.Slot)
		}
		if err := service.Sleep(ctx, drainEvery); err != nil {
			return err
		}
	}
}

// noReplay refuses while a replay runs: how far it is, is known by shard.
func (c ShardsChange) noReplay(ctx context.Context, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}) error {
	var id *string
	err := db.QueryRow(ctx, `SELECT min(id::text) FROM replays WHERE state = 'running'`).Scan(&id)
	if err == nil && id != nil {
		return refusal("replay %s is running: wait for its end (restock replay show %s), or restock replay cancel %s and resume it after", *id, *id, *id)
	}
	return err
}

// plan notes the new shards, none of whose slots may be there yet.
func (c ShardsChange) plan(ctx context.Context, serving, wanted []Shard) error {
	var taken *string
	names := make([]string, len(wanted))
	for i, s := range wanted {
		names[i] = s.Slot
	}
	if err := c.conn.QueryRow(ctx, `SELECT string_agg(slot_name, ', ') FROM pg_replication_slots WHERE slot_name = ANY($1)`, names).Scan(&taken); err != nil {
		return err
	}
	if taken != nil {
		return refusal("slot %s is there already, and is nobody's that is known of: SELECT pg_drop_replication_slot it if nobody needs it", *taken)
	}
	return pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
		for state, shards := range map[string][]Shard{"serving": serving, "coming": wanted} {
			for _, s := range shards {
				_, err := tx.Exec(ctx, `INSERT INTO shards (slot, relay, publication, first_bucket, last_bucket, state)
					VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`, s.Slot, c.Slot, s.Publication, s.First, s.Last, state)
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}
