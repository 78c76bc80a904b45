package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
)

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
		{schema.Forever, safe, false},
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
