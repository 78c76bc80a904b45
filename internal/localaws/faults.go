package localaws

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Effect is what a Rule does to the requests that it matches.
type Effect string

const (
	// DropAnswer carries the operation out and then cuts the connection: accepted, but the answer is lost.
	DropAnswer Effect = "drop-answer"
	// Cut cuts the connection before the operation is carried out.
	Cut Effect = "cut"
	// FailEntries fails the matching entries of a batch and carries out the rest; a request for a single message fails whole.
	FailEntries Effect = "fail-entries"
	// Throttle answers with the service's own throttling error.
	Throttle Effect = "throttle"
	// InternalError answers 500, or 503 if Status says so, as the service would.
	InternalError Effect = "internal-error"
	// Refuse answers with the rule's Code and Status.
	Refuse Effect = "refuse"
	// Delay waits before it carries the operation out.
	Delay Effect = "delay"
)

// Rule says which requests go wrong and how. An empty matcher matches everything; all given ones must match.
type Rule struct {
	ID     string `json:"id"` // made by Add where empty
	Effect Effect `json:"effect"`

	Service  string `json:"service,omitempty"`  // "sns", "sqs" or "ses"
	Action   string `json:"action,omitempty"`   // "PublishBatch", "SendEmail", …
	Resource string `json:"resource,omitempty"` // name, ARN or URL of a topic or queue

	// The rest match single messages. A request matches if one of its messages does.
	Group        string            `json:"group,omitempty"` // message group
	BodyContains string            `json:"bodyContains,omitempty"`
	Attributes   map[string]string `json:"attributes,omitempty"` // message attributes and their text values

	Count int           `json:"count,omitempty"` // how many requests it hits; 0: until it is removed
	Delay time.Duration `json:"delay,omitempty"` // for Delay, in JSON in nanoseconds

	// For FailEntries, Refuse, Throttle and InternalError; each has a fitting default.
	Code        string `json:"code,omitempty"`
	Message     string `json:"message,omitempty"`
	Status      int    `json:"status,omitempty"`
	SenderFault bool   `json:"senderFault,omitempty"`

	Hits int `json:"hits"` // requests hit so far; kept by the server
}

func (r Rule) check() error {
	if !slices.Contains([]Effect{DropAnswer, Cut, FailEntries, Throttle, InternalError, Refuse, Delay}, r.Effect) {
		return fmt.Errorf("fault rule: unknown effect %q", r.Effect)
	}
	if !oneOf(r.Service, "", serviceSNS, serviceSQS, serviceSES) {
		return fmt.Errorf("fault rule: unknown service %q", r.Service)
	}
	if r.Effect == Delay && (r.Delay <= 0 || r.Delay > time.Minute) {
		return fmt.Errorf("fault rule: a delay must be up to a minute, not %s", r.Delay)
	}
	if r.Status != 0 && (r.Status < 400 || r.Status > 599) {
		return fmt.Errorf("fault rule: %d is not the status of a failure", r.Status)
	}
	return nil
}

// Faults make a Server fail on purpose. They may be switched at any time, from any goroutine.
type Faults struct {
	server *Server
	mu     sync.Mutex
	rules  []*Rule
	hits   map[string]int
	nextID int
	away   bool
	left   chan struct{} // closed by GoAway
}

func newFaults(s *Server) *Faults {
	return &Faults{server: s, left: make(chan struct{}), hits: make(map[string]int)}
}

// Add switches a rule on and returns its id. A rule that can do nothing is a mistake in the caller, and panics.
func (f *Faults) Add(r Rule) (id string) {
	if err := r.check(); err != nil {
		panic(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.add(r)
}

func (f *Faults) add(r Rule) string {
	if r.ID == "" {
		f.nextID++
		r.ID = "rule-" + strconv.Itoa(f.nextID)
	}
	r.Attributes = maps.Clone(r.Attributes)
	r.Hits, f.hits[r.ID] = 0, 0
	f.rules = append(f.rules, &r)
	return r.ID
}

// Remove switches a rule off.
func (f *Faults) Remove(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = slices.DeleteFunc(f.rules, func(r *Rule) bool { return r.ID == id })
}

// Clear switches every rule off and ends GoAway.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
	f.restore()
}

// Rules returns the rules that are on, in the order in which they were added.
func (f *Faults) Rules() []Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	rules := make([]Rule, 0, len(f.rules))
	for _, r := range f.rules {
		rules = append(rules, *r)
	}
	return rules
}

// Hits is how many requests a rule has hit, also after it was used up or removed.
func (f *Faults) Hits(id string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits[id]
}

// GoAway cuts every request, those that wait too, until Restore. State is kept, and requests in hand are carried out.
func (f *Faults) GoAway() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.away {
		f.away = true
		close(f.left)
	}
}

// Restore ends GoAway.
func (f *Faults) Restore() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.restore()
}

func (f *Faults) restore() {
	if f.away {
		f.away = false
		f.left = make(chan struct{})
	}
}

// Away tells whether GoAway is on.
func (f *Faults) Away() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.away
}

// awayChannel is closed when the server goes away; nil if it is away already.
func (f *Faults) awayChannel() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return nil
	}
	return f.left
}

// replace sets all rules at once.
func (f *Faults) replace(rules []Rule, away bool) error {
	for _, r := range rules {
		if err := r.check(); err != nil {
			return err
		}
	}
	f.Clear()
	for _, r := range rules {
		f.Add(r)
	}
	if away {
		f.GoAway()
	}
	return nil
}

// RequireVerifiedSenders makes SES refuse senders that are no identity created here. Off at first.
func (f *Faults) RequireVerifiedSenders(on bool) {
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	f.server.mailbox.strict = on
}

func (f *Faults) requiresVerifiedSenders() bool {
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	return f.server.mailbox.strict
}

// ExpireVisibility makes the visibility timeout of a queue's messages in flight lapse, and returns how many there were.
// With groups, only theirs.
func (f *Faults) ExpireVisibility(queueName string, groups ...string) int {
	return f.eachMessage(queueName, groups, func(q *queue, m *message) bool {
		if m.inFlight {
			q.release(m)
			return true
		}
		return false
	})
}

// ExpireMessages makes the retention of a queue's messages lapse, and returns how many there were. With groups, only theirs.
func (f *Faults) ExpireMessages(queueName string, groups ...string) int {
	return f.eachMessage(queueName, groups, func(q *queue, m *message) bool {
		q.remove(m)
		return true
	})
}

func (f *Faults) eachMessage(queueName string, groups []string, do func(*queue, *message) bool) int {
	s := f.server
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[queueName]
	if q == nil {
		return 0
	}
	n := 0
	for _, m := range q.messages {
		if (len(groups) == 0 || oneOf(m.group, groups...)) && do(q, m) {
			n++
		}
	}
	return n
}

// ExpireDeduplication makes a topic or queue forget its deduplication ids, as if five minutes had passed.
func (f *Faults) ExpireDeduplication(name string) {
	s := f.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[name]; q != nil {
		q.dedup = dedupWindow{}
	}
	if t := s.topics[s.topicARN(name)]; t != nil {
		t.dedup = dedupWindow{}
	}
}
