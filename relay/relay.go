package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// DefaultStopTimeout is that of Config.
const DefaultStopTimeout = 20 * time.Second

// Config says what to relay, and to where.
type Config struct {
	// DSN is the database, as a role that may replicate.
	DSN string
	// Slot is the replication slot; CreateSlot makes it. It names the relay too: relays of
	// one name are each other's standbys, and share the shards among them where the outbox
	// is split (ChangeShards). Each then has the slot of its shard.
	Slot string
	// Publication publishes the outbox table and nothing else. The table shards has that
	// of a shard.
	Publication string
	Publisher   Publisher
	Logger      zerolog.Logger
	// Metrics takes the relay's metrics, labelled with the slot. None if nil. It keeps them
	// when Run has ended, so that each relay of one Slot needs a registry of its own.
	Metrics prometheus.Registerer

	// Window bounds the memory of the events that are under way, in bytes. More
	// lets more groups publish side by side. What is released of parked groups takes up
	// to 12 MiB beyond it, 48 MiB where many of them are refused amid it, a replay 8 MiB.
	// Default 64 MiB.
	Window int
	// InFlight is how many calls to the publisher may be under way. Default 16.
	InFlight int
	// Backoff is the delay between tries, of an entry, of the publisher and of the
	// ledger. Its Max is also how much longer an outage of the publisher can last
	// for a group than for everybody. Default 100 ms to 5 s.
	Backoff service.Backoff
	// HoldAfter is how long an event may fail while others are accepted before its
	// group is parked. Until then it holds back the slot, and Postgres keeps its WAL.
	// Default 10 min.
	HoldAfter time.Duration
	// StopTimeout is how long what is in flight may take when Run is to end.
	// Default DefaultStopTimeout.
	StopTimeout time.Duration
	// SenderTimeout is wal_sender_timeout for this relay's connection: after so
	// long without a word Postgres lets go of it, and another may take the slot.
	// Default 30 s.
	SenderTimeout time.Duration
	// WithoutLedger leaves what was published out of the ledger; what is parked still
	// is in it. It saves the ledger's share of work, and costs its promise: after a
	// restart events are published again, back to the last confirmed position, and
	// only SNS (for five minutes) and the consumers' inboxes drop them.
	WithoutLedger bool
	// HeartbeatEvery is how often a message of the relay's own goes through the
	// WAL, and how often the slot is measured. An idle slot is so much behind, at
	// most. Default 10 s.
	HeartbeatEvery time.Duration
	// WALBudget is how much WAL the slot may keep, in bytes, where the server itself
	// sets no bound (max_slot_wal_keep_size = -1). It only makes the time until the
	// disk is full known; 0 shows that as unbounded.
	WALBudget int64
	// WarnBefore and AlarmBefore are how long before the slot would be lost, if it
	// moved no more, a warning and an error are logged. Defaults 1 h and 10 min.
	WarnBefore, AlarmBefore time.Duration
	// StallAfter is how long events may wait while nothing is recorded or confirmed
	// before Progress fails. Default 2 min.
	StallAfter time.Duration

	shard Shard          // of a session
	relay string         // the slot that the relay was started with
	plain zerolog.Logger // Logger without the slot
}

// at is the configuration for a shard.
func (c Config) at(s Shard) Config {
	c.shard, c.Slot, c.Publication = s, s.Slot, s.Publication
	c.Logger = c.plain.With().Str("slot", s.Slot).Logger()
	return c
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.DSN == "" || c.Slot == "" || c.Publication == "" || c.Publisher == nil:
		return c, errors.New("relay: DSN, Slot, Publication and Publisher are needed")
	case c.Window < 0 || c.InFlight < 0 || c.HoldAfter < 0 || c.StopTimeout < 0 || c.HeartbeatEvery < 0 ||
		c.WALBudget < 0 || c.WarnBefore < 0 || c.AlarmBefore < 0 || c.StallAfter < 0:
		return c, errors.New("relay: a limit is below 0")
	case c.SenderTimeout != 0 && c.SenderTimeout < time.Second:
		return c, errors.New("relay: SenderTimeout is below 1 s")
	}
	setDefault(&c.Window, 64<<20)
	setDefault(&c.InFlight, 16)
	setDefault(&c.HoldAfter, 10*time.Minute)
	setDefault(&c.StopTimeout, DefaultStopTimeout)
	setDefault(&c.SenderTimeout, 30*time.Second)
	setDefault(&c.HeartbeatEvery, 10*time.Second)
	setDefault(&c.WarnBefore, time.Hour)
	setDefault(&c.AlarmBefore, 10*time.Minute)
	setDefault(&c.StallAfter, 2*time.Minute)
	setDefault(&c.Backoff.Max, 5*time.Second)
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	c.relay, c.plain = c.Slot, c.Logger
	return c.at(wholeOutbox(c.Slot, c.Publication)), nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// statusEvery is how often a position is confirmed. Often, because what is not
// confirmed is read again after a crash; at most a third of wal_sender_timeout
// and 10 s, because it is what keeps the connection alive.
const statusEvery = time.Second

// Relay publishes one outbox. Make it with New, run it once with Run.
type Relay struct {
	cfg     Config
	pool    *pgxpool.Pool
	metrics atomic.Pointer[metrics] // of the slot that it has or had last
	current atomic.Pointer[session] // the last one stays, so that lag goes on growing between two
	state   state
	stale   string // why the slot's WAL cannot be read; for one session after another
	// missedSince is when the oldest event under sweep was committed, or when the sweep began
	// while that is not known, 0 when there is none.
	missedSince atomic.Int64
	// moved is when something was last recorded or confirmed, in nanoseconds.
	moved atomic.Int64
	ran   atomic.Bool
}

// New checks cfg and prepares a relay. It does not touch the database yet.
func New(cfg Config) (*Relay, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	pc, err := parseDSN(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	pc.MaxConns = 4
	pc.ConnConfig.RuntimeParams["application_name"] = cfg.Slot + "_ledger"
	// A position is confirmed on the word of the ledger, whatever the database's default is.
	pc.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	service.ToWrite(&pc.ConnConfig.Config)
	noticeDeadPeers(&pc.ConnConfig.Config, cfg.SenderTimeout)
	pool, err := pgxpool.NewWithConfig(context.Background(), pc)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	r := &Relay{cfg: cfg, pool: pool}
	r.moved.Store(time.Now().UnixNano())
	r.state.Store("starting")
	m := newMetrics(cfg, r)
	if m.hidden != nil {
		pool.Close()
		return nil, fmt.Errorf("relay: %w", m.hidden)
	}
	r.metrics.Store(m)
	return r, nil
}

// Run relays until ctx ends, through every failure of the database and of the
// publisher, and returns when nothing of it is left running. It returns nil when
// ctx ended it, and a *RefusedError when the set-up must be mended first.
func (r *Relay) Run(ctx context.Context) error {
	if r.ran.Swap(true) {
		return errors.New("relay: it has been run: make another with New")
	}
	defer r.pool.Close()
	upkeep, stopUpkeep := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { r.keepPartitions(upkeep) })
	wg.Go(func() { r.watchSlot(upkeep) })
	defer wg.Wait()
	defer stopUpkeep()
	for failures := 1; ; failures++ {
		started := time.Now()
		err := r.session(ctx)
		var stale *staleError
		var refused *RefusedError
		switch {
		case ctx.Err() != nil:
			return stopError(err)
		case errors.Is(err, errReassigned):
			failures = 0
			continue
		case errors.As(err, &stale):
			r.stale = err.Error()
		case errors.As(err, &refused):
			return err
		}
		if time.Since(started) > time.Minute {
			failures = 1
		}
		r.state.Store("waiting")
		r.pool.Reset() // what has ended the session may have cut these off too, without a word
		delay := service.Backoff{Initial: 200 * time.Millisecond, Max: 5 * time.Second}.Delay(failures)
		r.cfg.Logger.Warn().Err(schema.WithMend(err)).Int64("again_in_ms", delay.Milliseconds()).Msg("not relaying, trying again")
		if service.Sleep(ctx, delay) != nil {
			return nil
		}
	}
}

// errUnrecorded is what a stop could not finish in time.
var errUnrecorded = errors.New("stopped before all that was published was recorded: it will be published again")

// stopError is what a session's end means once the relay was told to stop.
func stopError(err error) error {
	if errors.Is(err, errUnrecorded) {
		return err
	}
	return nil
}

func (r *Relay) keepPartitions(ctx context.Context) {
	for {
		again := schema.PartitionInterval
		if err := schema.EnsurePartitions(ctx, r.pool); err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn().Err(err).Msg("partitions are not ensured, trying again")
			again = 10 * time.Second
		}
		if service.Sleep(ctx, again) != nil {
			return
		}
	}
}

// session is one connection's life: everything in it is made anew for the next
// one, and Postgres and the ledger are all that it inherits.
type session struct {
	window    *window
	pipeline  *pipeline
	heartbeat *heartbeat
	swept     int                // events of a sweep
	left      map[uuid.UUID]bool // those in the lanes when the stream begins
}

func (r *Relay) newSession(cfg Config, g *guard, l *ledger, parked *groups) *session {
	w, hb := newWindow(cfg.Window), newHeartbeat(cfg, r.pool)
	p := newPipeline(cfg, l, w, l.metrics, 0, hb.read, g.holds)
	p.groups, p.moved = parked, &r.moved
	return &session{window: w, pipeline: p, heartbeat: hb}
}

// session streams until something fails or ctx ends. It returns when all that
// was at the publisher is answered and recorded, so that the next session finds
// in the ledger whatever this one published.
func (r *Relay) session(ctx context.Context) error {
	g, err := openGuard(ctx, r.cfg, func(why string) {
		r.state.Store(standby)
		r.current.Store(nil) // what it left is another's
		r.missedSince.Store(0)
		r.cfg.Logger.Info().Msg(why + ": standing by")
	})
	if err != nil {
		return err
	}
	defer g.close()
	cfg := r.assign(g.shard)
	if cfg.WithoutLedger && !cfg.shard.whole() {
		return refusal("slot %s is a shard's, and without a ledger nothing tells what is published when the shards change: run the relay with it", cfg.Slot)
	}
	begin, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := check(begin, g.conn, cfg); err != nil {
		return err
	}
	p, err := readPublication(begin, g.conn, cfg.shard)
	if err != nil {
		return err
	}
	if err := checkAlone(begin, g.conn, cfg.relay); err != nil {
		return err
	}
	if err := checkTable(begin, g.conn, p.table, cfg.shard); err != nil {
		return err
	}
	conn, gatherer, found, err := r.connect(begin, cfg, g.conn, p)
	if err != nil {
		return err
	}
	l := &ledger{pool: r.pool, parkedOnly: cfg.WithoutLedger, slot: cfg.Slot, relay: cfg.relay, shard: cfg.shard, table: p.table, origin: found.origin, backoff: cfg.Backoff, metrics: r.metrics.Load(), held: g.held, failed: func(err error) {
		cfg.Logger.Warn().Err(schema.WithMend(err)).Msg("ledger is out of reach, trying again")
	}}
	parked, err := l.parkedGroups(begin)
	if err != nil {
		closeNow(conn)
		return err
	}
	due, err := found.decide(cfg)
	if err != nil {
		closeNow(conn)
		return err
	}
	s := r.newSession(cfg, g, l, parked)
	if due.sweep == "" {
		r.missedSince.Store(0)
	} else {
		closeNow(conn)
		if err := r.heal(ctx, cfg, g, l, s, p, due); err != nil {
			return err
		}
		if conn, gatherer, found, err = r.connect(ctx, cfg, g.conn, p); err != nil {
			return err
		}
		if err := found.behind(l.origin, len(s.left)); err != nil {
			closeNow(conn)
			return err
		}
	}
	if err := startStream(ctx, conn, cfg, l, found); err != nil {
		closeNow(conn)
		return err
	}
	return r.stream(ctx, cfg, g, l, s, conn, gatherer, found)
}

// connect connects for replication, and reads how slot and ledger stand.
func (r *Relay) connect(ctx context.Context, cfg Config, db *pgx.Conn, p publication) (*pgconn.PgConn, *gatherer, found, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, gatherer, err := openStream(ctx, cfg)
	if err != nil {
		return nil, nil, found{}, err
	}
	f, err := r.find(ctx, cfg, db, conn, p)
	if err != nil {
		closeNow(conn)
		return nil, nil, found{}, err
	}
	return conn, gatherer, f, nil
}

func (r *Relay) stream(ctx context.Context, cfg Config, g *guard, l *ledger, begun *session, conn *pgconn.PgConn, gatherer *gatherer, found found) error {
	confirmed := found.slot.confirmed
	w, p, hb := begun.window, begun.pipeline, begun.heartbeat
	p.follow(confirmed)
	l.promise.wanted = p.confirmed
	l.promise.given(max(confirmed, found.mark.promised))
	read, skipped := make(chan []change), make(chan []change)
	s := &stream{
		conn: conn, gatherer: gatherer, window: w, decoder: newDecoder(hb.prefix), out: read, confirmed: l.promise.confirmed,
		every: min(statusEvery, cfg.SenderTimeout/3, 10*time.Second), metrics: l.metrics,
	}
	r.begin(cfg, begun, confirmed)

	// live ends with the first thing that goes wrong, or with ctx.
	live, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	hard, cancelHard := r.hard(ctx)
	defer cancelHard()

	var wg sync.WaitGroup
	start := func(part func() error) {
		wg.Go(func() {
			if err := part(); err != nil {
				fail(err)
			}
		})
	}
	lost, drained := make(chan struct{}), make(chan struct{})
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	start(func() error {
		defer close(lost)
		return g.watch(watching, func() { fail(errReassigned) })
	})
	start(func() error { return hb.run(live, l, found.publication) })
	if len(begun.left) > 0 {
		start(func() error { return r.endSweepWhenDone(live, cfg, g, l, begun) })
	}
	wg.Go(func() { l.skipRecorded(live, found.mark.recorded, begun.left, read, skipped) })
	var unrecorded error
	wg.Go(func() {
		defer close(drained)
		if unrecorded = p.run(hard, skipped); unrecorded == nil && ctx.Err() != nil {
			_ = l.keepPromise(hard) // without it the last of it is read again, and skipped
		}
	})
	err := s.run(live, ctx, lost, drained)
	fail(err)
	r.interrupted(ctx, cfg, err)
	<-drained
	stopWatching()
	wg.Wait()
	if unrecorded != nil {
		return fmt.Errorf("%w: %w", errUnrecorded, unrecorded)
	}
	return err
}

// hard ends only when a stop has taken too long.
func (r *Relay) hard(ctx context.Context) (context.Context, context.CancelFunc) {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(r.cfg.StopTimeout, cancel) })
	return hard, func() {
		stop()
		cancel()
	}
}

func (r *Relay) begin(cfg Config, s *session, confirmed pglogrepl.LSN) {
	r.current.Store(s)
	r.state.Store(active)
	m := r.metrics.Load()
	m.active.Set(1)
	m.sessions.Inc()
	cfg.Logger.Info().Stringer("from", confirmed).Msg("relaying")
}

// interrupted tells that nothing is read any more. What was published is still to
// be recorded, which takes as long as the ledger is out of reach.
func (r *Relay) interrupted(ctx context.Context, cfg Config, err error) {
	r.metrics.Load().active.Set(0)
	r.state.Store("recovering")
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errReassigned):
		cfg.Logger.Info().Msg("the shards change: leaving this one")
	default:
		cfg.Logger.Warn().Err(err).Msg("relaying was interrupted")
	}
}

// assign takes the relay to a shard, whose slot its metrics are labelled with from then on.
func (r *Relay) assign(s Shard) Config {
	cfg := r.cfg.at(s)
	if m := r.metrics.Load(); m.slot != s.Slot {
		m.unregister()
		anew := newMetrics(cfg, r)
		if anew.hidden != nil {
			cfg.Logger.Warn().Err(anew.hidden).Msg("metrics are not shown: give each relay of one name a registry of its own")
		}
		r.metrics.Store(anew)
		r.stale = ""
	}
	return cfg
}

// PublishLag is the age of the oldest committed event known of that is not
// published or parked yet, 0 when there is none. A sweep counts by the oldest that
// it has found, until it is done, and before it has looked by when it began. Safe for
// concurrent use.
func (r *Relay) PublishLag() time.Duration {
	if missed := r.missedSince.Load(); missed != 0 {
		return max(0, time.Since(time.Unix(0, missed)))
	}
	s := r.current.Load()
	if s == nil {
		return 0
	}
	oldest, ok := s.pipeline.oldest()
	if !ok {
		return 0
	}
	return s.heartbeat.age(oldest)
}

// Ready is nil while the relay streams. Safe for concurrent use.
func (r *Relay) Ready(context.Context) error {
	if now, _ := r.state.Load(); now != active {
		return errors.New(now)
	}
	return nil
}
