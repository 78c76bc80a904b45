package localaws

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/internal/awshttp"
)

// Config says how to run a Server. Its zero value is usable.
type Config struct {
	// Addr is where to listen. Default "127.0.0.1:0": a free port on loopback. The stand-in checks no signatures, so
	// any other address lends it to whoever can reach that.
	Addr string
	// Region stands in the names that are given; requests may be signed for any. Default "ap-northeast-2".
	Region string
	// Now is the clock of deduplication, visibility, delays and retention; how long a receive waits is real time.
	// After moving an injected clock call Tick. Default time.Now.
	Now func() time.Time
	// Logger hears of refused requests and dropped deliveries. Default: nothing is logged.
	Logger zerolog.Logger
}

// Server is a running stand-in. All of its state goes with it.
type Server struct {
	cfg    Config
	now    func() time.Time
	log    zerolog.Logger
	url    string
	client *awshttp.Client // of those that use AWSConfig
	http   *http.Server
	faults *Faults

	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error
	tasks     sync.WaitGroup

	mu            sync.Mutex // guards all below
	closed        bool
	silent        map[net.Conn]struct{}
	queues        map[string]*queue // by name
	topics        map[string]*topic // by ARN
	subscriptions map[string]*subscription
	moves         []*moveTask
	stats         Stats
	mailbox       mailbox
}

// Stats counts what happened to messages that went nowhere.
type Stats struct {
	FilteredOut     int `json:"filteredOut"`     // by a filter policy
	RawTooMany      int `json:"rawTooMany"`      // raw delivery of more than 10 attributes, discarded
	Refused         int `json:"refused"`         // the queue was gone or its policy did not allow the topic
	DeadLettered    int `json:"deadLettered"`    // refused and sent to the subscription's dead-letter queue
	DroppedDelivery int `json:"droppedDelivery"` // refused, without a dead-letter queue to go to
}

// Start listens and serves until Close.
func Start(cfg Config) (*Server, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Region == "" {
		cfg.Region = "ap-northeast-2"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("start the local stand-in for AWS: %w; choose another address, or port 0 for a free one", err)
	}
	s := &Server{
		cfg: cfg, now: cfg.Now, log: cfg.Logger, url: "http://" + reachable(listener.Addr().(*net.TCPAddr)),
		closing: make(chan struct{}), queues: make(map[string]*queue), topics: make(map[string]*topic),
		subscriptions: make(map[string]*subscription), silent: make(map[net.Conn]struct{}),
	}
	s.client = awshttp.Wrap(nil, 64)
	s.faults = newFaults(s)
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       90 * time.Second, // it also ends handlers: a receive waits up to 20 s, a delay fault up to a minute
		WriteTimeout:      90 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ConnState:         s.watch,
	}
	s.spawn(func() {
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error().Err(err).Msg("local AWS stopped serving")
		}
	})
	return s, nil
}

// reachable is where a client on this machine finds a listener, also one on every address.
func reachable(addr *net.TCPAddr) string {
	if addr.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(addr.Port))
	}
	return addr.String()
}

// URL is the endpoint of every service, "http://127.0.0.1:PORT".
func (s *Server) URL() string { return s.url }

// AWSConfig is what an SDK client needs to talk to this server. Nothing of it comes from the environment.
func (s *Server) AWSConfig() aws.Config {
	return aws.Config{
		Region:       s.cfg.Region,
		BaseEndpoint: aws.String(s.url),
		HTTPClient:   s.client,
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
	}
}

// Close ends every receive that waits with an empty answer, gives requests in hand two seconds to finish, cuts the
// rest, and returns once every goroutine of the server has ended. Further calls return what the first returned.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		s.stopAccepting()
		close(s.closing)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := s.http.Shutdown(ctx); err != nil {
			s.closeErr = s.http.Close()
		}
		s.tasks.Wait()
		s.client.CloseIdleConnections()
	})
	return s.closeErr
}

// Faults are the switches that make the server fail on purpose.
func (s *Server) Faults() *Faults { return s.faults }

// Tick brings every queue up to the clock, after an injected clock moved: messages come back, appear or expire, and
// waiting receives look again.
func (s *Server) Tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		q.advance(s.now())
		q.signal()
	}
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// spawn runs f in a goroutine that Close waits for. Once the server is serving the caller must hold the lock.
func (s *Server) spawn(f func()) bool {
	if s.closed {
		return false
	}
	s.tasks.Go(f)
	return true
}

// enter counts a request among what Close waits for.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.tasks.Add(1)
	}
	return !s.closed
}

// watch keeps the connections that have not asked for anything yet: Shutdown would wait for them.
func (s *Server) watch(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(s.silent, conn)
	case s.closed:
		_ = conn.Close()
	default:
		s.silent[conn] = struct{}{}
	}
}

func (s *Server) stopAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for conn := range s.silent {
		_ = conn.Close() // nobody is owed an answer on it
	}
}
