package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// guard is an ordinary connection beside the replication one, with three uses. Its
// session advisory lock keeps a second relay off the slot, also while the slot is
// not active yet. It learns at once that the shards change. And that the server shuts
// down: a walsender is the last to be told, and waits for confirmations that may never
// come.
type guard struct {
	conn    *pgx.Conn
	relay   Config        // as it was started, whatever shard it has
	shard   Shard         // whose lock is held
	timeout time.Duration // after so long without a word Postgres ends the session
	opened  time.Time
	leased  atomic.Int64 // how long after opened the lock is surely held, in nanoseconds
	watched atomic.Bool  // watch runs, and may come to know that the lock is held for longer
}

// standbyEvery is how often a standby tries for a lock. It asks rather than
// waits, because a statement that waits holds a snapshot, and vacuum with it.
const standbyEvery = time.Second

// shardsChannel is notified when the shards change or are about to.
const shardsChannel = "restock_shards"

// errReassigned is that the shard is to be left: the shards change.
var errReassigned = errors.New("the shards change")

// openGuard connects and returns with the lock of a shard held. waiting is told, once,
// why there is none to be had.
func openGuard(ctx context.Context, cfg Config, waiting func(why string)) (*guard, error) {
	pool, err := parseDSN(cfg.DSN)
	if err != nil {
		return nil, err
	}
	pc := pool.ConnConfig
	pc.RuntimeParams["application_name"] = cfg.Slot + "_guard"
	// A relay that is frozen pings no more, and loses the lock like one that died.
	pc.RuntimeParams["idle_session_timeout"] = strconv.FormatInt(cfg.SenderTimeout.Milliseconds(), 10)
	noticeDeadPeers(&pc.Config, cfg.SenderTimeout)
	conn, err := pgx.ConnectConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	g := &guard{conn: conn, relay: cfg, timeout: cfg.SenderTimeout, opened: time.Now()}
	if err := g.listenForChanges(ctx); err != nil {
		g.close()
		return nil, err
	}
	if err := g.wait(ctx, waiting); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// listenForChanges has the server tell when the shards change, which a standby cannot.
func (g *guard) listenForChanges(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var recovering bool
	err := g.conn.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&recovering)
	if err == nil && recovering {
		return errors.New("the server is a standby: waiting until it is promoted, or the address leads to the primary")
	}
	if err == nil {
		_, err = g.conn.Exec(ctx, "LISTEN "+shardsChannel)
	}
	if err != nil {
		return fmt.Errorf("listen for changes of the shards: %w", err)
	}
	return nil
}

// wait returns with the lock of a shard held.
func (g *guard) wait(ctx context.Context, waiting func(why string)) error {
	for first := true; ; first = false {
		held, why, err := g.take(ctx)
		if held || err != nil {
			return err
		}
		if first {
			waiting(why)
		}
		if err := g.notified(ctx, standbyEvery); err != nil {
			return fmt.Errorf("stand by: %w", err)
		}
	}
}

// take takes the lock of the first shard that nobody has. Whether the shard is to be
// served is looked at again with its lock held: whoever changes the shards holds the
// locks of all of them at that moment. It does not wait for a server that is gone without
// a word: the system would, for a quarter of an hour.
func (g *guard) take(ctx context.Context) (held bool, why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	shards, paused, err := readShards(ctx, g.conn, g.relay.Slot, g.relay.Publication)
	if err != nil {
		return false, "", err
	}
	for _, s := range shards {
		if paused {
			break
		}
		asked := time.Now()
		if held, err = tryLock(ctx, g.conn, s.Slot); err != nil {
			return false, "", err
		}
		if !held {
			continue
		}
		shards, paused, err = readShards(ctx, g.conn, g.relay.Slot, g.relay.Publication)
		if err == nil && !paused && slices.Contains(shards, s) {
			g.shard = s
			g.extend(asked)
			return true, "", nil
		}
		if err == nil {
			err = unlock(ctx, g.conn, s.Slot)
		}
		return false, errReassigned.Error(), err
	}
	if paused {
		return false, errReassigned.Error(), nil
	}
	return false, "another relay is active", nil
}

// slotLock is the key of a slot's advisory lock.
const slotLock = `hashtextextended('restock:relay:' || $1, 0)`

func tryLock(ctx context.Context, conn *pgx.Conn, slot string) (held bool, err error) {
	if err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(`+slotLock+`)`, slot).Scan(&held); err != nil {
		return false, fmt.Errorf("take the lock of slot %s: %w", slot, err)
	}
	return held, nil
}

func unlock(ctx context.Context, conn *pgx.Conn, slot string) error {
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock(`+slotLock+`)`, slot); err != nil {
		return fmt.Errorf("release the lock of slot %s: %w", slot, err)
	}
	return nil
}

// notified returns when the shards change, or after the given time.
func (g *guard) notified(ctx context.Context, within time.Duration) error {
	limit, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := g.conn.WaitForNotification(limit)
	if err != nil && !pgconn.Timeout(err) {
		return err
	}
	return ctx.Err()
}

// watch returns when the connection is lost, or with nil when ctx ends. The
// server says nothing on it but that it is going and that the shards change, so it
// listens, and asks now and then to keep the session. reassigned is called whenever
// the shard is found to be no longer this relay's: the lock is kept all the same until
// the guard is closed.
func (g *guard) watch(ctx context.Context, reassigned func()) error {
	g.watched.Store(true)
	defer g.watched.Store(false)
	for {
		mine, err := g.listen(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the lock's connection was lost: %w", err)
		}
		if !mine {
			reassigned()
		}
	}
}

// listen waits for news until the next question is due, and asks whether the shard is
// still to be served.
func (g *guard) listen(ctx context.Context) (mine bool, err error) {
	if err := g.notified(ctx, g.timeout/4); err != nil {
		return false, err
	}
	ask, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	asked := time.Now()
	shards, paused, err := readShards(ask, g.conn, g.relay.Slot, g.relay.Publication)
	if err != nil {
		return false, err
	}
	g.extend(asked)
	return !paused && slices.Contains(shards, g.shard), nil
}

// extend notes that the session was alive at the time of asking.
func (g *guard) extend(asked time.Time) { g.leased.Store(int64(asked.Add(g.timeout).Sub(g.opened))) }

// holds tells whether the lock is surely held. A process that was frozen for longer
// than its session could idle finds here that it holds nothing any more, before it
// has read a word from anybody. Safe for concurrent use.
func (g *guard) holds(now time.Time) bool { return now.Sub(g.opened) < time.Duration(g.leased.Load()) }

// Why it is not sure that the lock is held: perhaps not yet again, or not any more.
var (
	errLockUnsure = errors.New("it is not sure that the lock is held")
	errLockLost   = errors.New("the lock was lost before all that is to be parked was: that is left to the next relay")
)

// held is holds for one who waits until it is sure.
func (g *guard) held() error {
	watched := g.watched.Load()
	switch {
	case g.holds(time.Now()):
		return nil
	case watched:
		return errLockUnsure
	}
	return errLockLost
}

func (g *guard) close() { closeUnlocked(g.conn) }

// closeUnlocked closes a connection with advisory locks, within a second. They go with the
// session, however it ends, but a moment after it: who waited for its end may go on at once.
func closeUnlocked(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	_ = conn.Close(ctx)
}
