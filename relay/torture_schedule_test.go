package relay_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/schema"
)

// schedule is what is done to a relay, all of it decided by the seed.
type schedule struct {
	seed          uint64
	window        int
	inFlight      int
	senderTimeout time.Duration
	phases        []phase
}

// phase is some work under some faults, and what puts an end to it.
type phase struct {
	work  [][]transaction // of each writer
	rules []localaws.Rule
	end   ending
}

// transaction is written by one writer at once.
type transaction struct {
	steps   []step
	commits bool
}

// step is a run of rows; those undone stand behind a savepoint that is rolled back to.
type step struct {
	events []schema.Event
	undone bool
}

// ending is who dies, and when.
type ending struct {
	victim victim
	at     point
	n      int // the how manieth call, event read, or write of the ledger it is
	// forget lets five minutes pass before what comes next, as far as SNS and SQS can tell.
	forget bool
	// hasty does not wait until Postgres has noticed the death of a relay.
	hasty bool
}

type victim string

const (
	nobody            victim = "nobody"
	relayKilled       victim = "relay killed"
	relayStopped      victim = "relay stopped"
	networkCut        victim = "network cut"
	postgresKilled    victim = "postgres killed"
	postgresImmediate victim = "postgres stopped immediately"
	machineLost       victim = "relay and postgres killed"
)

func (v victim) endsRelay() bool {
	return v == relayKilled || v == relayStopped || v == machineLost
}

func (v victim) endsPostgres() bool {
	return v == postgresKilled || v == postgresImmediate || v == machineLost
}

type point string

const (
	afterRead     point = "after read"
	beforePublish point = "before publish"
	beforeAnswer  point = "after acceptance before answer"
	beforeLedger  point = "before ledger"
	beforeConfirm point = "before confirm"
	ledgerRefuses point = "while the ledger refuses"
)

func (s schedule) killsPostgres() bool {
	for _, p := range s.phases {
		if p.end.victim.endsPostgres() {
			return true
		}
	}
	return false
}

// fate is how a relay that runs in phase i will end.
func (s schedule) fate(i int) victim {
	for _, p := range s.phases[i:] {
		if p.end.victim.endsRelay() {
			return p.end.victim
		}
	}
	return nobody
}

// String is for whoever looks into a failure.
func (s schedule) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "window %d, in flight %d, sender timeout %s\n", s.window, s.inFlight, s.senderTimeout)
	for i, p := range s.phases {
		fmt.Fprintf(&text, "phase %d:", i+1)
		for _, writer := range p.work {
			for _, tx := range writer {
				fmt.Fprintf(&text, " %s", tx)
			}
			text.WriteString(" |")
		}
		for _, r := range p.rules {
			fmt.Fprintf(&text, " %s %s%s x%d,", r.Effect, r.Group, r.BodyContains, r.Count)
		}
		fmt.Fprintf(&text, " %s %s %d", p.end.victim, p.end.at, p.end.n)
		if p.end.hasty {
			text.WriteString(", hasty")
		}
		if p.end.forget {
			text.WriteString(", ids forgotten")
		}
		text.WriteString("\n")
	}
	return text.String()
}

func (t transaction) String() string {
	var parts []string
	for _, s := range t.steps {
		part := fmt.Sprint(len(s.events))
		if s.undone {
			part = "(" + part + ")"
		}
		parts = append(parts, part)
	}
	text := strings.Join(parts, "+")
	if !t.commits {
		return "-" + text
	}
	return text
}

// lockedGroups are those whose locks it needs, in the order in which it takes them.
func (t transaction) lockedGroups() []string {
	groups := map[string]bool{}
	for _, s := range t.steps {
		for _, e := range s.events {
			if strings.HasPrefix(e.Group, lockedPrefix) {
				groups[e.Group] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(groups))
}

// generator makes schedules.
type generator struct {
	*rand.Rand
	groups []string
}

// lockedPrefix begins the name of a group whose writers hold its lock, so that its
// rows stand in the outbox in commit order.
const lockedPrefix = "locked-"

func newSchedule(seed uint64) schedule {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
	for i := range 1 + g.IntN(8) {
		g.groups = append(g.groups, fmt.Sprint(pick(g, lockedPrefix, "free-"), i))
	}
	s := schedule{
		seed: seed, window: pick(g, 8<<10, 64<<10, 64<<20), inFlight: pick(g, 1, 4, 16),
		senderTimeout: pick(g, 2*time.Second, 30*time.Second),
	}
	victims := []victim{relayKilled, relayKilled, relayStopped, networkCut}
	if g.chance(0.3) {
		victims = append(victims, postgresKilled, postgresKilled, postgresImmediate, machineLost)
	}
	for range 1 + g.IntN(4) {
		s.phases = append(s.phases, g.phase(g.ending(victims)))
	}
	s.phases = append(s.phases, g.phase(ending{victim: nobody}))
	return s
}

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

func (g *generator) chance(p float64) bool { return g.Float64() < p }

func (g *generator) ending(victims []victim) ending {
	e := ending{
		victim: pick(g, victims...), at: pick(g, afterRead, beforePublish, beforeAnswer, beforeLedger, beforeConfirm, ledgerRefuses),
		n: 1 + g.IntN(12), forget: g.chance(0.4), hasty: g.chance(0.1),
	}
	switch e.at {
	case afterRead, ledgerRefuses: // long enough for statuses to go out meanwhile
		e.n = 1 + g.IntN(60)
	}
	return e
}

func (g *generator) phase(e ending) phase {
	p := phase{end: e}
	var ids []uuid.UUID
	for range 1 + g.IntN(3) {
		var writer []transaction
		for range 1 + g.IntN(4) {
			tx := g.transaction()
			writer = append(writer, tx)
			for _, s := range tx.steps {
				for _, event := range s.events {
					ids = append(ids, event.ID)
				}
			}
		}
		p.work = append(p.work, writer)
	}
	for range g.IntN(4) {
		p.rules = append(p.rules, g.rule(ids))
	}
	return p
}

func (g *generator) transaction() transaction {
	tx := transaction{commits: g.chance(0.85)}
	if g.chance(0.03) {
		tx.steps = []step{{events: g.events(200 + g.IntN(400))}}
		return tx
	}
	for range 1 + g.IntN(3) {
		tx.steps = append(tx.steps, step{events: g.events(g.rows()), undone: g.chance(0.15)})
	}
	return tx
}

func (g *generator) rows() int {
	if g.chance(0.1) {
		return 1 + g.IntN(50)
	}
	return 1 + g.IntN(4)
}

func (g *generator) events(n int) []schema.Event {
	size := pick(g, 10, 10, 500)
	if n < 5 && g.chance(0.1) {
		size = 60_000
	}
	events := make([]schema.Event, n)
	for i := range events {
		events[i] = event(pick(g, g.groups...), size)
		old := events[i].ID.String()
		events[i].ID = g.id()
		events[i].Body = strings.Replace(events[i].Body, old, events[i].ID.String(), 1)
	}
	return events
}

func (g *generator) id() (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], g.Uint64())
	binary.BigEndian.PutUint64(id[8:], g.Uint64())
	return id
}

// rule is a fault that ends by itself. None of them is an event's own fault, so
// nothing may be parked.
func (g *generator) rule(ids []uuid.UUID) localaws.Rule {
	r := localaws.Rule{
		Service: "sns", Action: "PublishBatch", Count: 1 + g.IntN(5),
		Effect: pick(g, localaws.DropAnswer, localaws.Cut, localaws.FailEntries, localaws.FailEntries,
			localaws.Throttle, localaws.InternalError, localaws.Delay),
	}
	switch r.Effect {
	case localaws.FailEntries:
		r.Code = pick(g, "InternalError", "Throttled", "KMSThrottling")
	case localaws.Delay:
		r.Delay = time.Duration(1+g.IntN(10)) * time.Millisecond
	}
	switch g.IntN(3) {
	case 0:
		r.Group = pick(g, g.groups...)
	case 1:
		r.BodyContains = pick(g, ids...).String()
	}
	return r
}
