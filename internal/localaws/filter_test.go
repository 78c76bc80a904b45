package localaws

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFilterOnAttributes(t *testing.T) {
	t.Parallel()
	str := func(s string) attributes { return attributes{"a": {dataType: "String", text: s}} }
	num := func(s string) attributes { return attributes{"a": {dataType: "Number", text: s}} }
	arr := func(s string) attributes { return attributes{"a": {dataType: "String.Array", text: s}} }
	for _, c := range []struct {
		policy string
		given  attributes
		want   bool
	}{
		{`{}`, nil, true},
		{`{"a":["x"]}`, str("x"), true},
		{`{"a":["x"]}`, str("X"), false},
		{`{"a":["x"]}`, nil, false},
		{`{"a":["1"]}`, num("1"), false}, // text never equals a number
		{`{"a":[1]}`, num("1.0"), true},
		{`{"a":[1]}`, str("1"), false},
		{`{"a":[true]}`, arr(`[true]`), true},
		{`{"a":[null]}`, arr(`[null]`), true},
		{`{"a":[true]}`, str("true"), false},
		{`{"a":[{"numeric":["=",1e2]}]}`, num("100"), true},
		{`{"a":[{"numeric":[">",0,"<=",5]}]}`, num("5"), true},
		{`{"a":[{"numeric":[">",0,"<=",5]}]}`, num("0"), false},
		{`{"a":[{"numeric":[">",0]}]}`, str("7"), false},
		{`{"a":[{"anything-but":[1]}]}`, num("1"), false},
		{`{"a":[{"anything-but":[1]}]}`, num("2"), true},
		{`{"a":[{"anything-but":{"suffix":"z"}}]}`, str("az"), false},
		{`{"a":[{"anything-but":"x"}]}`, arr(`["x","y"]`), true},
		{`{"a":[{"anything-but":"x"}]}`, nil, false},
		{`{"a":[{"cidr":"10.0.0.0/24"}]}`, str("10.0.0.7"), true},
		{`{"a":[{"cidr":"10.0.0.0/24"}]}`, str("10.0.1.7"), false},
		{`{"a":[{"equals-ignore-case":"Éa"}]}`, str("éA"), true},
		{`{"a":[{"exists":false}],"b":[{"exists":false}]}`, str("x"), false},
		{`{"a":["x"],"$or":[{"b":["y"]},{"a":[{"prefix":"x"}]}]}`, str("x"), true},
		{`{"a":[{"exists":true}]}`, attributes{"a": {dataType: "Binary", binary: []byte{1}}}, false},
	} {
		f, err := parseFilter(c.policy, scopeAttributes)
		require.NoError(t, err, c.policy)
		require.Equal(t, c.want, f.matches(newFilterFacts(c.given, "m")), "%s on %v", c.policy, c.given)
	}
}

func TestFilterOnBody(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy, body string
		want         bool
	}{
		{`{"a":{"b":["x"]}}`, `{"a":{"b":"x"}}`, true},
		{`{"a":{"b":["x"]}}`, `{"a":[{"b":"y"},{"b":"x"}]}`, true},
		{`{"a":{"b":[{"exists":false}]}}`, `{"a":{}}`, true},
		{`{"a":{"b":[{"exists":true}]}}`, `{"a":{"b":{}}}`, false},
		{`{"a":{"$or":[{"b":["x"]},{"c":[1]}]}}`, `{"a":{"c":1}}`, true},
		{`{"a":[true]}`, `{"a":true}`, true},
		{`{"a":["x"]}`, `["a"]`, false},
		{`{"a":["x"]}`, `null`, false},
	} {
		f, err := parseFilter(c.policy, scopeBody)
		require.NoError(t, err, c.policy)
		require.Equal(t, c.want, f.matches(newFilterFacts(nil, c.body)), "%s on %s", c.policy, c.body)
	}
}

func TestFilterRefused(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{
		``, `null x`, `{} {}`, `{"a":1}`, `{"a":[[1]]}`, `{"a":[{}]}`, `{"a":[{"anything-but":[]}]}`, `{"a":[{"anything-but":[true]}]}`,
		`{"a":[{"anything-but":{"cidr":"10.0.0.0/8"}}]}`, `{"a":[{"prefix":""}]}`, `{"a":[{"prefix":1}]}`, `{"a":[{"cidr":"ten"}]}`,
		`{"a":[{"numeric":[]}]}`, `{"a":[{"numeric":["<",1,">",0]}]}`, `{"a":[{"numeric":[">",5,"<",5]}]}`, `{"a":[{"numeric":["=",1e10]}]}`,
		`{"$or":[{"a":["x"]}]}`, `{"$or":{"a":["x"]}}`, `{"$or":[{"a":["x"]},{}]}`, `{"a":[{"wildcard":"*"}]}`,
	} {
		_, err := parseFilter(policy, scopeAttributes)
		require.Error(t, err, policy)
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, seed := range []string{`{"a":["x",{"prefix":"y"}]}`, `{"$or":[{"a":[1]},{"b":[{"numeric":[">",1]}]}]}`, `{"a":{"b":[null]}}`, `{`} {
		f.Add(seed, "m", true)
	}
	f.Fuzz(func(_ *testing.T, policy, message string, body bool) {
		scope := scopeAttributes
		if body {
			scope = scopeBody
		}
		if parsed, err := parseFilter(policy, scope); err == nil {
			parsed.matches(newFilterFacts(attributes{"a": {dataType: "String", text: message}}, message))
		}
	})
}
