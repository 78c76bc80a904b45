package relay

import (
	"math"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"
)

func TestWALBudget(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	start := time.Unix(1_700_000_000, 0)
	room := func(n int64) *int64 { return &n }
	// at is a sample some seconds after the start, with the WAL and what is kept of it in MB.
	at := func(seconds int, wal, retained int64, safe *int64, status string) slotSample {
		return slotSample{start.Add(time.Duration(seconds) * time.Second), pglogrepl.LSN(wal * mb), pglogrepl.LSN((wal - retained) * mb), pglogrepl.LSN((wal - retained/2) * mb), safe, status}
	}
	cases := map[string]struct {
		budget  int64
		samples []slotSample
		bytes   float64
		left    time.Duration
	}{
		"nothing is measured yet": {0, []slotSample{at(0, 1000, 10, room(100*mb), "reserved")}, 100 * mb, forever},
		"safe size over rate":     {0, []slotSample{at(0, 1000, 10, room(110*mb), "reserved"), at(10, 1010, 20, room(100*mb), "reserved")}, 100 * mb, 100 * time.Second},
		"the server's word counts, not the budget": {
			1, []slotSample{at(0, 1000, 10, room(110*mb), "reserved"), at(10, 1010, 20, room(100*mb), "reserved")}, 100 * mb, 100 * time.Second,
		},
		"unbounded":              {0, []slotSample{at(0, 1000, 10, nil, "extended"), at(10, 1010, 20, nil, "extended")}, math.Inf(1), forever},
		"against the budget":     {70 * mb, []slotSample{at(0, 1000, 10, nil, "extended"), at(10, 1010, 20, nil, "extended")}, 50 * mb, 50 * time.Second},
		"the budget is used up":  {15 * mb, []slotSample{at(0, 1000, 10, nil, "extended"), at(10, 1010, 20, nil, "extended")}, 0, 0},
		"nothing is written":     {0, []slotSample{at(0, 1000, 10, room(mb), "reserved"), at(10, 1000, 10, room(mb), "reserved")}, mb, forever},
		"past what is safe":      {0, []slotSample{at(0, 1000, 10, room(-5), "unreserved")}, 0, 0},
		"lost":                   {0, []slotSample{at(0, 1000, 10, nil, "lost")}, 0, 0},
		"another server":         {0, []slotSample{at(0, 1000, 10, room(mb), "reserved"), at(10, 1010, 10, room(mb), "reserved"), at(20, 5, 1, room(mb), "reserved")}, mb, forever},
		"a burst weighs little":  {0, []slotSample{at(0, 1000, 10, room(mb), "reserved"), at(1000, 2000, 10, room(mb), "reserved"), at(1001, 2002, 10, room(mb), "reserved")}, mb, 996 * time.Millisecond},
		"a new load is believed": {0, []slotSample{at(0, 1000, 10, room(mb), "reserved"), at(10, 1010, 10, room(mb), "reserved"), at(10_000, 1010+4*9990, 10, room(mb), "reserved")}, mb, 250 * time.Millisecond},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := &walBudget{bytes: c.budget}
			var o outlook
			for _, s := range c.samples {
				o = b.add(s)
			}
			last := c.samples[len(c.samples)-1]
			require.Equal(t, int64(last.wal-last.restart), o.retained)
			require.Equal(t, int64(last.wal-last.confirmed), o.lag)
			require.Equal(t, c.bytes, o.bytes)
			require.InDelta(t, c.left.Seconds(), o.left.Seconds(), 0.001)
		})
	}
}

func TestBehind(t *testing.T) {
	t.Parallel()
	require.Equal(t, int64(5), behind(10, 5))
	require.Zero(t, behind(10, 11), "read a moment later")
	require.Zero(t, behind(10, 0), "no position")
}

// TestAlarm: told when it grows, each time that the time left has halved, and when
// it is over; not at every sample.
func TestAlarm(t *testing.T) {
	t.Parallel()
	a := &alarm{warnBefore: time.Hour, alarmBefore: 10 * time.Minute}
	for i, step := range []struct {
		left time.Duration
		want danger
		tell bool
	}{
		{forever, safe, false},
		{2 * time.Hour, safe, false},
		{59 * time.Minute, nearing, true},
		{58 * time.Minute, nearing, false},
		{29 * time.Minute, nearing, true},
		{40 * time.Minute, nearing, false},
		{10 * time.Minute, imminent, true},
		{11 * time.Minute, nearing, false}, // it sways
		{9 * time.Minute, imminent, false},
		{4 * time.Minute, imminent, true},
		{0, imminent, true},
		{0, imminent, false},
		{3 * time.Hour, safe, true},
		{3 * time.Hour, safe, false},
		{time.Minute, imminent, true},
	} {
		got, tell := a.judge(step.left)
		require.Equal(t, step.want, got, i)
		require.Equal(t, step.tell, tell, i)
	}
}
