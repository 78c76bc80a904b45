package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// The alert RestockPublishLag of deployments/monitoring/alerts.yml.
const (
	alertLag = time.Minute
	alertFor = 2 * time.Minute
)

// stopRelay stops the store's relay and goes on selling, as long as is asked for.
func stopRelay(s *stage) error {
	if err := s.furnishDrill(0); err != nil {
		return err
	}
	if err := s.buy(bulk(0, s.cmd.Groups, s.cmd.Groups)); err != nil {
		return err
	}
	if err := s.settled(); err != nil {
		return err
	}
	s.stop("relay " + demoStore)
	if s.cmd.ByHand {
		s.tell("the store's relay is stopped, and the shop goes on selling")
		return s.buy(bulk(0, s.cmd.Events, s.cmd.Groups))
	}
	s.tell("the store's relay is stopped for %s, and the shop goes on selling", s.cmd.StoppedFor)
	return nil
}

// watchLag watches the lag rise, starts the relay, and watches it fall.
func watchLag(s *stage) error {
	turns := max(20, int(s.cmd.StoppedFor/(5*time.Second)))
	var watch lagWatch
	started, events := time.Now(), max(s.cmd.Events, turns) // so that something waits from the first sample on
	for i := range turns {
		from, to := events*i/turns, events*(i+1)/turns
		if err := s.buy(bulk(from, to-from, s.cmd.Groups)); err != nil {
			return err
		}
		due := started.Add(s.cmd.StoppedFor * time.Duration(i+1) / time.Duration(turns))
		if err := service.Sleep(s.ctx, time.Until(due)); err != nil {
			return err
		}
		if err := s.sample(&watch, i%(turns/20) == 0); err != nil {
			return err
		}
	}
	if _, err := s.operator(orOther, "status"); err != nil {
		return err
	}
	if err := s.startRelay(demoStore); err != nil {
		return err
	}
	s.tell("the relay is started again")
	err := s.until("the lag is gone", func() (bool, error) {
		err := s.sample(&watch, true)
		return err == nil && watch.last() == 0, err
	})
	if err != nil {
		return err
	}
	s.tell("RestockPublishLag (over %s for %s) %s", alertLag, alertFor, watch.verdict())
	if !watch.rose(turns) {
		return fmt.Errorf("%w: the lag did not rise while the relay was stopped", errDrill)
	}
	if err := s.settled(); err != nil {
		return err
	}
	if err := s.relayActive(); err != nil {
		return err
	}
	_, err = s.operator(well, "status")
	return err
}

// sample notes the store's publish lag, and prints it if it is asked to or there is news.
func (s *stage) sample(w *lagWatch, show bool) error {
	var out, errs bytes.Buffer
	if code := run(s.ctx, []string{"status", "--json"}, &out, &errs); code > 1 {
		return fmt.Errorf("status: %s", errs.String())
	}
	var r ops.StatusReport
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return fmt.Errorf("read the status: %w", err)
	}
	for _, relay := range r.Relays {
		if relay.Database != demoStore {
			continue
		}
		news := w.note(time.Since(s.began), time.Duration(relay.LagSeconds*float64(time.Second)))
		if show || news != "" {
			s.tell("lag %.1f s, %d events wait, relay: %s%s", relay.LagSeconds, relay.Unpublished, relay.State, news)
		}
	}
	return nil
}

// relayActive waits until the store's relay streams again.
func (s *stage) relayActive() error {
	return s.until("the relay is active", func() (bool, error) {
		n, err := s.count(demoStore, "pg_replication_slots WHERE active AND slot_name = $1", s.slot())
		return n == 1, err
	})
}

func (s *stage) slot() string { return schema.SlotName(demoStore) }

// lagWatch is the lag as it was sampled, and what the alert would have made of it.
type lagWatch struct {
	lags                    []time.Duration
	over                    bool
	pending, fired, cleared time.Duration // when the alert was, 0: never
}

// note adds a sample and returns what becomes of the alert with it.
func (w *lagWatch) note(at, lag time.Duration) (news string) {
	w.lags = append(w.lags, lag)
	was := w.over
	w.over = lag > alertLag
	switch {
	case w.over && !was:
		w.pending = at
		return ", the alert is pending"
	case w.over && w.fired == 0 && at-w.pending >= alertFor:
		w.fired = at
		return ", the alert fires"
	case was && !w.over && w.fired > 0:
		w.cleared = at
		return ", the alert ends"
	}
	return ""
}

func (w *lagWatch) last() time.Duration { return w.lags[len(w.lags)-1] }

// rose tells whether the lag grew with every one of the first n samples.
func (w *lagWatch) rose(n int) bool {
	for i := 1; i < n; i++ {
		if w.lags[i] <= w.lags[i-1] {
			return false
		}
	}
	return w.lags[0] > 0
}

func (w *lagWatch) verdict() string {
	switch {
	case w.fired > 0:
		return fmt.Sprintf("was pending at %.0f s, fired at %.0f s and ended at %.0f s", w.pending.Seconds(), w.fired.Seconds(), w.cleared.Seconds())
	case w.pending > 0:
		return fmt.Sprintf("was pending at %.0f s and did not fire", w.pending.Seconds())
	}
	return "was never pending"
}
