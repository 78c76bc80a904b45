package relay

import (
	"fmt"
	"sync"
	"time"
)

// The states of a relay in which it works, or is right not to. In the others
// (starting, recovering, waiting) it should be working and cannot.
const (
	standby  = "standby"
	sweeping = "sweeping"
	active   = "active"
)

// state is what a relay is at, and since when it has not stood by. It is safe for
// concurrent use.
type state struct {
	mu    sync.Mutex
	now   string
	since time.Time
}

func (s *state) Store(now string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == "" || s.now == standby {
		s.since = time.Now()
	}
	s.now = now
}

func (s *state) Load() (now string, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.since
}

// stand is how a relay stands at one moment.
type stand struct {
	state  string
	onDuty time.Duration // since it has not stood by
	lag    time.Duration // of the oldest thing that waits, to be read or to be published; 0 is none
	quiet  time.Duration // since something was last recorded or confirmed
}

// stalled is how long a relay has not got on although it should have: 0 while it is
// idle, stands by, or records anything at all. A group that is held does not stall it
// as long as others go on.
func (s stand) stalled() time.Duration {
	switch s.state {
	case standby:
		return 0
	case active, sweeping:
		return max(0, min(s.lag, s.quiet, s.onDuty))
	}
	return max(0, min(s.quiet, s.onDuty))
}

func (r *Relay) stand() stand {
	now := time.Now()
	state, since := r.state.Load()
	return stand{
		state: state, onDuty: now.Sub(since), lag: max(r.PublishLag(), r.readLag()), quiet: now.Sub(time.Unix(0, r.moved.Load())),
	}
}

// readLag is how far reading is behind the database, by the heartbeat.
func (r *Relay) readLag() time.Duration {
	if s := r.current.Load(); s != nil {
		return s.heartbeat.readLag()
	}
	return 0
}

// Progress is an error while events wait and nothing has been recorded or confirmed
// for Config.StallAfter, or the relay has been without its database for so long. It
// is nil while the relay is idle or stands by. Safe for concurrent use.
func (r *Relay) Progress() error {
	s := r.stand()
	stalled := s.stalled()
	if stalled < r.cfg.StallAfter {
		return nil
	}
	if s.state == active || s.state == sweeping {
		return fmt.Errorf("%s, but nothing was recorded or confirmed for %s while the oldest event waits for %s: see the relay's log for what SNS or the ledger answers",
			s.state, stalled.Round(time.Second), s.lag.Round(time.Second))
	}
	return fmt.Errorf("%s, and nothing was recorded or confirmed for %s: see the relay's log for why it cannot stream", s.state, stalled.Round(time.Second))
}
