package relay

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

// writes are what a ledger was told to write, and when.
type writes struct {
	books // nothing else of it is asked

	mu      sync.Mutex
	entries []int
	at      []time.Time
}

func (w *writes) record(_ context.Context, entries []*entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entries, w.at = append(w.entries, len(entries)), append(w.at, time.Now())
	return nil
}

// told is how many entries each write had, and when it was.
func (w *writes) told() ([]int, []time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.entries), slices.Clone(w.at)
}

func (w *writes) asked(context.Context, string) ([]asked, error) { return nil, nil }

type acceptAll struct{}

func (acceptAll) Publish(_ context.Context, events []schema.Event) ([]Result, error) {
	return make([]Result, len(events)), nil
}

// TestRecordsApart: the ledger is written at once after a while without, then not again so
// soon unless it is worth it; what is left over does not wait for more events, and the
// end of the stream waits for nothing.
func TestRecordsApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &writes{}
		cfg := Config{Slot: "s", InFlight: 4, Metrics: prometheus.NewRegistry(), Logger: zerolog.Nop(), Publisher: acceptAll{}}
		p := newPipeline(cfg, w, newWindow(1<<20), newMetrics(cfg, &Relay{}), 0, nil, func(time.Time) bool { return true })
		in, ended := make(chan []change), make(chan error)
		go func() { ended <- p.run(t.Context(), in) }()
		var lsn pglogrepl.LSN
		memory := 0 // of each event
		commit := func(events int) {
			lsn++
			chunk := []change{{kind: changeBegin, lsn: lsn}}
			attributes, body := "{}", `{"specversion":"1.0"}`
			for i := range events {
				e := &entry{position: Position{lsn, i}, group: schema.NewID().String(), row: loadedRow(&body, nil, &attributes, &body, nil), memory: memory}
				require.True(t, p.window.acquire(memory))
				chunk = append(chunk, change{kind: changeEvent, entry: e})
			}
			in <- append(chunk, change{kind: changeEnd, lsn: lsn})
			synctest.Wait()
		}

		began := time.Now()
		commit(1)
		entries, _ := w.told()
		require.Equal(t, []int{1}, entries, "at once")
		require.NoError(t, service.Sleep(t.Context(), 5*time.Millisecond))
		commit(2)
		commit(3)
		entries, _ = w.told()
		require.Equal(t, []int{1}, entries, "too soon")
		require.NoError(t, service.Sleep(t.Context(), time.Hour))
		synctest.Wait()
		entries, at := w.told()
		require.Equal(t, []int{1, 5}, entries, "together")
		require.Equal(t, recordEvery, at[1].Sub(began))
		require.Equal(t, lsn, p.confirmed())

		commit(1)
		commit(worthRecording)
		entries, at = w.told()
		require.Len(t, entries, 4, "as many as are worth it wait for nothing")
		require.Equal(t, at[2], at[3])

		memory = 1<<18 - 1
		commit(1)
		entries, _ = w.told()
		require.Len(t, entries, 4, "too soon")
		memory = 1
		commit(1)
		entries, at = w.told()
		require.Equal(t, 2, entries[4], "a fourth of the window waits for nothing")
		require.Equal(t, at[3], at[4])

		memory = 1<<18 - 1
		commit(1)
		entries, _ = w.told()
		require.Len(t, entries, 5, "what is recorded does not count any more")
		memory = 0
		commit(1)
		close(in)
		require.NoError(t, <-ended)
		_, at = w.told()
		require.Equal(t, at[3], at[len(at)-1])
		require.Equal(t, lsn, p.cursor.confirmed())
	})
}

// TestFollowEndsReleases: what was sent of a release when a sweep's reading ended is all
// of it, as far as anybody will look: it gives its place up, and the next look asks anew.
func TestFollowEndsReleases(t *testing.T) {
	t.Parallel()
	p := &pipeline{groups: newGroups()}
	sent, loaded := p.groups.ask("sent", false), p.groups.ask("loaded", false)
	loaded.left = 1
	p.follow(7)
	require.False(t, p.groups.current(sent))
	require.True(t, p.groups.current(loaded))
	require.EqualValues(t, 7, p.confirmed())
}

// lockLost is a ledger whose lock is lost at the first write.
type lockLost struct{ writes }

func (l *lockLost) record(ctx context.Context, entries []*entry) error {
	_ = l.writes.record(ctx, entries)
	if sizes, _ := l.told(); len(sizes) == 1 {
		return errLockLost
	}
	return nil
}

// TestRecordsWithoutTheLock: that something parked was left to the next relay keeps nothing
// that was published out of the ledger, and nothing is confirmed past it.
func TestRecordsWithoutTheLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &lockLost{}
		cfg := Config{Slot: "s", InFlight: 4, Metrics: prometheus.NewRegistry(), Logger: zerolog.Nop(), Publisher: acceptAll{}}
		p := newPipeline(cfg, w, newWindow(1<<20), newMetrics(cfg, &Relay{}), 0, nil, func(time.Time) bool { return true })
		in, ended := make(chan []change), make(chan error)
		go func() { ended <- p.run(t.Context(), in) }()
		attributes, body := "{}", `{"specversion":"1.0"}`
		for lsn := range pglogrepl.LSN(2) {
			e := &entry{position: Position{lsn + 1, 0}, group: schema.NewID().String(), row: loadedRow(&body, nil, &attributes, &body, nil)}
			in <- []change{{kind: changeBegin, lsn: lsn + 1}, {kind: changeEvent, entry: e}, {kind: changeEnd, lsn: lsn + 1}}
			synctest.Wait()
		}
		close(in)
		require.ErrorIs(t, <-ended, errLockLost)
		sizes, _ := w.told()
		require.Equal(t, []int{1, 1}, sizes)
		require.Zero(t, p.cursor.confirmed())
	})
}
