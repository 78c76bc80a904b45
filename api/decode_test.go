package api_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/api"
)

// Whatever the strict reader takes, encoding/json reads as the same members:
// no mended character, no second member of a name.
func FuzzReadObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"sku":"CP-502101","quantity":1}`, `{"a":"\ud83c\udf69"}`, `{"a":"\ud800"}`, `{"a":"\\ud800"}`, `{"a":"\\\ud800"}`,
		`{"a":"\ud800\ud83c\udf69"}`, `{"a":1,"\u0061":2}`, `[]`, `null`, `{}{}`, "{\"a\":\"\xff\"}", `{"a":"�"}`, `{"a":"\uFFFD"}`, `{"a":{"b":1,"b":2}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := api.ReadObject(body)
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(body, &want))
		require.Len(t, got, len(want))
		mended := 0
		for name := range want {
			require.Contains(t, got, name)
			require.True(t, utf8.ValidString(got[name]))
			mended += strings.Count(name, "\ufffd")
			var s string
			if json.Unmarshal(want[name], &s) == nil {
				mended += strings.Count(s, "\ufffd")
			}
		}
		stated := strings.Count(string(body), "\ufffd") + strings.Count(strings.ToLower(string(body)), `\ufffd`)
		require.LessOrEqual(t, mended, stated, "a replacement character that the client did not send")
	})
}
