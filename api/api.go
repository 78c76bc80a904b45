package api

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// Defaults of Config.
const (
	DefaultMaxConns         = 16
	DefaultStatementTimeout = 5 * time.Second
	DefaultLockTimeout      = 3 * time.Second
	DefaultAcquireTimeout   = 2 * time.Second
	DefaultRetryBudget      = 5 * time.Second
	DefaultCooldown         = 5 * time.Minute
	DefaultMaxQueue         = 1024
)

// Config is what an API needs. DSN, PublicURL and CallbackSecrets must be given.
type Config struct {
	// DSN is the store database, as role restock_api.
	DSN string
	// PublicURL is where the factory reaches this API: callback addresses begin
	// with it. An absolute http or https URL; a path in it is kept.
	PublicURL string
	// DefaultSKU is what a checkout that names no product buys. Without one such
	// a checkout is refused.
	DefaultSKU string
	// CallbackSecrets sign callback addresses: the first signs, every one
	// verifies. One, or two while one replaces the other, of 16 bytes or more.
	CallbackSecrets [][]byte

	// MaxConns bounds the connections to the database for all but the checkouts,
	// which are decided together on one of their own. Default 16.
	MaxConns int32
	// StatementTimeout and LockTimeout are the server's own limits on a statement
	// and on its wait for a row. Above them a checkout is rolled back and answered
	// 503. A lock wait that may be longer only makes clients of a busy product wait
	// longer for that answer. Defaults 5 s and 3 s; the lock's is the shorter one.
	StatementTimeout time.Duration
	LockTimeout      time.Duration
	// MaxQueue bounds the checkouts that wait to be decided; one that finds the queue
	// full is refused at once. More make a rush wait longer for the same. Default 1024.
	MaxQueue int
	// AcquireTimeout is how long a request waits for a connection, and a checkout to
	// be taken out of the queue. Default 2 s.
	AcquireTimeout time.Duration
	// RetryBudget is the time after which a transaction that was rolled back is
	// not run again. Default 5 s.
	RetryBudget time.Duration
	// Cooldown is how long after the factory refused no new production of the
	// product is ordered. Default 5 minutes.
	Cooldown time.Duration

	Logger zerolog.Logger
	// Metrics takes the API's metrics and is what /metrics shows. Default a new one.
	Metrics *prometheus.Registry
	// Tracing makes a span of each request. Default none.
	Tracing trace.TracerProvider
}

func (c *Config) setDefaults() {
	orDefault(&c.MaxConns, DefaultMaxConns)
	orDefault(&c.MaxQueue, DefaultMaxQueue)
	orDefault(&c.StatementTimeout, DefaultStatementTimeout)
	orDefault(&c.LockTimeout, min(DefaultLockTimeout, c.StatementTimeout/2))
	orDefault(&c.AcquireTimeout, DefaultAcquireTimeout)
	orDefault(&c.RetryBudget, DefaultRetryBudget)
	orDefault(&c.Cooldown, DefaultCooldown)
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
}

func orDefault[T int | int32 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

func (c *Config) validate() error {
	if c.DSN == "" {
		return fmt.Errorf("store database: no connection string given")
	}
	if c.DefaultSKU != "" {
		if err := checkSKU("DefaultSKU", c.DefaultSKU); err != nil {
			return fmt.Errorf("default SKU %q: give 1 to %d bytes without control characters", c.DefaultSKU, maxSKU)
		}
	}
	if c.MaxConns < 1 {
		return fmt.Errorf("%d database connections: give at least one", c.MaxConns)
	}
	if c.MaxQueue < 1 {
		return fmt.Errorf("a queue of %d checkouts: give room for at least one", c.MaxQueue)
	}
	for name, d := range map[string]time.Duration{
		"statement timeout": c.StatementTimeout, "lock timeout": c.LockTimeout, "acquire timeout": c.AcquireTimeout,
		"retry budget": c.RetryBudget, "cool-down": c.Cooldown,
	} {
		if d < time.Millisecond {
			return fmt.Errorf("%s %s: give a millisecond or more", name, d)
		}
	}
	if c.LockTimeout >= c.StatementTimeout {
		return fmt.Errorf("lock timeout %s: give less than the statement timeout %s", c.LockTimeout, c.StatementTimeout)
	}
	return nil
}

// API is the shop's HTTP face. It is made by New.
type API struct {
	cfg     Config
	store   *store
	signer  signer
	metrics *metrics
	log     zerolog.Logger
	openapi []byte

	committer  *committer
	keysInHand sync.Map // of keyName: what this process is deciding

	// busy is held for reading by each request that uses the store, and for
	// writing by Run when it closes the store.
	busy sync.RWMutex
}

// New checks the configuration. It does not need the database to be up. Run
// must be called in any case: it is what closes the connections.
func New(ctx context.Context, cfg Config) (*API, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	signer, err := newSigner(cfg.PublicURL, cfg.CallbackSecrets)
	if err != nil {
		return nil, err
	}
	document, err := openAPI()
	if err != nil {
		return nil, err
	}
	broken := new(atomic.Int64)
	pool, err := newPool(ctx, cfg, cfg.MaxConns, cfg.LockTimeout, broken)
	if err != nil {
		return nil, err
	}
	batches, err := newPool(ctx, cfg, 1, min(cfg.LockTimeout, batchLockTimeout), broken)
	if err != nil {
		pool.Close()
		return nil, err
	}
	c := &committer{
		queue: make(chan *ticket, cfg.MaxQueue), patience: cfg.AcquireTimeout, log: cfg.Logger, quit: make(chan struct{}),
		places: make(chan struct{}, max(1, cfg.MaxConns/2)), again: make(chan *ticket, maxBatch), rooms: map[string]*room{},
	}
	m, err := newMetrics(cfg.Metrics, pool, c)
	if err != nil {
		pool.Close()
		batches.Close()
		return nil, err
	}
	a := &API{cfg: cfg, signer: signer, metrics: m, log: cfg.Logger, openapi: document}
	a.store = &store{
		pool: pool, signer: signer, metrics: m, cooldown: cfg.Cooldown,
		acquireTimeout: cfg.AcquireTimeout,
		callTimeout:    cfg.StatementTimeout + 2*time.Second,
		budget:         cfg.RetryBudget,
		lookupTimeout:  2 * time.Second,
		broken:         broken,
	}
	together := *a.store
	together.pool = batches
	c.store, c.beside, c.metrics = &together, a.store, m
	a.committer = c
	return a, nil
}

// Run decides checkouts and keeps the partitions made ahead until ctx ends. Then it
// waits for the requests that use the database and closes the connections; whatever
// comes later is answered 503.
func (a *API) Run(ctx context.Context) error {
	decided := make(chan struct{})
	go func() {
		defer close(decided)
		a.committer.run()
	}()
	a.keepPartitions(ctx)
	a.busy.Lock()
	defer a.busy.Unlock()
	a.committer.stop()
	<-decided
	a.committer.store.pool.Close()
	a.store.pool.Close()
	return nil
}

// keepPartitions does not need the database to be up: a failure is logged and
// tried again.
func (a *API) keepPartitions(ctx context.Context) {
	retry := service.Backoff{Initial: time.Second}
	failures := 0
	for {
		wait := schema.PartitionInterval
		if err := a.store.ensurePartitions(ctx); err != nil && ctx.Err() == nil {
			failures++
			wait = retry.Delay(failures)
			a.log.Warn().Err(schema.WithMend(err)).Int64("retry_in_ms", wait.Milliseconds()).Msg("partitions not made ahead")
		} else {
			failures = 0
		}
		if service.Sleep(ctx, wait) != nil {
			return
		}
	}
}

// usingStore lets Run wait for h.
func (a *API) usingStore(h endpoint) endpoint {
	return func(c *call) (any, error) {
		a.busy.RLock()
		defer a.busy.RUnlock()
		return h(c)
	}
}
