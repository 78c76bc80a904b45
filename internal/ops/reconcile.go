package ops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

// Defaults of ReconcileConfig.
const (
	DefaultGrace   = 15 * time.Minute
	DefaultStale   = 24 * time.Hour
	DefaultNamed   = 20
	DefaultRecheck = time.Hour
)

// minConns are an outbox, the two inboxes that may be beside it, and a look-up.
const minConns = 4

// recentDays are looked at in every run; what is older changes by hand only.
const recentDays = 2

// ReconcileConfig is what a Reconciler needs.
type ReconcileConfig struct {
	// Store and Customers are the databases, as schema.RoleMaintenance, with pools of
	// minConns connections at the least: inboxes are read side by side. Without
	// Customers its outbox, and the consumers that keep their inbox there, are left out.
	Store, Customers *pgxpool.Pool
	// VIPThreshold is the one that filter policy and consumer have.
	VIPThreshold int64
	// Since and Until bound the days that are looked at, whole days in UTC. Zero is
	// no bound.
	Since, Until time.Time
	// Grace is how long an event may take to be published, and from there to be
	// received. Default DefaultGrace.
	Grace time.Duration
	// Stale is how long nothing has come of an attempt that failed, or never ended,
	// until its event counts as unhandled: no message of it is in the queue any more.
	// Default DefaultStale, which is as long as a consumer goes on trying.
	Stale time.Duration
	// Named is how many events a finding names. Default DefaultNamed.
	Named int
	// Recheck is for how long a day that was found complete is believed by later runs
	// of the same Reconciler, unless it is recent. Default DefaultRecheck.
	Recheck time.Duration
	// Progress is told how many days are done of how many. Default: nobody.
	Progress func(done, total int)
}

// Reconciler compares what was committed with what was published and with what was
// handled. It is for one goroutine.
type Reconciler struct {
	cfg      ReconcileConfig
	ledgers  []*ledgerSide
	complete map[sideDay]completeDay
}

// sideDay is one day of one outbox.
type sideDay struct {
	database string
	day      time.Time
}

// completeDay is what a day was found to be that had nothing missing and nothing
// left to wait for.
type completeDay struct {
	at    time.Time
	books dayBooks
}

// ledgerSide is one outbox, with the consumers of its events.
type ledgerSide struct {
	database  string
	outbox    *pgxpool.Pool
	consumers []*inboxSide
}

// inboxSide is one consumer of an outbox.
type inboxSide struct {
	interest schema.Interest
	database string // that its inbox is in
	inbox    *pgxpool.Pool
	behind   map[string]int64 // groups that wait, with the first sequence that does
}

// NewReconciler makes a Reconciler. It calls nothing yet.
func NewReconciler(cfg ReconcileConfig) (*Reconciler, error) {
	if cfg.Store == nil {
		return nil, errors.New("reconcile: the store's database is needed")
	}
	for _, pool := range []*pgxpool.Pool{cfg.Store, cfg.Customers} {
		if pool != nil && pool.Config().MaxConns < minConns {
			return nil, fmt.Errorf("reconcile: a pool of %d connections: at least %d are needed", pool.Config().MaxConns, minConns)
		}
	}
	if !cfg.Since.IsZero() && !cfg.Until.IsZero() && !cfg.Since.Before(cfg.Until) {
		return nil, errors.New("reconcile: since must be before until")
	}
	if cfg.Grace < 0 || cfg.Stale < 0 || cfg.Named < 0 {
		return nil, errors.New("reconcile: grace, stale and named must not be below 0")
	}
	for d, preset := range map[*time.Duration]time.Duration{&cfg.Grace: DefaultGrace, &cfg.Stale: DefaultStale, &cfg.Recheck: DefaultRecheck} {
		if *d == 0 {
			*d = preset
		}
	}
	if cfg.Named == 0 {
		cfg.Named = DefaultNamed
	}
	if cfg.Progress == nil {
		cfg.Progress = func(int, int) {}
	}
	store := &ledgerSide{database: StoreDatabase, outbox: cfg.Store}
	customers := &ledgerSide{database: CustomersDatabase, outbox: cfg.Customers}
	r := &Reconciler{cfg: cfg, ledgers: []*ledgerSide{store}, complete: map[sideDay]completeDay{}}
	if cfg.Customers != nil {
		r.ledgers = append(r.ledgers, customers)
	}
	for _, in := range schema.Interests(cfg.VIPThreshold) {
		side, c := store, &inboxSide{interest: in, database: StoreDatabase, inbox: cfg.Store}
		switch in.Consumer {
		case schema.ConsumerVIP:
			c.database, c.inbox = CustomersDatabase, cfg.Customers
		case schema.ConsumerMarketing:
			side, c.database, c.inbox = customers, CustomersDatabase, cfg.Customers
		}
		if c.inbox != nil {
			side.consumers = append(side.consumers, c)
		}
	}
	return r, nil
}

// Reconciliation is what a run found.
type Reconciliation struct {
	At        time.Time       `json:"at"`
	Seconds   float64         `json:"seconds"` // that it took
	Missing   int64           `json:"missing"`
	Outboxes  []OutboxBooks   `json:"outboxes"`
	Consumers []ConsumerBooks `json:"consumers"`
	Findings  []Finding       `json:"findings"`
	// Unreachable are the databases without which the rest was compared: more may be missing.
	Unreachable []Unreachable `json:"unreachable,omitempty"`
}

// OutboxBooks is what became of the events of one outbox.
type OutboxBooks struct {
	Database    string `json:"database"`
	Days        int    `json:"days"`
	Events      int64  `json:"events"`
	Unpublished int64  `json:"unpublished"` // missing: neither published nor parked
	Parked      int64  `json:"parked"`
}

// ConsumerBooks is what a consumer did with the events that it wants.
type ConsumerBooks struct {
	Consumer  string `json:"consumer"`
	Wanted    int64  `json:"wanted"`
	Done      int64  `json:"done"`
	Waiting   int64  `json:"waiting"`   // begun and not ended, or behind such a one of its group
	Unhandled int64  `json:"unhandled"` // missing: published, and nothing came of it
	Dead      int64  `json:"dead"`
	Repeated  int64  `json:"repeated"`  // events for which a call to the outside succeeded twice
	Uncertain int64  `json:"uncertain"` // events for which one may have
}

// The kinds of findings.
const (
	Unpublished = "unpublished"
	Unhandled   = "unhandled"
)

// Finding is events that are missing in one place.
type Finding struct {
	Kind     string         `json:"kind"`
	Database string         `json:"database"`           // whose outbox they are in
	Consumer string         `json:"consumer,omitempty"` // of unhandled ones
	Count    int64          `json:"count"`
	First    time.Time      `json:"first"` // committed
	Last     time.Time      `json:"last"`
	Events   []MissingEvent `json:"events"` // the first that were found; More are left out
	More     int64          `json:"more,omitempty"`
	Note     string         `json:"note,omitempty"`
	Heal     string         `json:"heal"` // the command that heals it
}

// MissingEvent is one that is missing.
type MissingEvent struct {
	EventID     uuid.UUID `json:"eventId"`
	Type        string    `json:"type"`
	Group       string    `json:"group"`
	Sequence    int64     `json:"sequence"`
	CommittedAt time.Time `json:"committedAt"`
}

// add counts an event that is missing, and names it while there is room.
func (f *Finding) add(e MissingEvent, named int) {
	if f.Count == 0 || e.CommittedAt.Before(f.First) {
		f.First = e.CommittedAt
	}
	if e.CommittedAt.After(f.Last) {
		f.Last = e.CommittedAt
	}
	f.Count++
	if len(f.Events) < named {
		f.Events = append(f.Events, e)
	} else {
		f.More++
	}
}

// heal is the command that publishes the events again. Times are whole seconds, the
// last one included.
func (f *Finding) heal() string {
	span := fmt.Sprintf(" --since %s --until %s", f.First.UTC().Truncate(time.Second).Format(time.RFC3339),
		f.Last.UTC().Truncate(time.Second).Add(time.Second).Format(time.RFC3339))
	command := "restock replay --unpublished"
	if f.Kind == Unhandled {
		command = "restock replay --unhandled " + f.Consumer
	}
	if f.Database == CustomersDatabase {
		command += " --outbox customers"
	}
	return command + span
}

// dayBooks are one day of one outbox, and of its consumers in their order.
type dayBooks struct {
	outbox    OutboxBooks
	consumers []ConsumerBooks
}

// settled tells that nothing of the day is to change any more but by hand.
func (b dayBooks) settled() bool {
	left := b.outbox.Unpublished + b.outbox.Parked
	for _, c := range b.consumers {
		left += c.Waiting + c.Unhandled + c.Dead
	}
	return left == 0
}

// without is the side as far as it can be told without some databases, nil where it
// cannot be told at all.
func (s *ledgerSide) without(down []Unreachable) *ledgerSide {
	if named(down, s.database) != nil {
		return nil
	}
	left := &ledgerSide{database: s.database, outbox: s.outbox}
	for _, c := range s.consumers {
		if named(down, c.database) == nil {
			left.consumers = append(left.consumers, c)
		}
	}
	return left
}

// Run compares everything once, or where a database cannot be reached what does not need
// it. An error is that nothing can be told.
func (r *Reconciler) Run(ctx context.Context) (Reconciliation, error) {
	started := time.Now()
	all := Reconciliation{
		At: started.UTC(), Outboxes: []OutboxBooks{}, Consumers: []ConsumerBooks{}, Findings: []Finding{},
		Unreachable: reach(ctx, map[string]*pgxpool.Pool{StoreDatabase: r.cfg.Store, CustomersDatabase: r.cfg.Customers}),
	}
	ledgers := r.ledgers
	if len(all.Unreachable) > 0 {
		ledgers = nil
		for _, side := range r.ledgers {
			if left := side.without(all.Unreachable); left != nil {
				ledgers = append(ledgers, left)
			}
		}
	}
	if len(ledgers) == 0 {
		return all, fmt.Errorf("reconcile: %w", &UnreachableError{all.Unreachable})
	}
	days := make([][]time.Time, len(ledgers))
	total, done := 0, 0
	for i, side := range ledgers {
		var err error
		if days[i], err = side.days(ctx, r.cfg.Since, r.cfg.Until); err != nil {
			return all, fmt.Errorf("reconcile %s: %w", side.database, err)
		}
		total += len(days[i])
	}
	for i, side := range ledgers {
		run := newSideRun(side, r.cfg)
		run.whole = len(all.Unreachable) == 0
		for _, day := range days[i] {
			books, err := r.day(ctx, run, day)
			if err != nil {
				return all, fmt.Errorf("reconcile %s of %s: %w", day.Format(time.DateOnly), side.database, err)
			}
			run.add(books)
			done++
			r.cfg.Progress(done, total)
		}
		if err := run.finish(ctx, &all); err != nil {
			return all, fmt.Errorf("reconcile %s: %w", side.database, err)
		}
	}
	all.Seconds = time.Since(started).Seconds()
	return all, nil
}

// day looks at a day, unless it was complete a short while ago.
func (r *Reconciler) day(ctx context.Context, run *sideRun, day time.Time) (dayBooks, error) {
	key := sideDay{run.side.database, day}
	was, known := r.complete[key]
	old := run.whole && day.Before(utcDay(time.Now()).AddDate(0, 0, -recentDays))
	if known && old && time.Since(was.at) < r.cfg.Recheck {
		return was.books, nil
	}
	books, err := run.look(ctx, day)
	delete(r.complete, key)
	if err == nil && old && books.settled() {
		r.complete[key] = completeDay{time.Now(), books}
	}
	return books, err
}

// days lists the days of the outbox, oldest first, by its partitions.
func (s *ledgerSide) days(ctx context.Context, since, until time.Time) ([]time.Time, error) {
	rows, err := s.outbox.Query(ctx, `SELECT to_date(substring(c.relname FROM '\d{8}$'), 'YYYYMMDD') AS day
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'public.outbox'::regclass AND NOT i.inhdetachpending AND c.relname ~ '_\d{8}$' ORDER BY day`)
	if err != nil {
		return nil, fmt.Errorf("list the outbox's partitions: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return nil, fmt.Errorf("list the outbox's partitions: %w", err)
	}
	var days []time.Time
	for _, day := range all {
		before := !since.IsZero() && day.Before(utcDay(since))
		after := !until.IsZero() && !day.Before(until)
		if !before && !after && !day.After(time.Now().AddDate(0, 0, 1)) {
			days = append(days, day)
		}
	}
	return days, nil
}
