package relay

import (
	"encoding/json"
	"strings"

	"github.com/restock-dev/restock/schema"
)

// parseAttributes reads {"name": {"type": "String", "value": "x"}, …}. Postgres
// writes a jsonb in one way, so that nearly every column has exactly this form;
// whatever has not is left to encoding/json, which costs ten times as much.
func parseAttributes(text string) (map[string]schema.Attribute, error) {
	if all, ok := plainAttributes(text); ok {
		return all, nil
	}
	var all map[string]schema.Attribute
	err := json.Unmarshal([]byte(text), &all)
	return all, err
}

// plainAttributes reads the form that Postgres writes where no text has anything
// that JSON escapes, and says no to any other. The texts share text's memory.
func plainAttributes(text string) (map[string]schema.Attribute, bool) {
	rest, ok := strings.CutPrefix(text, "{")
	if !ok {
		return nil, false
	}
	all := make(map[string]schema.Attribute)
	if rest == "}" {
		return all, true
	}
	for {
		var name string
		var a schema.Attribute
		if name, rest, ok = plainText(rest, `: {"type": `); !ok {
			return nil, false
		}
		if a.Type, rest, ok = plainText(rest, `, "value": `); !ok {
			return nil, false
		}
		if a.Value, rest, ok = plainText(rest, `}`); !ok {
			return nil, false
		}
		all[name] = a
		switch {
		case rest == "}":
			return all, true
		case strings.HasPrefix(rest, ", "):
			rest = rest[2:]
		default:
			return nil, false
		}
	}
}

// plainText reads a JSON text without escapes, and what must follow it.
func plainText(s, then string) (text, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", "", false
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			rest, ok = strings.CutPrefix(s[i+1:], then)
			return s[1:i], rest, ok
		case c == '\\', c < ' ', c >= 0x80:
			return "", "", false
		}
	}
	return "", "", false
}
