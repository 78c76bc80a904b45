package relay

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/restock-dev/restock/internal/service"
)

// guard is an ordinary connection beside the replication one, with two uses. Its
// session advisory lock keeps a second relay off the slot, also while the slot is
// not active yet. And it learns at once that the server shuts down: a walsender
// is the last to be told, and waits for confirmations that may never come.
type guard struct {
	conn    *pgx.Conn
	timeout time.Duration // after so long without a word Postgres ends the session
	opened  time.Time
	leased  atomic.Int64 // how long after opened the lock is surely held, in nanoseconds
}

// standbyEvery is how often a standby tries for the lock. It asks rather than
// waits, because a statement that waits holds a snapshot, and vacuum with it.
const standbyEvery = time.Second

// openGuard connects and returns with the lock held. waiting is called once if
// another relay has it.
func openGuard(ctx context.Context, cfg Config, waiting func()) (*guard, error) {
	pc, err := pgx.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("parse the database address: %w", err)
	}
	pc.RuntimeParams["application_name"] = cfg.Slot + "_guard"
	// A relay that is frozen pings no more, and loses the lock like one that died.
	pc.RuntimeParams["idle_session_timeout"] = strconv.FormatInt(cfg.SenderTimeout.Milliseconds(), 10)
	noticeDeadPeers(&pc.Config, cfg.SenderTimeout)
	conn, err := pgx.ConnectConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	g := &guard{conn: conn, timeout: cfg.SenderTimeout, opened: time.Now()}
	if err := g.lock(ctx, cfg.Slot, waiting); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func (g *guard) lock(ctx context.Context, slot string, waiting func()) error {
	for first := true; ; first = false {
		asked := time.Now()
		var held bool
		err := g.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended('restock:relay:' || $1, 0))`, slot).Scan(&held)
		switch {
		case err != nil:
			return fmt.Errorf("take the lock of slot %s: %w", slot, err)
		case held:
			g.extend(asked)
			return nil
		case first:
			waiting()
		}
		if err := service.Sleep(ctx, standbyEvery); err != nil {
			return err
		}
	}
}

// watch returns when the connection is lost, or with nil when ctx ends. The
// server says nothing on it but that it is going, so it listens, and pings now
// and then to keep the session.
func (g *guard) watch(ctx context.Context) error {
	for {
		if err := g.listen(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the lock's connection was lost: %w", err)
		}
	}
}

// listen waits for bad news until the next ping is due, and pings.
func (g *guard) listen(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, g.timeout/4)
	defer cancel()
	_, err := g.conn.WaitForNotification(limit)
	if err != nil && !pgconn.Timeout(err) {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ping, cancelPing := context.WithTimeout(ctx, connectTimeout)
	defer cancelPing()
	asked := time.Now()
	if err := g.conn.Ping(ping); err != nil {
		return err
	}
	g.extend(asked)
	return nil
}

// extend notes that the session was alive at the time of asking.
func (g *guard) extend(asked time.Time) { g.leased.Store(int64(asked.Add(g.timeout).Sub(g.opened))) }

// holds tells whether the lock is surely held. A process that was frozen for longer
// than its session could idle finds here that it holds nothing any more, before it
// has read a word from anybody. Safe for concurrent use.
func (g *guard) holds(now time.Time) bool { return now.Sub(g.opened) < time.Duration(g.leased.Load()) }

func (g *guard) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = g.conn.Close(ctx) // the lock goes with the session, however it ends
}
