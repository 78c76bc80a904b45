package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/restock-dev/restock/internal/service"
)

// drill is a failure to rehearse, in two acts.
type drill struct {
	about  string
	events int // unless it is said how many
	harm   func(*stage) error
	mend   func(*stage) error // what an operator types
	care   string             // what the operator is to know who does it by hand
}

// drills are all that there are, by name.
func drills() map[string]drill {
	return map[string]drill{
		"broker-loss":   {about: "the broker loses what was in its queues", events: 400, harm: loseMessages, mend: replayWhatIsMissing, care: "events of a drill are young: say restock reconcile --grace 1ns"},
		"dead-letters":  {about: "a consumer's bug dead-letters events of many groups, and is fixed", events: 5000, harm: deadLetter, mend: redriveAll, care: "the fixed consumer runs already"},
		"parked":        {about: "an event is refused for good by SNS, and parked", events: 40, harm: park, mend: sendParked, care: "what SNS refused it for is mended already"},
		"slot-lost":     {about: "Postgres invalidates the relay's slot", events: 300, harm: loseSlot, mend: startRelayAgain, care: "restock relay is yours to start"},
		"relay-stopped": {about: "the relay is stopped for ten minutes", events: 300, harm: stopRelay, mend: watchLag, care: "restock relay is yours to start"},
	}
}

type drillCommand struct {
	Name       string        `arg:"" enum:"${drills}" help:"Which: ${drills}."`
	Events     int           `placeholder:"N" help:"How many checkouts. Default: as said above."`
	Groups     int           `default:"300" help:"Over how many message groups."`
	StoppedFor time.Duration `default:"10m" help:"relay-stopped: for how long."`
	ByHand     bool          `help:"Do the damage and wait: it is yours to mend, from another terminal. It ends when all is well."`
	DataDir    string        `default:"${datadir}-drill" env:"RESTOCK_DRILL_DATA_DIR" type:"path" help:"Where it keeps its Postgres."`
	PGBindir   string        `name:"pg-bindir" env:"RESTOCK_PG_BINDIR" type:"path" placeholder:"DIR" help:"Folder of initdb and postgres. Default: searched for, else fetched."`
}

// Help is what -h says besides the flags.
func (c *drillCommand) Help() string {
	var b strings.Builder
	b.WriteString("Starts a Restock of its own, as restock demo does, on fresh databases and free ports; does the damage; types what an operator would type, " +
		"whose output you see; and checks that nothing is missing and nothing happened twice. It can touch nothing real.")
	for _, name := range drillNames() {
		fmt.Fprintf(&b, "\n\n%s: %s; %d events.", name, drills()[name].about, drills()[name].events)
	}
	b.WriteString("\n\nExit codes: 0 all is well again, 1 it is not, 2 it could not begin.")
	return b.String()
}

func drillNames() []string { return slices.Sorted(maps.Keys(drills())) }

// Validate is called by kong.
func (c *drillCommand) Validate() error {
	switch {
	case c.Groups < 1 || c.StoppedFor <= 0:
		return errors.New("--groups and --stopped-for are positive")
	case c.Events != 0 && c.Events < 20:
		return errors.New("--events is 20 or more")
	}
	return nil
}

// Run plays it.
func (c *drillCommand) Run(inv *invocation) (err error) {
	d := drills()[c.Name]
	if c.Events == 0 {
		c.Events = d.events
	}
	c.Groups = min(c.Groups, c.Events)
	if err := forgetEnvironment(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.DataDir, 0o711); err != nil { //nolint:gosec // G301: the server's user, where it is another, passes through
		return &setupError{fmt.Errorf("make the data directory: %w", err)}
	}
	// The parts' logs would run through what is to be read.
	file, err := os.OpenFile(filepath.Join(c.DataDir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return &setupError{fmt.Errorf("keep the log: %w", err)}
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	inv.log = inv.log.Output(file)
	s := newStage(inv, c)
	defer func() {
		err = errors.Join(err, s.close())
		if inv.Err() != nil {
			err = errors.New("stopped before it could tell whether all is well") // not wrapped: to be told to stop is no success here
		}
	}()
	if err := s.open(); err != nil {
		return err
	}
	s.tell("the drill: %s; the parts' log is %s", d.about, file.Name())
	return s.play(d)
}

func (s *stage) play(d drill) error {
	if err := d.harm(s); err != nil {
		return fmt.Errorf("do the damage: %w", err)
	}
	from := time.Now()
	act := d.mend
	if s.cmd.ByHand {
		act = func(*stage) error { return s.handOver(d) }
	}
	if err := act(s); err != nil {
		return fmt.Errorf("mend it: %w", err)
	}
	return s.audit(time.Since(from))
}

// handOver waits for somebody to mend it.
func (s *stage) handOver(d drill) error {
	file, err := s.writeEnvironment()
	if err != nil {
		return err
	}
	s.tell("it is yours now; %s. In another terminal:", d.care)
	say(s.inv.stdout, "  . %s\n  restock status\n", file)
	for {
		ok, err := s.isWell()
		if ok || err != nil {
			return errors.Join(err, s.whatEnded())
		}
		if err := service.Sleep(s.ctx, time.Second); err != nil {
			return err
		}
	}
}

// writeEnvironment keeps what an operator's commands need in a file that a shell reads.
// It holds the passwords of this run.
func (s *stage) writeEnvironment() (string, error) {
	var b strings.Builder
	env := s.environment()
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&b, "export %s='%s'\n", name, env[name])
	}
	fmt.Fprintf(&b, "relay() { RESTOCK_DATABASE_URL='%s' command restock relay; }\n", s.relayDSN())
	file := filepath.Join(s.cmd.DataDir, "environment")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return "", fmt.Errorf("keep the environment: %w", err)
	}
	return file, nil
}

// drillPatience bounds the wait for each thing that must happen by itself.
const drillPatience = 5 * time.Minute

// until asks again and again until ok says yes.
func (s *stage) until(what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(s.ctx, drillPatience)
	defer cancel()
	for {
		if yes, err := ok(); err != nil || yes {
			return err
		}
		if err := service.Sleep(ctx, 10*time.Millisecond); err != nil {
			return errors.Join(fmt.Errorf("%s: not within %s", what, drillPatience), s.whatEnded(), s.ctx.Err())
		}
	}
}
