package localfactory

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/service"
)

// Config is how the factory behaves. The zero value answers at once, delivers at
// once and never fails.
type Config struct {
	// Latency is the time from a request to its answer.
	Latency time.Duration
	// Delay is the time from an answer to its callback.
	Delay time.Duration
	// ErrorRate is the share of requests that are answered 500, from 0 to 1.
	ErrorRate float64
	// DuplicateRate is the share of productions whose callback is made twice.
	DuplicateRate float64
	// IgnoreKey makes each request a production, repeated or not.
	IgnoreKey bool
	// Seed makes the same requests fail each time; 0 is a new one.
	Seed uint64
	// Retry is how callbacks are repeated. The default is 100 tries, soon some
	// seconds apart, which takes minutes; a delay is at most 5 s by default.
	Retry service.Backoff
	// Client makes the callbacks. Default one with a time-out of 10 s.
	Client *http.Client
	Logger zerolog.Logger
	// After is time.After but in tests.
	After func(time.Duration) <-chan time.Time
}

// Order is the request to produce, and the body of the callback.
type Order struct {
	GroupID     string `json:"MessageGroupId"`
	ProductID   string `json:"MessageAttributeProductId"`
	ProductCnt  string `json:"MessageAttributeProductCnt"`
	FactoryID   string `json:"MessageAttributeFactoryId"`
	Requester   string `json:"MessageAttributeRequester"`
	CallbackURL string `json:"CallbackUrl"`
}

// Production is one order taken.
type Production struct {
	ID         uuid.UUID `json:"id"`
	Key        string    `json:"idempotencyKey,omitempty"`
	Order      Order     `json:"order"`
	Requests   int       `json:"requests"`  // how often it was asked for
	Callbacks  int       `json:"callbacks"` // how often a callback was taken
	Tries      int       `json:"tries"`     // callbacks made, failed ones too
	LastError  string    `json:"lastError,omitempty"`
	AcceptedAt time.Time `json:"acceptedAt"`
}

// Factory is a pretend factory.
type Factory struct {
	cfg Config

	mu          sync.Mutex
	random      *rand.Rand
	productions []*Production
	byKey       map[string]*Production
	pending     []*Production // callbacks that Run has not begun
	fault       *Fault
	wake        chan struct{}
}

// New makes a factory.
func New(cfg Config) *Factory {
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64() //nolint:gosec // chooses which pretend request fails
	}
	if cfg.Retry.Tries == 0 {
		cfg.Retry.Tries = 100
	}
	if cfg.Retry.Max == 0 {
		cfg.Retry.Max = 5 * time.Second
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 10 * time.Second}
	}
	if cfg.After == nil {
		cfg.After = time.After
	}
	return &Factory{
		cfg:    cfg,
		random: rand.New(rand.NewPCG(cfg.Seed, 0)), //nolint:gosec // as above
		byKey:  make(map[string]*Production),
		wake:   make(chan struct{}, 1),
	}
}

// Fault is a way to fail on purpose.
//
//	Fault{Status: 500}                                 broken
//	Fault{Status: 429, RetryAfter: "7"}                throttled
//	Fault{Status: 200, Body: "<html>", Accept: true}   accepted, and answers nonsense
//	Fault{Cut: true}                                   hangs up
//	Fault{Cut: true, Accept: true}                     accepted, and the answer is lost
//	Fault{Slow: time.Minute}                           slow
type Fault struct {
	Status     int    // the answer's; 0 answers as usual, unless Cut
	RetryAfter string // header of that answer
	Body       string // of that answer
	Cut        bool   // hangs up instead of answering
	Accept     bool   // takes the order before it fails
	Slow       time.Duration
	// Times is how many requests fail; 0 is all until Heal.
	Times int
}

// Fail makes the coming requests fail.
func (f *Factory) Fail(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = &fault
}

// Heal ends what Fail began.
func (f *Factory) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = nil
}

// nextFault is the fault of one request.
func (f *Factory) nextFault() Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault != nil {
		fault := *f.fault
		if f.fault.Times > 0 {
			if f.fault.Times--; f.fault.Times == 0 {
				f.fault = nil
			}
		}
		return fault
	}
	if f.random.Float64() < f.cfg.ErrorRate {
		return Fault{Status: http.StatusInternalServerError, Body: `{"error":"the pretend factory fails at random"}`}
	}
	return Fault{}
}

// Productions lists all productions in the order of their first request.
func (f *Factory) Productions() []Production {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]Production, len(f.productions))
	for i, p := range f.productions {
		list[i] = *p
	}
	return list
}

// take makes the production of an order, or finds the one of its key. A key that
// was used for another order is none.
func (f *Factory) take(key string, o Order) (p Production, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if key != "" && !f.cfg.IgnoreKey {
		if p, ok := f.byKey[key]; ok {
			if p.Order != o {
				return Production{}, false
			}
			p.Requests++
			return *p, true
		}
	}
	made := &Production{ID: uuid.New(), Key: key, Order: o, Requests: 1, AcceptedAt: time.Now().UTC()}
	f.productions = append(f.productions, made)
	f.byKey[key] = made
	f.pending = append(f.pending, made)
	if f.random.Float64() < f.cfg.DuplicateRate {
		f.pending = append(f.pending, made)
	}
	f.wakeRun()
	return *made, true
}

func (f *Factory) wakeRun() {
	select {
	case f.wake <- struct{}{}:
	default: // it is awake
	}
}

// Run makes the callbacks until ctx ends.
func (f *Factory) Run(ctx context.Context) error {
	var callbacks sync.WaitGroup
	defer callbacks.Wait()
	f.wakeRun() // for what an earlier Run left
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		}
		f.mu.Lock()
		pending := f.pending
		f.pending = nil
		f.mu.Unlock()
		for _, p := range pending {
			callbacks.Go(func() { f.callBack(ctx, p) })
		}
	}
}
