package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/restock-dev/restock/internal/service"
)

// makeSlots makes the publications, and then the slots, that are not there. A slot that
// was made before its publication would not bring what was under way at that moment.
func (c ShardsChange) makeSlots(ctx context.Context, wanted []Shard) error {
	for _, s := range wanted {
		if _, err := repairPublication(ctx, c.conn, s); err != nil {
			return err
		}
	}
	c.reached("publications made")
	for _, s := range wanted {
		state, err := readSlot(ctx, c.conn, s.Slot)
		if err != nil {
			return err
		}
		younger, err := publicationYounger(ctx, c.conn, s)
		if err != nil {
			return err
		}
		if state.usable() && !younger {
			continue
		}
		c.Say("making slot " + s.Slot)
		if err := makeSlot(ctx, c.conn, s.Slot, c.SlotTimeout); err != nil {
			return err
		}
	}
	return nil
}

// drainEvery is how often it is looked how far the relays are.
const drainEvery = 100 * time.Millisecond

// drain waits until the relays have dealt with all that was committed until now, which
// is all that the new slots do not bring.
func (c ShardsChange) drain(ctx context.Context, serving []Shard) error {
	var fence pglogrepl.LSN
	// The message moves a slot on which nothing else happens.
	err := c.conn.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text FROM pg_logical_emit_message(true, 'restock:shards', '')`).Scan(&fence)
	if err != nil {
		return err
	}
	c.Say("waiting until all that was committed before " + fence.String() + " is published")
	for end := time.Now().Add(c.Wait); ; {
		at, behind, err := c.drained(ctx, serving)
		if err == nil && at < fence && time.Now().After(end) {
			err = fmt.Errorf("after %s %s: see restock status; restock shards %d goes on, restock shards %d gives the change up", c.Wait, behind, c.Shards, len(serving))
		}
		if err != nil || at >= fence {
			return err
		}
		if err := service.Sleep(ctx, drainEvery); err != nil {
			return err
		}
	}
}

// drained is the position up to which the relays have dealt with everything, and which
// slot holds it back. A relay promises a position when it has dealt with all below; what
// the slot alone says may be another's doing.
func (c ShardsChange) drained(ctx context.Context, serving []Shard) (least pglogrepl.LSN, behind string, err error) {
	for _, s := range serving {
		mark, err := readWatermark(ctx, c.conn, s.Slot)
		if err != nil {
			return 0, "", err
		}
		state, err := readSlot(ctx, c.conn, s.Slot)
		at := min(mark.promised, state.confirmed)
		why := fmt.Sprintf("slot %s is at %s", s.Slot, at)
		switch {
		case err != nil:
			return 0, "", err
		case !state.usable():
			at, why = 0, fmt.Sprintf("slot %s is lost", s.Slot)
		case mark.sweep != "":
			at, why = 0, fmt.Sprintf("slot %s is not swept yet (%s)", s.Slot, mark.sweep)
		}
		if behind == "" || at < least {
			least, behind = at, why
		}
	}
	return least, behind, nil
}

// advance moves the new slots to what is dealt with, so that their relays have the less
// to look up when they begin.
func (c ShardsChange) advance(ctx context.Context, serving, wanted []Shard) error {
	at, _, err := c.drained(ctx, serving)
	if err != nil {
		return err
	}
	for _, s := range wanted {
		_, err := c.conn.Exec(ctx, `SELECT pg_replication_slot_advance(slot_name, $2::text::pg_lsn) FROM pg_replication_slots
			WHERE slot_name = $1 AND confirmed_flush_lsn < $2::text::pg_lsn`, s.Slot, at.String())
		if err != nil {
			return fmt.Errorf("advance slot %s: %w", s.Slot, err)
		}
	}
	return nil
}

// handOver has the new shards served in place of the old ones.
func (c ShardsChange) handOver(ctx context.Context, serving, wanted []Shard) error {
	ctx, cancel := context.WithTimeout(ctx, 2*c.Pause)
	defer cancel()
	began := time.Now()
	if err := c.pause(ctx, serving); err != nil {
		return errors.Join(err, c.resume(ctx))
	}
	c.reached("left")
	err := c.advance(ctx, serving, wanted)
	if err == nil {
		err = pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error { return c.swap(ctx, tx, serving, wanted) })
	}
	if err == nil {
		c.Say(fmt.Sprintf("%d shards in place of %d; the relays were asked to leave for %s", len(wanted), len(serving), time.Since(began).Round(time.Millisecond)))
	} else {
		err = errors.Join(err, c.resume(ctx))
	}
	return errors.Join(err, c.unlock(ctx, serving))
}

// pause asks the relays to leave, and returns with the locks of all their slots held.
func (c ShardsChange) pause(ctx context.Context, serving []Shard) error {
	_, err := c.conn.Exec(ctx, `UPDATE shards SET paused_until = clock_timestamp() + $2::interval WHERE relay = $1 AND state = 'serving'`, c.Slot, c.Pause)
	if err != nil {
		return err
	}
	if _, err := c.conn.Exec(ctx, "NOTIFY "+shardsChannel); err != nil {
		return err
	}
	c.reached("paused")
	end := time.Now().Add(c.Pause)
	for _, s := range serving {
		for {
			held, err := tryLock(ctx, c.conn, s.Slot)
			if err == nil && !held && time.Now().After(end) {
				err = fmt.Errorf("the relay of slot %s has not left it within %s, and goes on: see its log for what it waits for, SNS or the ledger", s.Slot, c.Pause)
			}
			if err != nil {
				return errors.Join(err, c.unlock(ctx, serving))
			}
			if held {
				break
			}
			if err := service.Sleep(ctx, 10*time.Millisecond); err != nil {
				return errors.Join(err, c.unlock(ctx, serving))
			}
		}
	}
	return nil
}

// resume takes the pause back.
func (c ShardsChange) resume(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	if c.conn.IsClosed() { // it ends by itself
		return nil
	}
	_, err := c.conn.Exec(ctx, `UPDATE shards SET paused_until = NULL WHERE relay = $1`, c.Slot)
	if err == nil {
		_, err = c.conn.Exec(ctx, "NOTIFY "+shardsChannel)
	}
	return err
}

func (c ShardsChange) unlock(ctx context.Context, serving []Shard) error {
	if c.conn.IsClosed() { // the locks went with it
		return nil
	}
	for _, s := range serving {
		if err := unlock(context.WithoutCancel(ctx), c.conn, s.Slot); err != nil {
			return err
		}
	}
	return nil
}

// swap writes down that the new shards are served. Nobody publishes meanwhile: whatever
// is published is in the ledger, and stands below where the WAL is now.
func (c ShardsChange) swap(ctx context.Context, tx pgx.Tx, serving, wanted []Shard) error {
	if err := c.noReplay(ctx, tx); err != nil {
		return err
	}
	for _, s := range serving {
		if err := nothingMissed(ctx, tx.Conn(), s); err != nil {
			return err
		}
	}
	for _, s := range wanted {
		p, err := readPublication(ctx, tx.Conn(), s)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `INSERT INTO watermarks AS w (slot, system_identifier, timeline, recorded_lsn, confirm_lsn, publication)
			SELECT s.slot_name, o.system_identifier, o.timeline, pg_current_wal_insert_lsn(), s.confirmed_flush_lsn, $3
			FROM pg_replication_slots s, watermarks o WHERE s.slot_name = $1 AND s.wal_status IS DISTINCT FROM 'lost' AND o.slot = $2
			ON CONFLICT (slot) DO UPDATE SET system_identifier = excluded.system_identifier, timeline = excluded.timeline,
				recorded_lsn = excluded.recorded_lsn, confirm_lsn = excluded.confirm_lsn, publication = excluded.publication, sweep = NULL`,
			s.Slot, serving[0].Slot, string(p.id))
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("slot %s was lost meanwhile: run this again", s.Slot)
		}
		if err != nil {
			return err
		}
	}
	for _, s := range serving { // a relay of before there were shards refuses to run without it
		if _, err := tx.Exec(ctx, `DROP PUBLICATION IF EXISTS `+pgx.Identifier{s.Publication}.Sanitize()); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `DELETE FROM replay_shards`) // what they say is of the old shards
	if err == nil {
		_, err = tx.Exec(ctx, `UPDATE shards SET paused_until = NULL, state = CASE state WHEN 'coming' THEN 'serving' ELSE 'leaving' END WHERE relay = $1`, c.Slot)
	}
	if err == nil {
		_, err = tx.Exec(ctx, "NOTIFY "+shardsChannel)
	}
	return err
}

// nothingMissed refuses while events may have gone past a slot that only its own relay
// would sweep for: the publication was changed, and the relay had not noticed it, or was
// not done with it, when it left.
func nothingMissed(ctx context.Context, conn *pgx.Conn, s Shard) error {
	mark, err := readWatermark(ctx, conn, s.Slot)
	if err != nil {
		return err
	}
	p, err := readPublication(ctx, conn, s)
	if err != nil {
		return err
	}
	why := mark.sweep
	if why == "" && mark.publication != p.id {
		why = fmt.Sprintf("publication %s was changed", s.Publication)
	}
	if why != "" {
		return fmt.Errorf("events may have gone past slot %s (%s): its relay publishes them, run this again after that", s.Slot, why)
	}
	return nil
}

// clear removes shards that nobody serves, with their slots.
func (c ShardsChange) clear(ctx context.Context, shards []Shard, state string) error {
	var slots []string
	for _, s := range shards {
		if err := c.dropSlot(ctx, s.Slot); err != nil {
			return err
		}
		c.reached("slot dropped")
		err := pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
			for _, sql := range []string{`DELETE FROM watermarks WHERE slot = $1`, `DELETE FROM shards WHERE slot = $1`} {
				if _, err := tx.Exec(ctx, sql, s.Slot); err != nil {
					return err
				}
			}
			_, err := tx.Exec(ctx, `DROP PUBLICATION IF EXISTS `+pgx.Identifier{s.Publication}.Sanitize())
			return err
		})
		if err != nil {
			return err
		}
		slots = append(slots, s.Slot)
	}
	if len(slots) > 0 {
		c.Say(state + " slots dropped: " + strings.Join(slots, ", "))
	}
	return nil
}

// dropSlot waits a little for the server to notice that the slot's relay is gone.
func (c ShardsChange) dropSlot(ctx context.Context, slot string) error {
	for end := time.Now().Add(c.Pause); ; {
		_, err := c.conn.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`, slot)
		if err == nil || !isInUse(err) || time.Now().After(end) {
			return err
		}
		if err := service.Sleep(ctx, drainEvery); err != nil {
			return err
		}
	}
}

func isInUse(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55006" // object_in_use
}
