package ops

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// StatusConfig is what a Status looks at, and what it takes for healthy.
type StatusConfig struct {
	Databases []StatusDatabase
	// Interests are the consumers whose queues are looked at, and Find finds one's
	// queues and databases. It is asked again until it has found them.
	Interests []schema.Interest
	Find      func(context.Context, schema.Interest) (Consumer, error)
	SQS       *SQS
	// WALBudget is as relay.Config has it: what a slot may keep where the server sets
	// no bound. 0 is unbounded.
	WALBudget int64
	Limits    Limits
	// Sample is how long the first look measures how fast WAL is written. Default 1 s.
	Sample time.Duration
}

// StatusDatabase is a database with an outbox, as schema.RoleMaintenance.
type StatusDatabase struct {
	Name string
	Pool *pgxpool.Pool
}

// Limits are what is still healthy.
type Limits struct {
	Lag           time.Duration // of publishing. Default 1 min
	SlotLeft      time.Duration // until the slot is lost. Default 1 h
	Waiting       time.Duration // of an event in a queue. Default 5 min
	Overdue       time.Duration // how long a replenishment may be open. Default 24 h
	PartitionDays int           // made ahead. Default 3
}

func (l *Limits) setDefaults() {
	for field, value := range map[*time.Duration]time.Duration{
		&l.Lag: time.Minute, &l.SlotLeft: time.Hour, &l.Waiting: 5 * time.Minute, &l.Overdue: 24 * time.Hour,
	} {
		if *field == 0 {
			*field = value
		}
	}
	if l.PartitionDays == 0 {
		l.PartitionDays = 3
	}
}

// Status looks at the pipeline from outside: at its databases and queues, so that it
// can be told also when no part of it can be reached. One look at a time.
type Status struct {
	cfg    StatusConfig
	wal    map[string]*schema.WALBudget // by database
	clean  map[string]map[string]bool   // by database, days that are over and wholly published
	found  map[string]*Consumer
	down   map[*pgxpool.Pool]error // why a database is not asked at this look
	looked bool
	latest statusCollector
}

// NewStatus makes a Status. It calls nothing yet.
func NewStatus(cfg StatusConfig) *Status {
	cfg.Limits.setDefaults()
	if cfg.Sample == 0 {
		cfg.Sample = time.Second
	}
	s := &Status{cfg: cfg, wal: map[string]*schema.WALBudget{}, clean: map[string]map[string]bool{}, found: map[string]*Consumer{}}
	for _, d := range cfg.Databases {
		s.wal[d.Name], s.clean[d.Name] = &schema.WALBudget{Bytes: cfg.WALBudget}, map[string]bool{}
	}
	return s
}

// Health is what a report comes to.
type Health string

// A report is Unknown where something could not be asked, whatever the rest says.
const (
	Healthy  Health = "healthy"
	Degraded Health = "degraded"
	Unknown  Health = "unknown"
)

// StatusReport is one look.
type StatusReport struct {
	At       time.Time     `json:"at"`
	Health   Health        `json:"health"`
	Relays   []RelayStatus `json:"relays"`
	Queues   []QueueStatus `json:"queues"`
	Concerns []Concern     `json:"concerns"`
}

// Concern is one thing that is not as it should be, and what mends it.
type Concern struct {
	Health Health `json:"health"` // Degraded or Unknown
	About  string `json:"about"`  // a database or a consumer
	What   string `json:"what"`
	Mend   string `json:"mend"`
}

// Look looks once. What cannot be asked is in the report. A database that gives no sign
// of life is asked nothing: each question would wait for it anew.
func (s *Status) Look(ctx context.Context) (StatusReport, error) {
	pools := map[string]*pgxpool.Pool{}
	for _, d := range s.cfg.Databases {
		pools[d.Name] = d.Pool
	}
	unreachable := reach(ctx, pools)
	s.down = map[*pgxpool.Pool]error{}
	for _, d := range s.cfg.Databases {
		if err := named(unreachable, d.Name); err != nil {
			s.down[d.Pool] = err
		}
	}
	if !s.looked {
		s.sampleAll(ctx)
		if err := service.Sleep(ctx, s.cfg.Sample); err != nil {
			return StatusReport{}, err
		}
		s.looked = true
	}
	r := StatusReport{At: time.Now().UTC(), Relays: make([]RelayStatus, len(s.cfg.Databases)), Queues: make([]QueueStatus, len(s.cfg.Interests))}
	var all errgroup.Group
	for i, d := range s.cfg.Databases {
		all.Go(func() error { r.Relays[i] = s.relay(ctx, d); return nil })
	}
	// One after another, and the inboxes with them: looking must not be a load.
	all.Go(func() error {
		for i, in := range s.cfg.Interests {
			r.Queues[i] = s.queue(ctx, in)
		}
		return nil
	})
	_ = all.Wait() // none returns one
	if err := ctx.Err(); err != nil {
		return StatusReport{}, err
	}
	r.judge(s.cfg.Limits)
	s.latest.store(&r)
	return r, nil
}

// sampleAll takes the first sample of every database. That one cannot be asked is told
// by the look.
func (s *Status) sampleAll(ctx context.Context) {
	var all sync.WaitGroup
	for _, d := range s.cfg.Databases {
		if s.down[d.Pool] == nil {
			all.Go(func() { _ = s.sampleWAL(ctx, d) })
		}
	}
	all.Wait()
}

// Unable is what is said of what could not be done, in one line and without a callback's
// signature.
func Unable(err error) string { return redact(strings.Join(strings.Fields(err.Error()), " ")) }
