package schema

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// jsonSeeds have every form that JSON has, and near misses of each.
var jsonSeeds = []string{
	`{}`, ` {"a" : [1, -0.5e+3, 2E7, 0, "x", true, false, null, {}, []]} `, `"\u00e9\n\"\\\/"`, `"é"`, `-1`,
	``, ` `, `{`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `[1,]`, `[`, `]`, `{]`, `01`, `-`, `1.`, `1e`, `.5`, `+1`, `"`, `"\x"`, `"\u12g4"`, `"\u12"`,
	"\"\n\"", `tru`, `nul`, `falsee`, `{} {}`, `{a:1}`, `{"a":1 "b":2}`, `[1 2]`,
}

func TestValidJSON(t *testing.T) {
	t.Parallel()
	for _, s := range jsonSeeds {
		require.Equal(t, json.Valid([]byte(s)), validJSON(s), s)
	}
	require.False(t, validJSON(strings.Repeat("[", 1<<20)), "deep nesting is refused, and does not end the process")
}

// TestSkipPlain: every byte, at every place of a word and of the rest behind the last.
func TestSkipPlain(t *testing.T) {
	t.Parallel()
	for _, filler := range []string{"x", "\xff", "!", "#", "[", "]", "\x7f", "\x80", "\xa0"} {
		for place := range 20 {
			for b := range 256 {
				s := strings.Repeat(filler, place) + string([]byte{byte(b)}) + strings.Repeat(filler, 12)
				want := place
				if b != '"' && b != '\\' && b >= ' ' {
					want = len(s)
				}
				require.Equal(t, want, skipPlain(s, 0), "%q", s)
			}
		}
	}
}

// FuzzAppendText: any string reads back as json.Marshal's does.
func FuzzAppendText(f *testing.F) {
	for _, s := range append(jsonSeeds, "\xff", "a\xc3", "<&>", "\u2028", "\x00", "") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, err := json.Marshal(s)
		require.NoError(t, err)
		var want, got string
		require.NoError(t, json.Unmarshal(text, &want))
		require.NoError(t, json.Unmarshal(appendText(nil, s), &got))
		require.Equal(t, want, got)
	})
}

func FuzzValidJSON(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Count(s, "[")+strings.Count(s, "{") <= jsonMaxDepth {
			require.Equal(t, json.Valid([]byte(s)), validJSON(s))
		}
	})
}
