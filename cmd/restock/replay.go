package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/restock-dev/restock/internal/ops"
)

type replayCommand struct {
	Run    replayRunCommand    `cmd:"" default:"withargs" help:"Publish events once more. This is what restock replay does without another word."`
	List   replayListCommand   `cmd:"" help:"List the replays, the newest first."`
	Show   replayShowCommand   `cmd:"" help:"Show one replay: who asked for what, how far it is, what could not be published."`
	Resume replayResumeCommand `cmd:"" help:"Go on with a cancelled replay, and watch it; or only watch one that goes on."`
	Cancel replayCancelCommand `cmd:"" help:"End a replay that is not over. What the relay is just sending may still go; a resume sends the last 2000 events at most again."`
}

// replayFlags are what each of them needs.
type replayFlags struct {
	databasesFlags
	vipFlag
	Outbox string `enum:"store,customers" default:"store" help:"Whose events: store, or customers (the events of promoted customers)."`
	By     string `env:"RESTOCK_OPERATOR,USER" default:"unknown" help:"Who asks; it is kept."`
	JSON   bool   `name:"json" help:"Print JSON."`
}

// open connects as restock_maintenance, which every command about replays runs as. The
// database of the outbox is needed; without the other one it is not known what consumers
// have handled that keep their inbox there.
func (f replayFlags) open(inv *invocation) (r *ops.Replays, done func(), err error) {
	p, done, err := f.databases(inv, "restock_replay", 3)
	if err != nil {
		return nil, nil, err
	}
	p.VIPThreshold = f.VIPThreshold
	p = p.Reached(inv)
	r, err = p.Replays(f.Outbox, f.By, inv.log.With().Str("part", "replay").Logger())
	if err != nil {
		done()
		return nil, nil, &setupError{err}
	}
	if err := notAll(p.Unreachable()); err != nil {
		inv.log.Warn().Err(err).Msg("what consumers have handled that keep their inbox there is not known")
	}
	return r, done, nil
}

type replayRunCommand struct {
	replayFlags
	Events []uuid.UUID `arg:"" optional:"" name:"event" help:"Ids of events."`

	IDsFile     string     `name:"ids-file" placeholder:"FILE" help:"Ids of events, one on a line; - is the standard input. It may have millions."`
	Since       *time.Time `placeholder:"TIME" help:"Events committed at or after this time, RFC 3339 with offset: 2026-01-31T03:00:00+09:00."`
	Until       *time.Time `placeholder:"TIME" help:"Events committed before this time."`
	Type        []string   `help:"Events of this type; may be given again."`
	Group       []string   `sep:"none" help:"Events of this message group; may be given again."`
	SKU         string     `name:"sku" help:"Events about this product."`
	Customer    string     `help:"Events about this customer."`
	Order       string     `help:"Events about this order."`
	Parked      bool       `help:"Events that were parked by themselves, instead of published ones."`
	Unpublished bool       `help:"Events that the ledger does not know, instead of published ones. The relay brings the newest of these by itself: mind its lag."`
	Unhandled   string     `placeholder:"CONSUMER" help:"Published events that this consumer wants and has not handled, by its inbox."`
	SkipMissing bool       `help:"Leave out ids of events that cannot be replayed, rather than refuse."`

	Consumer string `help:"Reach this consumer only; the others skip the events."`
	Force    bool   `help:"Have consumers handle what they handled before. What they would not do twice by their own rules they still do not."`
	Rate     int    `default:"${replayrate}" help:"Events a second; 0 is as many as the relay can."`
	Plan     bool   `help:"Print what would be replayed, and who would do what, and change nothing."`
	Sample   int    `default:"${replaysample}" help:"How many events a plan shows one by one."`
	NoWait   bool   `help:"Do not watch it."`
}

// Help is what -h says besides the flags.
func (c *replayRunCommand) Help() string {
	return "Events that meet all that is given are published once more by the active relay, each group in its order, under another deduplication id and with the same event id. " +
		"Consumers skip what they handled before. Stopping the command stops nothing: restock replay resume ID watches again, restock replay cancel ID ends it. " +
		"It connects as restock_maintenance."
}

// replayed is what a replay prints as JSON.
type replayed struct {
	Plan     *ops.ReplayPlan     `json:"plan,omitempty"`
	Replay   *ops.ReplayState    `json:"replay,omitempty"`
	Failures []ops.ReplayFailure `json:"failures,omitempty"`
}

// Run plans, and replays.
func (c *replayRunCommand) Run(inv *invocation) error {
	s := ops.ReplaySelection{
		Events: c.Events, IDsFile: c.IDsFile, Since: c.Since, Until: c.Until, Types: c.Type, Groups: c.Group, SKU: c.SKU, Customer: c.Customer, Order: c.Order,
		Parked: c.Parked, Unpublished: c.Unpublished, Unhandled: c.Unhandled, SkipMissing: c.SkipMissing,
	}
	switch c.IDsFile {
	case "":
	case "-":
		s.IDs = os.Stdin
	default:
		f, err := os.Open(c.IDsFile)
		if err != nil {
			return &setupError{err}
		}
		defer f.Close()
		s.IDs = f
	}
	if err := s.Validate(); err != nil {
		return &setupError{err}
	}
	r, done, err := c.open(inv)
	if err != nil {
		return err
	}
	defer done()
	do := r.Start
	if c.Plan {
		do = r.Plan
	}
	plan, err := do(inv, s, ops.ReplayOptions{Consumer: c.Consumer, Force: c.Force, Rate: c.Rate, Sample: c.Sample})
	switch {
	case errors.Is(err, ops.ErrSelection):
		return &setupError{err}
	case errors.Is(err, ops.ErrNothingSelected) && c.seeksTrouble():
		if !c.JSON {
			say(inv.stdout, "there is none: nothing is to be replayed\n")
			if c.Unhandled != "" { // what is not handled, and what the command does not bring
				printLeftOut(inv.stdout, plan.LeftOut)
			}
		}
		return c.print(inv, replayed{})
	case err != nil:
		return err
	}
	if !c.JSON {
		printPlan(inv.stdout, plan, c.Force)
	}
	if c.Plan || c.NoWait {
		return c.print(inv, replayed{Plan: &plan})
	}
	return c.watch(inv, r, *plan.ID, replayed{Plan: &plan})
}

// seeksTrouble tells whether what was asked for is what went wrong, of which there may
// be nothing: what another replay has healed already, say.
func (c *replayRunCommand) seeksTrouble() bool {
	return c.Unhandled != "" || c.Unpublished || c.Parked
}

func (f replayFlags) print(inv *invocation, result replayed) error {
	if !f.JSON {
		return nil
	}
	return printJSON(inv.stdout, result)
}

type replayListCommand struct {
	replayFlags
	pageFlags
}

// Run lists.
func (c *replayListCommand) Run(inv *invocation) error {
	r, done, err := c.open(inv)
	if err != nil {
		return err
	}
	defer done()
	all, err := r.List(inv, c.cursor())
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printJSON(inv.stdout, all)
	case len(all.Items) == 0:
		say(inv.stdout, "nothing was ever replayed\n")
		return nil
	}
	printReplays(inv.stdout, all.Items)
	sayMore(inv, all.Next)
	return nil
}

type replayShowCommand struct {
	replayFlags
	ID       uuid.UUID `arg:"" help:"The replay's id."`
	Failures int       `default:"20" help:"How many of the events are shown that could not be published."`
}

// Run shows.
func (c *replayShowCommand) Run(inv *invocation) error {
	r, done, err := c.open(inv)
	if err != nil {
		return err
	}
	defer done()
	s, err := r.State(inv, c.ID)
	if err != nil {
		return err
	}
	failures, err := r.Failures(inv, c.ID, c.Failures)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(inv.stdout, replayed{Replay: &s, Failures: failures})
	}
	printReplay(inv.stdout, s, failures)
	return nil
}

type replayResumeCommand struct {
	replayFlags
	ID     uuid.UUID `arg:"" help:"The replay's id."`
	NoWait bool      `help:"Do not watch it."`
}

// Run resumes, and watches.
func (c *replayResumeCommand) Run(inv *invocation) error {
	r, done, err := c.open(inv)
	if err != nil {
		return err
	}
	defer done()
	s, err := r.Resume(inv, c.ID)
	if err != nil {
		return err
	}
	if c.NoWait {
		if !c.JSON {
			say(inv.stdout, "replay %s is %s: %d of %d events are done\n", s.ID, s.State, s.Done, s.Events)
		}
		return c.print(inv, replayed{Replay: &s})
	}
	return c.watch(inv, r, c.ID, replayed{})
}

type replayCancelCommand struct {
	replayFlags
	ID uuid.UUID `arg:"" help:"The replay's id."`
}

// Run cancels.
func (c *replayCancelCommand) Run(inv *invocation) error {
	r, done, err := c.open(inv)
	if err != nil {
		return err
	}
	defer done()
	s, err := r.Cancel(inv, c.ID)
	if err != nil {
		return err
	}
	if !c.JSON {
		say(inv.stdout, "replay %s cancelled with %d of %d events done: restock replay resume %s goes on with it\n", s.ID, s.Done, s.Events, s.ID)
	}
	return c.print(inv, replayed{Replay: &s})
}

// errUnreplayed is that not all of a replay was published.
func errUnreplayed(s ops.ReplayState) error {
	switch {
	case s.State == "cancelled":
		return fmt.Errorf("replay %s was cancelled by %s with %d of %d events done: restock replay resume %s goes on with it", s.ID, visible(s.CancelledBy), s.Done, s.Events, s.ID)
	case s.Failed > 0:
		return fmt.Errorf("%d of the %d events could not be published: restock replay show %s says why", s.Failed, s.Events, s.ID)
	}
	return nil
}
