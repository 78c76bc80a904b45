package relay_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// logged keeps the relay's lines.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

// with returns the lines that have text in them.
func (l *logged) with(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

func (l *logged) to(c *relay.Config) {
	c.Logger = zerolog.New(zerolog.MultiLevelWriter(l, c.Logger)).Level(zerolog.InfoLevel)
}

func (o *outbox) exec(sql string, args ...any) {
	o.t.Helper()
	_, err := o.pool.Exec(o.ctx, sql, args...)
	require.NoError(o.t, err)
}

// dropSlot drops the slot as soon as the server has noticed that its relay is gone.
func (o *outbox) dropSlot() {
	o.t.Helper()
	o.eventually("the slot is not active", func() bool { return o.count(`pg_replication_slots WHERE slot_name = $1 AND active`, o.slot) == 0 })
	o.exec(`SELECT pg_drop_replication_slot($1)`, o.slot)
}

// createSlot makes it as restock migrate does.
func (o *outbox) createSlot(existing relay.Existing) (made bool, err error) {
	return relay.CreateSlot(o.ctx, o.pg.DSN(o.database), o.slot, schema.Publication, existing, time.Minute)
}

func (o *outbox) makeSlot() {
	o.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, o.slot)
}

// published commits n events by a relay that then stops.
func (o *outbox) published(n int, groups ...string) map[string][]uuid.UUID {
	o.t.Helper()
	r := o.start()
	ids := o.each(n, groups...)
	require.Equal(o.t, ids, o.received(n))
	o.settled()
	require.NoError(o.t, r.stop())
	o.forgetRepeats()
	return ids
}

// heals starts a relay that must publish want and nothing else, sweep once because
// of what it says, and stream on.
func (o *outbox) heals(because string, want map[string][]uuid.UUID) *running {
	o.t.Helper()
	n := 0
	for _, ids := range want {
		n += len(ids)
	}
	log := &logged{}
	r := o.start(log.to)
	o.eventually("swept and streaming", func() bool { return r.metric(o.t, "sweeps_total") == 1 && r.Ready(o.ctx) == nil })
	require.Equal(o.t, want, o.received(n))
	lines := log.with("may have gone past the slot")
	require.Len(o.t, lines, 1, "one line")
	require.Contains(o.t, lines[0], because)
	require.Contains(o.t, lines[0], fmt.Sprintf(`"events":%d`, n))
	more := o.each(4, "a", "b")
	require.Equal(o.t, more, o.received(4))
	o.settled()
	o.drained()
	o.confirmedUpToNow()
	require.Equal(o.t, float64(n+4), r.metric(o.t, "events_published_total"), "each once")
	require.Equal(o.t, 0, o.count(`watermarks WHERE sweep IS NOT NULL`))
	require.Equal(o.t, 1.0, r.metric(o.t, "sweeps_total"))
	return r
}

// TestSlotLost: however the slot was lost, what was committed meanwhile is
// published in the order of its groups, once, and nothing else is.
func TestSlotLost(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		lose    func(o *outbox)
		mend    func(o *outbox)
		because string
	}{
		"dropped": {(*outbox).dropSlot, nil, "the slot does not exist"},
		"dropped, migrated": {(*outbox).dropSlot, func(o *outbox) {
			made, err := o.createSlot(relay.RefuseExisting)
			require.NoError(o.t, err)
			require.True(o.t, made)
		}, "restock migrate made the slot"},
		"dropped, made by another hand": {(*outbox).dropSlot, (*outbox).makeSlot, "made anew or moved by another hand"},
		"moved by another hand": {nil, func(o *outbox) {
			o.eventually("the slot is not active", func() bool { return o.count(`pg_replication_slots WHERE slot_name = $1 AND active`, o.slot) == 0 })
			o.exec(`SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())`, o.slot)
		}, "made anew or moved by another hand"},
		"under another name": {nil, func(o *outbox) {
			o.dropSlot()
			o.slot += "_2"
			o.makeSlot()
		}, "the slot is not known, and others have published"},
		"publication made anew": {func(o *outbox) { o.exec(`DROP PUBLICATION restock_outbox`) }, func(o *outbox) {
			repaired, err := relay.RepairPublication(o.ctx, o.pg.DSN(o.database), o.slot, schema.Publication)
			require.NoError(o.t, err)
			require.True(o.t, repaired)
		}, "the publication was made anew"},
		"publication changed and back": {
			func(o *outbox) { o.exec(`ALTER PUBLICATION restock_outbox DROP TABLE outbox`) },
			func(o *outbox) { o.exec(`ALTER PUBLICATION restock_outbox ADD TABLE outbox`) },
			"the publication was changed",
		},
		"another system": {nil, func(o *outbox) {
			o.exec(`UPDATE watermarks SET system_identifier = '1', recorded_lsn = 'F/0', confirm_lsn = 'F/0'`)
		}, "restored or failed over, on timeline 1 of system"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutbox(t)
			o.published(20, "a", "b")
			if c.lose != nil {
				c.lose(o)
			}
			want := o.each(20, "a", "b", "c")
			if c.mend != nil {
				c.mend(o)
			}
			o.heals(c.because, want)
		})
	}
}

// TestSlotInvalidated: the server has thrown away WAL that the slot needed.
func TestSlotInvalidated(t *testing.T) {
	t.Parallel()
	o := newOutboxOn(t, pgtest.NewServer(t, localpg.Config{Settings: map[string]string{"max_slot_wal_keep_size": "1MB"}}))
	o.published(10, "a", "b")
	want := map[string][]uuid.UUID{}
	o.eventually("the slot is lost", func() bool {
		for g, ids := range o.each(2, "a", "b") {
			want[g] = append(want[g], ids...)
		}
		o.exec(`SELECT pg_switch_wal()`)
		o.exec(`CHECKPOINT`)
		return o.count(`pg_replication_slots WHERE wal_status = 'lost'`) == 1
	})
	because := "it has lost WAL that it needed"
	if o.pg.Version() >= 17 {
		because = "wal_removed"
	}
	o.heals("the slot is invalid ("+because+")", want)
}

// TestSlotIdleForTooLong: from Postgres 18 on a slot can be lost to idleness.
func TestSlotIdleForTooLong(t *testing.T) {
	t.Parallel()
	pg := pgtest.NewServer(t, localpg.Config{})
	if pg.Version() < 18 {
		t.Skip("Postgres 18 has idle_replication_slot_timeout")
	}
	o := newOutboxOn(t, pg)
	o.published(10, "a", "b")
	want := o.each(10, "a", "b")
	o.exec(`ALTER SYSTEM SET idle_replication_slot_timeout = '1s'`)
	o.exec(`SELECT pg_reload_conf()`)
	o.eventually("the slot is lost", func() bool {
		o.exec(`CHECKPOINT`)
		return o.count(`pg_replication_slots WHERE invalidation_reason IS NOT NULL`) == 1
	})
	o.exec(`ALTER SYSTEM RESET idle_replication_slot_timeout`)
	o.exec(`SELECT pg_reload_conf()`)
	o.heals("the slot is invalid (idle_timeout)", want)
}

// TestFailoverSlot: where the server has them, the slot is one that standbys keep.
func TestFailoverSlot(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	if o.pg.Version() < 17 {
		t.Skip("Postgres 17 has failover slots")
	}
	require.Equal(t, 1, o.count(`pg_replication_slots WHERE slot_name = $1 AND failover`, o.slot))
}

// cluster runs a command on the data directory of a server that is stopped for it.
func (o *outbox) whileStopped(command func(data string)) {
	o.t.Helper()
	var data string
	o.one(&data, `SHOW data_directory`)
	o.pool.Reset()
	require.NoError(o.t, o.pg.StopMode(o.ctx, localpg.Fast))
	command(data)
	require.NoError(o.t, o.pg.Start(o.ctx))
	o.pool.Reset()
}

func (o *outbox) shell(script string, args ...string) {
	o.t.Helper()
	out, err := exec.CommandContext(o.ctx, "sh", append([]string{"-ec", script, "sh"}, args...)...).CombinedOutput()
	require.NoError(o.t, err, string(out))
}

// promoted makes the server at data one that was promoted: it has no logical slots
// and begins a timeline of its own.
const promoted = `rm -rf "$1"/pg_replslot/*; cp -p "$1/PG_VERSION" "$1/recovery.signal"; : > "$1/recovery.signal"`

// TestFailover: the server is replaced by a standby that was promoted. It has no
// slot, all rows, and another timeline.
func TestFailover(t *testing.T) {
	t.Parallel()
	o := newOutboxOn(t, pgtest.NewServer(t, localpg.Config{Settings: map[string]string{"restore_command": "false"}}))
	o.published(10, "a", "b")
	want := o.each(10, "a", "b")
	o.whileStopped(func(data string) { o.shell(promoted, data) })
	o.heals("the slot does not exist, on timeline 2 of system", want)
}

// TestFailoverWithSlot: the standby had kept the slot. Whether it had kept all of
// its position is not known.
func TestFailoverWithSlot(t *testing.T) {
	t.Parallel()
	o := newOutboxOn(t, pgtest.NewServer(t, localpg.Config{Settings: map[string]string{"restore_command": "false"}}))
	o.published(10, "a", "b")
	want := o.each(10, "a", "b")
	o.whileStopped(func(data string) { o.shell(strings.TrimPrefix(promoted, `rm -rf "$1"/pg_replslot/*; `), data) })
	o.heals("the database was restored or failed over, on timeline 2 of system", want)
}

// TestRestore: the database is one of an older backup. Rows of the backup that were
// published after it was made have lost their ledger rows with it, and go out again;
// those that its ledger holds do not.
func TestRestore(t *testing.T) {
	t.Parallel()
	o := newOutboxOn(t, pgtest.NewServer(t, localpg.Config{Settings: map[string]string{"restore_command": "false"}}))
	o.published(10, "a", "b")
	again := o.each(6, "a", "b") // in the backup, unpublished
	backup := filepath.Join(t.TempDir(), "backup")
	o.whileStopped(func(data string) { o.shell(`cp -a "$1" "$2"`, data, backup) })
	r := o.start()
	require.Equal(t, again, o.received(6))
	o.published(4, "a", "b") // these rows are lost, published as they are
	require.NoError(t, r.stop())
	o.whileStopped(func(data string) { o.shell(`rm -rf "$1"; cp -a "$2" "$1"`+"\n"+promoted, data, backup) })
	o.heals("the slot does not exist, on timeline 2 of system", again)
}

// TestNothingToCompareWith: with slot and ledger both gone, the relay does not
// guess; migrate asks.
func TestNothingToCompareWith(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.published(4, "a", "b")
	o.dropSlot()
	o.exec(`TRUNCATE ledger`)
	require.ErrorContains(t, o.start().stopWhenRefused(), ": the slot does not exist, and the ledger is empty, so that nothing tells what is published: run restock migrate")
	var refused *relay.ExistingError
	_, err := o.createSlot(relay.RefuseExisting)
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 4, refused.Events)
	_, err = o.createSlot(relay.SkipExisting)
	require.NoError(t, err)
	more := o.each(2, "a", "b")
	o.heals("restock migrate made the slot", more)
	require.Equal(t, 4, o.count(`parked WHERE state = 'skipped'`))

	o = newOutbox(t)
	want := o.published(4, "a", "b")
	o.dropSlot()
	o.exec(`TRUNCATE ledger`)
	_, err = o.createSlot(relay.PublishExisting)
	require.NoError(t, err)
	o.heals("restock migrate made the slot", want)
}

// TestParkedBeforeTheLedgerWasLost: what was parked is not in the ledger any more, so all
// of it is tried again. What is refused once more stays as it was, and holds nothing up.
func TestParkedBeforeTheLedgerWasLost(t *testing.T) {
	t.Parallel()
	for _, existing := range []relay.Existing{relay.PublishExisting, relay.SkipExisting} {
		o := newOutbox(t)
		o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Group: "bad", Code: "InvalidParameter", SenderFault: true})
		r := o.start()
		bad := o.commit(event("bad", 1), event("bad", 1))
		good := o.commit(event("good", 1))
		o.received(1)
		o.settled()
		require.NoError(t, r.stop())
		o.forgetRepeats()
		_, err := o.operator().Skip(o.ctx, ops.ParkedSelection{Events: bad[:1]}, "nobody needs it")
		require.NoError(t, err)

		o.dropSlot()
		o.exec(`TRUNCATE ledger`)
		_, err = o.createSlot(existing)
		require.NoError(t, err)
		o.start()
		if existing == relay.SkipExisting {
			good = nil
		}
		good = append(good, o.commit(event("good", 1))...)
		require.Equal(t, good, o.received(len(good))["good"])
		o.settled()
		o.confirmedUpToNow()
		for i, state := range []string{"skipped", "parked"} {
			require.Equal(t, 1, o.count(`parked WHERE event_id = $1 AND state = $2 AND reason = 'rejected'`, bad[i], state))
		}
	}
}

// TestSweptInTheOrderOfSeq: a transaction that began before midnight may take its
// group's lock after one that began later. Its row has the older day and the higher
// seq.
func TestSweptInTheOrderOfSeq(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.published(2, "a", "b")
	o.dropSlot()
	var want []uuid.UUID
	for _, day := range []string{"today", "yesterday", "today", "yesterday"} {
		id := schema.NewID()
		o.exec(`INSERT INTO outbox (day, id, type, message_group, attributes, body) VALUES ((now() AT TIME ZONE 'UTC')::date - CASE $1 WHEN 'today' THEN 0 ELSE 1 END, $2, 'x', 'a', '{}', '{}')`, day, id)
		want = append(want, id)
	}
	o.heals("the slot does not exist", map[string][]uuid.UUID{"a": want})
}

// TestSweepIsWideAndFlat: far more than the window holds is swept within it.
func TestSweepIsWideAndFlat(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.published(2, "a", "b")
	o.dropSlot()
	o.exec(`INSERT INTO outbox (id, type, message_group, attributes, body)
		SELECT gen_random_uuid(), 'x', 'g' || i % 50, '{}', '{"d":"' || repeat('x', 2000) || '"}' FROM generate_series(1, 3000) i`)
	accept := o.refuseAll()
	r := o.start(func(c *relay.Config) { c.Window = 64 << 10 })
	o.eventually("the window is full", func() bool { return r.metric(t, "window_bytes") > 48<<10 })
	require.LessOrEqual(t, r.metric(t, "window_bytes"), float64(64<<10))
	require.Equal(t, 3000.0, r.metric(t, "events_swept_total"))
	require.ErrorContains(t, r.Ready(o.ctx), "sweeping")
	o.eventually("it lags", func() bool { return r.PublishLag() > 0 })
	accept()
	o.settled()
	o.eventually("swept and streaming", func() bool { return r.metric(t, "sweeps_total") == 1 && r.Ready(o.ctx) == nil })
	require.Zero(t, r.PublishLag())
	o.received(3000)
	o.drained()
}

// TestSweepCutShort: the relay dies in the middle of a sweep, again and again, each time
// after the slot has gone on past what is left of it. What it has recorded is not sent
// again, and the next one finishes the sweep.
func TestSweepCutShort(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.published(2, "a", "b")
	o.dropSlot()
	want := o.each(40, "a", "b", "c", "d")
	cut := o.aws.Faults().Add(localaws.Rule{Effect: localaws.FailEntries, Service: "sns", Group: "d", Code: "InternalError"})
	for i := range 2 {
		log := &logged{}
		r := o.start(log.to)
		o.eventually("others are swept", func() bool { return len(log.with("may have gone past")) == 1 && o.count(`ledger`) == 2+30+2*i })
		o.eventually("streaming", func() bool { return r.Ready(o.ctx) == nil })
		require.Positive(t, r.PublishLag())
		want["a"] = append(want["a"], o.each(2, "a")["a"]...)
		o.confirmedUpToNow()
		require.NoError(t, r.stop())
		require.Contains(t, log.with("may have gone past the slot")[0], fmt.Sprintf(`"new_slot":%t`, i == 0), "the slot of the first is kept")
		require.Equal(t, 1, o.count(`watermarks WHERE sweep = 'the slot does not exist'`))
	}
	o.aws.Faults().Remove(cut)
	r := o.start()
	o.settled()
	require.Equal(t, want, o.received(44))
	o.drained()
	o.eventually("swept and streaming", func() bool { return r.metric(t, "sweeps_total") == 1 && r.Ready(o.ctx) == nil })
	require.Equal(t, 10.0, r.metric(t, "events_swept_total"))
	require.Equal(t, 0, o.count(`watermarks WHERE sweep IS NOT NULL`))
}

// TestSweepOfWhatIsRefused: what a sweep cannot publish keeps nobody else waiting, and
// by the others' being accepted it is found out, also where it was all that was missing.
func TestSweepOfWhatIsRefused(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]localaws.Rule{
		"for now": {Effect: localaws.FailEntries, Service: "sns", Group: "bad", Code: "InternalError"},
		"with its whole call": {
			Effect: localaws.Refuse, Service: "sns", Group: "bad", Code: "InvalidParameter", SenderFault: true, Status: 400,
		},
	} {
		for alone, others := range map[string]int{"alone": 0, "among others": 20} {
			t.Run(name+", "+alone, func(t *testing.T) {
				t.Parallel()
				o := newOutbox(t)
				o.published(2, "a", "b")
				o.dropSlot()
				o.aws.Faults().Add(rule)
				bad := o.commit(event("bad", 1))
				o.each(others, "a", "b")
				r := o.start(soon)
				o.eventually("streaming", func() bool { return r.Ready(o.ctx) == nil })
				o.eventually("it is parked", func() bool {
					o.commit(event("live", 1))
					return o.count(`parked WHERE event_id = $1`, bad[0]) == 1
				})
				o.settled()
				o.eventually("swept", func() bool { return r.metric(t, "sweeps_total") == 1 })
				require.Equal(t, 0, o.count(`watermarks WHERE sweep IS NOT NULL`))
				require.Equal(t, 1.0, r.metric(t, "events_parked_total"))
			})
		}
	}
}

// TestSlotNotMadeYet: a relay that died between noting that a sweep is due and
// making the slot, with the old slot gone or still there.
func TestSlotNotMadeYet(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.published(2, "a", "b")
	o.dropSlot()
	o.exec(`UPDATE watermarks SET sweep = 'noted'`)
	require.NoError(t, o.heals("noted", o.each(6, "a", "b")).stop())
	o.forgetRepeats()

	o.exec(`UPDATE watermarks SET sweep = 'noted again'`)
	o.dropSlot()
	want := o.each(6, "a", "b")
	o.makeSlot() // made, and what it was made for not noted yet
	o.heals("noted again", want)
}

// TestOpenTransaction: one that is open while the slot is made and the snapshot is
// taken is waited for, whatever it does, and one that begins meanwhile is seen by
// the snapshot or brought by the slot.
func TestOpenTransaction(t *testing.T) {
	t.Parallel()
	o := newOutboxOn(t, pgtest.NewServer(t, localpg.Config{}))
	o.published(2, "a", "b")
	o.dropSlot()
	lost := o.each(4, "lost")
	early, late := event("early", 1), event("late", 1)
	begin := func(e schema.Event) pgx.Tx {
		tx, err := o.pool.Begin(o.ctx)
		require.NoError(t, err)
		require.NoError(t, schema.Append(o.ctx, tx, e))
		return tx
	}
	open := begin(early)
	r := o.start()
	o.eventually("the slot waits for it", func() bool {
		return o.count(`pg_stat_activity WHERE query LIKE '%pg_create_logical_replication_slot%' AND wait_event_type = 'Lock'`) == 1
	})
	require.ErrorContains(t, r.Ready(o.ctx), "sweeping")
	other := begin(late) // begun while the slot is being made
	meanwhile := o.each(4, "meanwhile")
	require.NoError(t, open.Commit(o.ctx))
	o.eventually("swept or waiting for the other", func() bool {
		return r.Ready(o.ctx) == nil || o.count(`pg_stat_activity WHERE query LIKE '%pg_create_logical_replication_slot%' AND wait_event_type = 'Lock'`) == 1
	})
	require.NoError(t, other.Commit(o.ctx))
	require.Equal(t, map[string][]uuid.UUID{"lost": lost["lost"], "early": {early.ID}, "late": {late.ID}, "meanwhile": meanwhile["meanwhile"]}, o.received(10))
	o.settled()
	o.drained()
}

// TestSlotLostUnderLoad: transactions go on committing while the slot is lost, made
// and swept behind: each event is published, in its group's order. That each is
// published once shows that the stream looks up what the sweep has published.
func TestSlotLostUnderLoad(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.published(2, "a", "b")
	for range 3 {
		o.dropSlot()
		stop, done := make(chan struct{}), make(chan map[string][]uuid.UUID)
		go func() {
			all := map[string][]uuid.UUID{}
			for {
				select {
				case <-stop:
					done <- all
					return
				default:
				}
				for g, ids := range o.each(3, "a", "b", "c") {
					all[g] = append(all[g], ids...)
				}
			}
		}()
		r := o.start()
		o.eventually("streaming", func() bool { return r.Ready(o.ctx) == nil })
		close(stop)
		want := <-done
		o.settled()
		n := 0
		for _, ids := range want {
			n += len(ids)
		}
		require.Equal(t, want, o.received(n))
		o.drained()
		require.NoError(t, r.stop())
		require.Equal(t, float64(n), r.metric(t, "events_published_total"), "each once")
		o.forgetRepeats()
	}
}

// TestPublicationChangedWhileStreaming: rows that pass a publication without the
// table come by no stream, and are swept when it is back.
func TestPublicationChangedWhileStreaming(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	r := o.start()
	o.eventually("streaming", func() bool { return r.Ready(o.ctx) == nil })
	before := o.each(4, "a", "b")
	o.received(4)
	o.settled()
	require.NotEmpty(t, before)
	o.exec(`ALTER PUBLICATION restock_outbox DROP TABLE outbox`)
	want := o.each(4, "a", "b")
	require.ErrorContains(t, r.stopWhenRefused(), "has 0 tables, not one")
	o.exec(`ALTER PUBLICATION restock_outbox ADD TABLE outbox`)
	o.heals("the publication was changed", want)
}

// TestPublicationRenamed: what was committed while the publication had another name can
// never be decoded, with the catalog of then, before Postgres 18. It is swept, and the
// stream goes on with a slot that begins behind it.
func TestPublicationRenamed(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.published(4, "a", "b")
	o.exec(`ALTER PUBLICATION restock_outbox RENAME TO other`)
	want := o.each(4, "a", "b")
	require.ErrorContains(t, o.start().stopWhenRefused(), "publication restock_outbox does not exist")
	o.exec(`ALTER PUBLICATION other RENAME TO restock_outbox`)
	o.start()
	require.Equal(t, want, o.received(4))
	o.settled()
	o.confirmedUpToNow()
	more := o.each(4, "a", "b")
	require.Equal(t, more, o.received(4))
	o.drained()
}

// TestTableMadeAnew: what was in the old one is gone, and said.
func TestTableMadeAnew(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.published(10, "a", "b")
	o.exec(`CREATE TABLE newer (LIKE outbox INCLUDING ALL) PARTITION BY RANGE (day)`)
	o.exec(`CREATE TABLE newer_all PARTITION OF newer DEFAULT`)
	o.exec(`DROP TABLE outbox CASCADE`)
	o.exec(`ALTER TABLE newer RENAME TO outbox`)
	o.exec(`GRANT SELECT ON outbox TO restock_relay`)
	want := o.each(4, "a", "b") // not published yet
	o.exec(`ALTER PUBLICATION restock_outbox ADD TABLE outbox`)
	log := &logged{}
	o.start(log.to)
	require.Equal(t, want, o.received(4))
	o.settled()
	o.drained()
	lines := log.with("the outbox table was made anew")
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], `"ledger_without_event":10`)
}

// TestColumns: one that the relay does not need may come and go while it streams. One
// that it needs is named when it is gone; when it is back, what was committed without
// it is read from the table, because the WAL does not have it.
func TestColumns(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	r := o.start()
	o.eventually("streaming", func() bool { return r.Ready(o.ctx) == nil })
	o.each(2, "a")
	o.exec(`ALTER TABLE outbox ADD COLUMN note text DEFAULT 'n'`)
	o.each(2, "a")
	o.exec(`ALTER TABLE outbox DROP COLUMN note`)
	o.each(2, "a")
	o.received(6)
	o.settled()
	require.Equal(t, 1.0, r.metric(t, "sessions_total"))

	o.exec(`ALTER TABLE outbox DROP COLUMN traceparent`)
	id := schema.NewID()
	o.exec(`INSERT INTO outbox (id, type, message_group, attributes, body) VALUES ($1, 'x', 'a', '{}', '{}')`, id)
	require.ErrorContains(t, r.stopWhenRefused(), `does not publish column "traceparent" of public.outbox, which the relay needs: add the column`)
	require.ErrorContains(t, o.start().stopWhenRefused(), `column "traceparent"`)
	o.exec(`ALTER TABLE outbox ADD COLUMN traceparent text`)
	o.forgetRepeats()
	o.heals(`the slot cannot be read on: table public.outbox has no column \"traceparent\"`, map[string][]uuid.UUID{"a": {id}})
}

// TestSlotOlderThanPublication: such a slot, made by hand, never brings what was
// committed before the publication, and Postgres 18 does not say so.
func TestSlotOlderThanPublication(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.dropSlot()
	o.exec(`DROP PUBLICATION restock_outbox`)
	o.exec(`DELETE FROM watermarks`)
	o.makeSlot()
	want := o.each(4, "a", "b")
	_, err := relay.RepairPublication(o.ctx, o.pg.DSN(o.database), o.slot, schema.Publication)
	require.NoError(t, err)
	require.ErrorContains(t, o.start().stopWhenRefused(), "the slot may be older than the publication, and the ledger is empty, so that nothing tells what is published: SELECT pg_drop_replication_slot('"+o.slot+"') and run restock migrate")
	o.dropSlot()
	_, err = o.createSlot(relay.PublishExisting)
	require.NoError(t, err)
	o.heals("restock migrate made the slot", want)
}

// TestOnStandby: a relay that has come to a standby waits.
func TestOnStandby(t *testing.T) {
	t.Parallel()
	o := newOutboxOn(t, pgtest.NewServer(t, localpg.Config{Settings: map[string]string{"restore_command": "false"}}))
	o.published(2, "a", "b")
	o.whileStopped(func(data string) {
		o.shell(`cp -p "$1/PG_VERSION" "$1/standby.signal"; : > "$1/standby.signal"; rm -rf "$1"/pg_replslot/*`, data)
	})
	log := &logged{}
	r := o.start(log.to)
	o.eventually("it says so", func() bool { return len(log.with("the server is a standby")) > 0 })
	require.Error(t, r.Ready(o.ctx))
	o.exec(`SELECT pg_promote()`)
	o.eventually("streaming", func() bool { return r.Ready(o.ctx) == nil })
	want := o.each(2, "a", "b")
	require.Equal(t, want, o.received(2))
	o.drained()
}

// TestMigrateBesideASweep: restock migrate leaves a slot that is lost during a sweep to
// the relay, which begins anew. Were it to make the slot, the sweep's end would be taken
// for that of the one which is due to the new slot, and what was committed between
// published by nobody.
func TestMigrateBesideASweep(t *testing.T) {
	t.Parallel()
	for name, left := range map[string]bool{"nothing left": false, "something left": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutbox(t)
			o.published(2, "a", "b")
			o.dropSlot()
			o.exec(`INSERT INTO outbox (id, type, message_group, attributes, body)
				SELECT gen_random_uuid(), 'x', 'g' || i % 50, '{}', '{"d":"' || repeat('x', 2000) || '"}' FROM generate_series(1, 300) i`)
			acceptBad := func() {}
			if left {
				acceptBad = o.refuse("bad")
				o.commit(event("bad", 1))
			}
			accept := o.refuseAll()
			r := o.start(func(c *relay.Config) { c.Window = 64 << 10 })
			o.eventually("the window is full", func() bool { return r.metric(t, "window_bytes") > 48<<10 })
			between := o.commit(event("between", 1))[0]
			o.dropSlot()
			made, err := o.createSlot(relay.RefuseExisting)
			require.NoError(t, err)
			require.False(t, made)

			accept()
			o.eventually("it is published", func() bool { return o.count(`ledger WHERE event_id = $1`, between) == 1 })
			acceptBad()
			o.settled()
			o.eventually("swept", func() bool { return o.count(`watermarks WHERE sweep IS NOT NULL`) == 0 })
		})
	}
}

// TestStalledByWhatIsLeft: while nothing but the rest of a sweep waits, and none of it
// is accepted, a relay does not get on, whatever positions it confirms.
func TestStalledByWhatIsLeft(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.published(2, "a", "b")
	o.dropSlot()
	o.each(3, "a", "b", "c")
	accept := o.refuseAll()
	r := o.start(func(c *relay.Config) { c.StallAfter, c.HeartbeatEvery = time.Second, 100*time.Millisecond })
	o.eventually("streaming", func() bool { return r.Ready(o.ctx) == nil })
	o.eventually("it is stuck", func() bool { return r.Progress() != nil })
	require.Positive(t, r.PublishLag())
	accept()
	o.eventually("it gets on", func() bool { return r.Progress() == nil })
	o.settled()
}

// TestStalledWhileASlotIsMade: a transaction that stays open keeps the slot from being made.
// Whatever was missed waits meanwhile, and the relay says so though it cannot know of what.
func TestStalledWhileASlotIsMade(t *testing.T) {
	t.Parallel()
	o := newOutboxOn(t, pgtest.NewServer(t, localpg.Config{}))
	o.published(2, "a", "b")
	o.dropSlot()
	open := o.connect()
	_, err := open.Exec(o.ctx, `BEGIN; SELECT pg_current_xact_id()`)
	require.NoError(t, err)
	r := o.start(func(c *relay.Config) { c.StallAfter = 100 * time.Millisecond })
	o.eventually("it is stuck in the sweep", func() bool {
		err := r.Progress()
		return err != nil && strings.HasPrefix(err.Error(), "sweeping")
	})
	require.Positive(t, r.metric(t, "publish_lag_seconds"))
	_, err = open.Exec(o.ctx, `COMMIT`)
	require.NoError(t, err)
	o.eventually("streaming", func() bool { return r.Ready(o.ctx) == nil && r.Progress() == nil })
	require.Zero(t, r.PublishLag())
}

// TestSweepBesideAnotherDatabase: a transaction of another database, which cannot have
// written the outbox, holds no sweep up.
func TestSweepBesideAnotherDatabase(t *testing.T) {
	t.Parallel()
	o := newOutbox(t)
	o.published(2, "a", "b")
	o.dropSlot()
	accept := o.refuse("bad")
	o.commit(event("bad", 1))
	r := o.start()
	o.eventually("streaming", func() bool { return r.Ready(o.ctx) == nil })
	require.NoError(t, r.stop())
	other, err := pgx.Connect(o.ctx, o.pg.DSN("postgres"))
	require.NoError(t, err)
	defer other.Close(context.WithoutCancel(o.ctx))
	_, err = other.Exec(o.ctx, `BEGIN; SELECT pg_current_xact_id()`)
	require.NoError(t, err)

	o.start()
	live := o.commit(event("live", 1))[0]
	o.eventually("it is published", func() bool { return o.count(`ledger WHERE event_id = $1`, live) == 1 })
	accept()
	o.settled()
}
