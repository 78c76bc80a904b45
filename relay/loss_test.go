package relay

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	here, elsewhere := origin{"7", 1}, origin{"7", 2}
	slot := slotState{exists: true, plugin: "pgoutput", database: "shop", confirmed: 100}
	mark := watermark{known: true, origin: here, recorded: 90, promised: 100, publication: "1 2 3 4"}
	healthy := found{database: "shop", origin: here, slot: slot, mark: mark, publication: "1 2 3 4"}
	cases := map[string]struct {
		change  func(f *found)
		config  Config
		want    remedy
		refused string
	}{
		"healthy":                   {func(*found) {}, Config{}, remedy{}, ""},
		"behind its promise":        {func(f *found) { f.slot.confirmed = 1 }, Config{}, remedy{}, ""},
		"first start":               {func(f *found) { f.mark, f.emptyLedger = watermark{}, true }, Config{}, remedy{}, ""},
		"made by migrate":           {func(f *found) { f.mark = watermark{known: true, promised: 100} }, Config{}, remedy{}, ""},
		"from before promises":      {func(f *found) { f.mark.promised, f.mark.publication = 0, "" }, Config{}, remedy{}, ""},
		"unknown":                   {func(f *found) { f.mark = watermark{} }, Config{}, remedy{sweep: "the slot is not known, and others have published", newSlot: true}, ""},
		"missing":                   {func(f *found) { f.slot = slotState{} }, Config{}, remedy{sweep: "the slot does not exist", newSlot: true}, ""},
		"lost":                      {func(f *found) { f.slot.lost = "wal_removed" }, Config{}, remedy{sweep: "the slot is invalid (wal_removed)", newSlot: true}, ""},
		"stale":                     {func(f *found) { f.stale = "no column" }, Config{}, remedy{sweep: "the slot cannot be read on: no column", newSlot: true}, ""},
		"moved":                     {func(f *found) { f.slot.confirmed = 101 }, Config{}, remedy{sweep: "the slot was made anew or moved by another hand (it is at 0/65, its relay was not past 0/64)", newSlot: true}, ""},
		"moved on another server":   {func(f *found) { f.slot.confirmed, f.origin = 101, elsewhere }, Config{}, remedy{sweep: "the database was restored or failed over, on timeline 2 of system 7 and before on 1 of 7"}, ""},
		"another publication":       {func(f *found) { f.publication = "9 2 3 4" }, Config{}, remedy{sweep: "the publication was made anew", newSlot: true}, ""},
		"another table":             {func(f *found) { f.publication = "1 9 3 4" }, Config{}, remedy{sweep: "the outbox table was made anew", newTable: true}, ""},
		"changed publication":       {func(f *found) { f.publication = "1 2 3 9" }, Config{}, remedy{sweep: "the publication was changed"}, ""},
		"both anew":                 {func(f *found) { f.publication = "8 9 3 4" }, Config{}, remedy{sweep: "the publication was made anew", newSlot: true, newTable: true}, ""},
		"due":                       {func(f *found) { f.mark.sweep = "first" }, Config{}, remedy{sweep: "first"}, ""},
		"due, and no slot yet":      {func(f *found) { f.mark.sweep, f.slot, f.emptyLedger = "first", slotState{}, true }, Config{}, remedy{sweep: "first", newSlot: true}, ""},
		"due, and the old slot":     {func(f *found) { f.mark.sweep, f.publication = "first", "9 2 3 4" }, Config{}, remedy{sweep: "first", newSlot: true}, ""},
		"due, and moved since":      {func(f *found) { f.mark.sweep, f.slot.confirmed = "first", 101 }, Config{}, remedy{sweep: "first", newSlot: true}, ""},
		"older":                     {func(f *found) { f.mark, f.younger = watermark{}, true }, Config{}, remedy{sweep: "the slot may be older than the publication", newSlot: true}, ""},
		"older, nothing to compare": {func(f *found) { f.mark, f.younger, f.emptyLedger = watermark{}, true, true }, Config{}, remedy{}, "pg_drop_replication_slot"},
		"older, and due":            {func(f *found) { f.mark, f.younger, f.emptyLedger = watermark{known: true, sweep: "first"}, true, true }, Config{}, remedy{sweep: "first", newSlot: true}, ""},
		"nothing to compare":        {func(f *found) { f.slot, f.emptyLedger = slotState{}, true }, Config{Slot: "s"}, remedy{}, "slot s: the slot does not exist, and the ledger is empty"},
		"nothing, and lost":         {func(f *found) { f.slot.lost, f.emptyLedger = "idle_timeout", true }, Config{}, remedy{}, "the slot is invalid (idle_timeout), and the ledger is empty"},
		"without a ledger":          {func(f *found) { f.slot = slotState{} }, Config{WithoutLedger: true}, remedy{}, "run the relay once with it"},
		"another plugin":            {func(f *found) { f.slot.plugin = "wal2json" }, Config{}, remedy{}, "choose another name"},
		"another database":          {func(f *found) { f.slot.database = "other" }, Config{}, remedy{}, "choose another name"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := healthy
			c.change(&f)
			got, err := f.decide(c.config)
			if c.refused != "" {
				require.ErrorAs(t, err, new(*RefusedError))
				require.ErrorContains(t, err, c.refused)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestBehindASweep(t *testing.T) {
	t.Parallel()
	swept := origin{"1", 1}
	f := found{origin: swept, slot: slotState{exists: true, confirmed: 100}, mark: watermark{known: true, origin: swept, promised: 100, publication: "1 2 3 4"}, publication: "1 2 3 4"}
	require.NoError(t, f.behind(swept, 0))
	require.Error(t, f.behind(origin{"1", 2}, 0), "failed over")
	f.mark.sweep = "due"
	require.NoError(t, f.behind(swept, 1), "by what is left")
	require.Error(t, f.behind(swept, 0), "by another hand")
	f.slot.confirmed = 101
	require.Error(t, f.behind(swept, 1), "the slot was moved")
	f.slot = slotState{}
	require.Error(t, f.behind(swept, 1), "the slot was dropped")
}

// TestSweepIsEndedByWhoHasTheLock: a relay that was frozen when the last of a sweep was
// recorded leaves it due as long as its lock may be another's.
func TestSweepIsEndedByWhoHasTheLock(t *testing.T) {
	t.Parallel()
	l := newTestLedger(t)
	cfg := Config{Slot: l.slot, Metrics: prometheus.NewRegistry(), Logger: zerolog.Nop()}
	r := &Relay{}
	l.metrics = newMetrics(cfg, r)
	require.NoError(t, sweepDue(t.Context(), l.pool, l.slot, "due"))
	g := &guard{opened: time.Now(), timeout: time.Minute}

	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.endSweep(soon, cfg, g, l, &session{}), context.DeadlineExceeded)
	require.Equal(t, []string{"due"}, texts(t, l, `SELECT sweep FROM watermarks`))

	g.extend(time.Now())
	require.NoError(t, r.endSweep(t.Context(), cfg, g, l, &session{}))
	require.Empty(t, texts(t, l, `SELECT sweep FROM watermarks WHERE sweep IS NOT NULL`))
}

func TestAsStale(t *testing.T) {
	t.Parallel()
	var stale *staleError
	require.ErrorAs(t, asStale(refusal("no column")), &stale)
	require.ErrorAs(t, asStale(&pgconn.PgError{Code: "42704"}), &stale)
	other := errors.New("other")
	require.Equal(t, other, asStale(other))
}

func TestPromise(t *testing.T) {
	t.Parallel()
	p := promise{wanted: newCursor(100).confirmed}
	require.Zero(t, p.confirmed(), "nothing is durable yet")
	p.given(90)
	p.given(80) // a heartbeat and a write of the ledger may end in any order
	require.EqualValues(t, 90, p.confirmed())
	p.given(200)
	require.EqualValues(t, 100, p.confirmed())
}
