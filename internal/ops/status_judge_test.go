package ops

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// wellRelay is a relay with nothing to say of.
func wellRelay() RelayStatus {
	quiet := 1.0
	return RelayStatus{Database: "store", Slot: "s", State: RelayActive, SlotState: "reserved", PartitionDays: 14, QuietSeconds: &quiet}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	of := func(seconds float64) *float64 { return &seconds }
	for name, c := range map[string]struct {
		change func(*RelayStatus)
		health Health
		what   string // of the first finding
	}{
		"well":                 {func(*RelayStatus) {}, Healthy, ""},
		"quiet, and idle":      {func(r *RelayStatus) { r.QuietSeconds = of(1e6) }, Healthy, ""},
		"never recorded":       {func(r *RelayStatus) { r.QuietSeconds = nil }, Healthy, ""},
		"behind and at work":   {func(r *RelayStatus) { r.LagSeconds, r.Unpublished = 600, 7 }, Degraded, "publishing is behind: 7 events wait, the oldest for 10m0s"},
		"behind and stuck":     {func(r *RelayStatus) { r.LagSeconds, r.QuietSeconds = 600, of(300) }, Degraded, "the relay is stuck: 0 events wait, the oldest for 10m0s, and nothing was recorded for 5m0s"},
		"slot lost":            {func(r *RelayStatus) { r.SlotState, r.LeftSeconds = "lost", of(0) }, Degraded, "slot s is lost"},
		"slot lost soon":       {func(r *RelayStatus) { r.LeftSeconds = of(60) }, Degraded, "slot s will be lost in 1m0s if it does not move"},
		"slot lost some day":   {func(r *RelayStatus) { r.LeftSeconds = of(1e6) }, Healthy, ""},
		"nobody":               {func(r *RelayStatus) { r.State = RelayNone }, Degraded, "no relay is active on slot s"},
		"nobody but standbys":  {func(r *RelayStatus) { r.State, r.Standbys = RelayNone, 2 }, Degraded, "no relay is active on slot s, and 2 stand by"},
		"a group alone":        {func(r *RelayStatus) { r.ParkedGroups = 1 }, Degraded, "0 events and 1 groups are parked"},
		"nothing answered":     {func(r *RelayStatus) { *r = RelayStatus{Error: "no route"} }, Unknown, "no route"},
		"no time to count":     {func(r *RelayStatus) { r.Error, r.PartitionDays = "too slow", 0 }, Unknown, "too slow"},
		"no partitions at all": {func(r *RelayStatus) { r.PartitionDays = -1 }, Degraded, "partitions are made for -1 days ahead"},
	} {
		r := StatusReport{Relays: []RelayStatus{wellRelay()}}
		c.change(&r.Relays[0])
		var l Limits
		l.setDefaults()
		r.judge(l)
		require.Equal(t, c.health, r.Health, name)
		if c.what == "" {
			require.Empty(t, r.Concerns, name)
			continue
		}
		require.Equal(t, c.what, r.Concerns[0].What, name)
		require.NotEmpty(t, r.Concerns[0].Mend, name)
	}
}

func TestUnknownOutweighsDegraded(t *testing.T) {
	t.Parallel()
	var l Limits
	l.setDefaults()
	for _, queues := range [][]QueueStatus{{{Error: "x"}, {Dead: 1}}, {{Dead: 1}, {Error: "x"}}} {
		r := StatusReport{Queues: queues}
		r.judge(l)
		require.Equal(t, Unknown, r.Health)
		require.Len(t, r.Concerns, 2)
	}
}
