package relay

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestWitness: whatever fails, and in which order answers come, an entry is due
// only once it has failed for the hold, with something of others accepted since it
// failed before, or with no room for others; and nothing is due while nothing is
// accepted.
func TestWitness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const hold = 5 * time.Second
		var w witness
		entries := []*entry{{group: "a"}, {group: "b"}, {group: "c"}}
		now, call := time.Unix(100, 0), uint64(0)
		before := map[*entry]uint64{} // the call in which each failed last
		for range rapid.IntRange(0, 100).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			call++
			if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
				w.accepted = call
				continue
			}
			stuck := rapid.Bool().Draw(t, "stuck")
			e := entries[rapid.IntRange(0, len(entries)-1).Draw(t, "entry")]
			w.saw(call, []failure{{entry: e, err: errors.New("no")}})
			if w.judge(e, call, now, hold, stuck) {
				require.NotZero(t, w.accepted, "nothing was ever accepted")
				require.GreaterOrEqual(t, now.Sub(e.trouble.first), hold)
				require.True(t, stuck || w.accepted > before[e], "nothing was accepted since it failed before")
			}
			before[e] = call
		}
	})
}

// TestWitnessTells goes through what an entry may meet, failing once a second.
func TestWitnessTells(t *testing.T) {
	const hold = 3 * time.Second
	// Each step is a call: A is accepted of others, O another entry fails, W the event
	// itself fails, S it fails with no room for others.
	for name, c := range map[string]struct {
		calls string
		due   bool
	}{
		"others go on":                      {"WAWAWAWAW", true},
		"not for long enough":               {"WAWAWAW", false},
		"everything fails":                  {"WOWOWOWOWOWOW", false},
		"it alone is tried":                 {"WWWWWWWW", false},
		"nobody else since":                 {"WAWWWWWW", false},
		"seldom others":                     {"WAWWWWAW", true},
		"an outage that began":              {"WAWAOWOWOWOW", false},
		"an outage that is over":            {"WOWOWOWOWAW", false},
		"others were accepted before it":    {"AAAWWWWWW", false},
		"it leaves no room":                 {"WAWSSSS", true},
		"it leaves no room, and all failed": {"WAWOSSSS", false},
		"it never left any":                 {"SSSSSSSS", false},
	} {
		t.Run(name, func(t *testing.T) {
			var w witness
			e, now, due := &entry{}, time.Unix(100, 0), false
			for i, what := range c.calls {
				call := uint64(i + 1)
				switch what {
				case 'A':
					w.accepted = call
				case 'O':
					w.saw(call, []failure{{entry: &entry{}}})
				default:
					now = now.Add(time.Second)
					w.saw(call, []failure{{entry: e}})
					due = w.judge(e, call, now, hold, what == 'S')
				}
			}
			require.Equal(t, c.due, due)
		})
	}
}
