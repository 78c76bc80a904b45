package relay

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
)

func TestAttributes(t *testing.T) {
	t.Parallel()
	for text, plain := range map[string]bool{
		`{}`: true,
		`{"a": {"type": "String", "value": "x"}}`:                                            true,
		`{"a": {"type": "String", "value": "x"}, "b": {"type": "Number", "value": "3"}}`:     true,
		`{"a": {"type": "String", "value": ""}}`:                                             true,
		`{"a": {"type": "String", "value": "도너츠"}}`:                                          false,
		`{"a": {"type": "String", "value": "say \"x\""}}`:                                    false,
		`{"a": {"value": "x", "type": "String"}}`:                                            false,
		`{"a":{"type":"String","value":"x"}}`:                                                false,
		`{"a": {"type": "String", "value": "x", "more": 1}}`:                                 false,
		`{"a": {"type": "String"}}`:                                                          false,
		`{"a": {"type": "String", "value": "x"}, "a": {"type": "Number", "value": "again"}}`: true,
	} {
		got, ok := plainAttributes(text)
		require.Equal(t, plain, ok, text)
		var want map[string]schema.Attribute
		require.NoError(t, json.Unmarshal([]byte(text), &want))
		if ok {
			require.Equal(t, want, got, text)
		}
		got, err := parseAttributes(text)
		require.NoError(t, err)
		require.Equal(t, want, got, text)
	}
	for _, bad := range []string{``, `[]`, `x`, `{"a": 1}`, `{"a": {"type": 1, "value": "x"}}`, `{"a": {"type": "String", "value": "x"}`} {
		_, err := parseAttributes(bad)
		require.Error(t, err, bad)
	}
}

// FuzzAttributes holds the quick reader against encoding/json.
func FuzzAttributes(f *testing.F) {
	f.Add(`{"a": {"type": "String", "value": "x"}, "b": {"type": "Number", "value": "3"}}`)
	f.Add(`{"a": {"type": "String", "value": "say \"x\" \u00e9"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := plainAttributes(text)
		if !ok {
			return
		}
		var want map[string]schema.Attribute
		require.NoError(t, json.Unmarshal([]byte(text), &want))
		require.Equal(t, want, got)
	})
}
