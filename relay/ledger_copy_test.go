package relay

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// newTestLedger is the ledger of a new database.
func newTestLedger(t *testing.T) *ledger {
	t.Helper()
	return &ledger{pool: TestStore(t), slot: "slot", table: pgx.Identifier{"public", "outbox"}, origin: origin{"1", 1}, held: func() error { return nil },
		metrics: newMetrics(Config{Metrics: prometheus.NewRegistry()}, &Relay{}), failed: func(error) {}, promise: promise{wanted: func() pglogrepl.LSN { return 7 }}}
}

// published are entries of today and of the two days around it.
func published(n int) []*entry {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	entries := make([]*entry, n)
	for i := range entries {
		entries[i] = &entry{
			position: Position{Commit: pglogrepl.LSN(i + 1)}, day: today.AddDate(0, 0, i%3-1), id: uuid.Must(uuid.NewV7()), group: "g",
			messageID: fmt.Sprintf("메시지 %d", i), sequenceNumber: fmt.Sprint(10_000_000_000_000_000 + i),
		}
	}
	return entries
}

// TestLedgerIsWritten: few rows and many, which go by COPY, end up the same, with what
// is parked along with them, and however often a write comes again.
func TestLedgerIsWritten(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, copyFrom - 1, copyFrom, maxRecord} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			l := newTestLedger(t)
			entries := published(n)
			parked := published(1)[0]
			parked.parked, parked.reason = fmt.Errorf("no"), reasonRejected
			all := append(entries[:n:n], parked)

			for range 2 {
				require.NoError(t, l.write(t.Context(), all))
				require.Equal(t, pglogrepl.LSN(7), l.promise.confirmed())
			}

			rows, err := l.pool.Query(t.Context(), `SELECT day, event_id, outcome, message_id, sequence_number FROM ledger`)
			require.NoError(t, err)
			type row struct {
				Day               time.Time
				ID                uuid.UUID
				Outcome           string
				Message, Sequence *string
			}
			got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
			require.NoError(t, err)
			want := []row{{parked.day, parked.id, "parked", nil, nil}}
			for _, e := range entries {
				want = append(want, row{e.day, e.id, "published", &e.messageID, &e.sequenceNumber})
			}
			require.ElementsMatch(t, want, got)
			require.Equal(t, []string{parked.id.String()}, texts(t, l, `SELECT event_id::text FROM parked`))
			require.Equal(t, []string{pglogrepl.LSN(n).String()}, texts(t, l, `SELECT recorded_lsn::text FROM watermarks`))
		})
	}
}

// TestLedgerIsWrittenOverAnothersRows: what a relay that woke up late has written
// already keeps nothing else from being written.
func TestLedgerIsWrittenOverAnothersRows(t *testing.T) {
	t.Parallel()
	l := newTestLedger(t)
	entries := published(copyFrom)
	theirs := *entries[copyFrom/2]
	theirs.messageID = "theirs"
	require.NoError(t, l.write(t.Context(), []*entry{&theirs}))

	require.NoError(t, l.write(t.Context(), entries))

	require.Len(t, texts(t, l, `SELECT event_id::text FROM ledger`), copyFrom)
	require.Equal(t, []string{theirs.id.String()}, texts(t, l, `SELECT event_id::text FROM ledger WHERE message_id = 'theirs'`))
}

// TestLedgerIsWrittenWhole: a write that fails at its end leaves nothing behind.
func TestLedgerIsWrittenWhole(t *testing.T) {
	t.Parallel()
	l := newTestLedger(t)
	_, err := l.pool.Exec(t.Context(), `ALTER TABLE watermarks RENAME TO elsewhere`)
	require.NoError(t, err)

	for _, n := range []int{1, copyFrom} {
		require.ErrorContains(t, l.write(t.Context(), published(n)), "watermarks")
	}

	require.Empty(t, texts(t, l, `SELECT event_id::text FROM ledger`))
	require.Zero(t, l.promise.confirmed(), "nothing may be confirmed")
}

func texts(t *testing.T, l *ledger, sql string, args ...any) []string {
	t.Helper()
	rows, err := l.pool.Query(t.Context(), sql, args...)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}
