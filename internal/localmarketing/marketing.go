package localmarketing

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// DefaultTolerance is how far a timestamp may be from now.
const DefaultTolerance = 5 * time.Minute

// Config is how the system behaves. Secrets are required.
type Config struct {
	// Secrets are the active ones, each whsec_ and base64. A webhook signed with any
	// of them is taken.
	Secrets []string
	// Tolerance is how far a timestamp may be from now. Default DefaultTolerance.
	Tolerance time.Duration
	Logger    zerolog.Logger
	// Now is time.Now, and After time.After, but in tests.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
}

// System is a pretend marketing system.
type System struct {
	cfg      Config
	verifier verifier

	mu       sync.Mutex
	received []*Received
	byID     map[string]*Received
	fault    *Fault
}

// Received is one promotion taken.
type Received struct {
	ID         string    `json:"id"` // webhook-id, which is the event's
	CustomerID string    `json:"customerId"`
	OrderID    uuid.UUID `json:"orderId"`
	Quantity   int64     `json:"quantity"`
	EventTime  time.Time `json:"eventTime"`
	Body       string    `json:"body"`
	// Traceparent is the header of the first request.
	Traceparent string `json:"traceparent,omitempty"`
	// Timestamps are the requests', the first one's and those of its repeats.
	Timestamps []time.Time `json:"timestamps"`
	ReceivedAt time.Time   `json:"receivedAt"`
}

// New makes a system.
func New(cfg Config) (*System, error) {
	if cfg.Tolerance <= 0 {
		cfg.Tolerance = DefaultTolerance
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.After == nil {
		cfg.After = time.After
	}
	keys, err := parseSecrets(cfg.Secrets)
	if err != nil {
		return nil, err
	}
	return &System{
		cfg:      cfg,
		verifier: verifier{keys: keys, tolerance: cfg.Tolerance},
		byID:     make(map[string]*Received),
	}, nil
}

// Fault is a way to fail on purpose. Only a webhook that is in order meets it.
//
//	Fault{Status: 500}                        broken
//	Fault{Status: 429, RetryAfter: "7"}       throttled
//	Fault{Status: 302, Location: "http://…"}  moved
//	Fault{Status: 200, Size: 1 << 30}         answers 1 GiB
//	Fault{Cut: true}                          hangs up
//	Fault{Cut: true, Accept: true}            takes it, and the answer is lost
//	Fault{Slow: time.Minute}                  slow
type Fault struct {
	Status     int    // the answer's; 0 answers as usual, unless Cut
	RetryAfter string // header of that answer
	Location   string // header of that answer
	Body       string // of that answer
	Size       int64  // bytes of filler that follow Body
	Cut        bool   // hangs up instead of answering
	Accept     bool   // takes the webhook before it fails
	Slow       time.Duration
	// Times is how many requests fail; 0 is all until Heal.
	Times int
}

func (f Fault) fails() bool { return f.Cut || f.Status != 0 }

// Fail makes the coming requests fail.
func (s *System) Fail(fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = &fault
}

// Heal ends what Fail began.
func (s *System) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = nil
}

// nextFault is the fault of one request.
func (s *System) nextFault() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == nil {
		return Fault{}
	}
	fault := *s.fault
	if s.fault.Times > 0 {
		if s.fault.Times--; s.fault.Times == 0 {
			s.fault = nil
		}
	}
	return fault
}

// Received lists what was taken, in the order of the first request of each.
func (s *System) Received() []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Received, len(s.received))
	for i, r := range s.received {
		list[i] = *r
		list[i].Timestamps = slices.Clone(r.Timestamps)
	}
	return list
}

// take takes a webhook that is in order, or knows it by its id. It refuses an id
// that came with another body.
func (s *System) take(d delivery) (again bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.byID[d.ID]; ok {
		if r.Body != d.Body {
			return true, &refusedError{http.StatusConflict, "this webhook-id came with another body"}
		}
		r.Timestamps = append(r.Timestamps, d.at)
		return true, nil
	}
	r := &d.Received
	r.Timestamps, r.ReceivedAt = []time.Time{d.at}, s.cfg.Now().UTC()
	s.received = append(s.received, r)
	s.byID[r.ID] = r
	return false, nil
}
