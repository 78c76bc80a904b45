package localaws

import (
	"encoding/json"
	"strconv"
)

// scalar is a value that a condition compares: text, number, boolean or null.
type scalar struct {
	kind   scalarKind
	text   string // of text; of a boolean "true" or "false"
	number float64
}

type scalarKind int

const (
	kindText scalarKind = iota
	kindNumber
	kindBool
	kindNull
)

// filterFacts is what filter policies see of a message.
type filterFacts struct {
	attributes map[string][]scalar
	message    string
	parsed     map[string]any
	parseDone  bool
}

func newFilterFacts(as attributes, message string) *filterFacts {
	facts := &filterFacts{attributes: make(map[string][]scalar, len(as)), message: message}
	for name, a := range as {
		switch {
		case a.isArray():
			var items []any
			if json.Unmarshal([]byte(a.text), &items) == nil {
				facts.attributes[name] = scalarsOf(items)
			}
		case a.kind() == "Number":
			if n, err := strconv.ParseFloat(a.text, 64); err == nil {
				facts.attributes[name] = []scalar{{kind: kindNumber, number: n}}
			}
		case a.isBinary(): // SNS ignores Binary attributes when it filters
		default:
			facts.attributes[name] = []scalar{{text: a.text}}
		}
	}
	return facts
}

// body is the message as a JSON object; a message that is none matches no policy on the body.
func (f *filterFacts) body() (map[string]any, bool) {
	if !f.parseDone {
		f.parseDone = true
		if json.Unmarshal([]byte(f.message), &f.parsed) != nil {
			f.parsed = nil
		}
	}
	return f.parsed, f.parsed != nil
}

// valuesAt returns every scalar at a path. Arrays on the way stand for each of their elements.
func valuesAt(value any, path []string) []scalar {
	switch v := value.(type) {
	case []any:
		var all []scalar
		for _, item := range v {
			all = append(all, valuesAt(item, path)...)
		}
		return all
	case map[string]any:
		if len(path) == 0 {
			return nil
		}
		child, ok := v[path[0]]
		if !ok {
			return nil
		}
		return valuesAt(child, path[1:])
	}
	if len(path) > 0 {
		return nil
	}
	return scalarsOf([]any{value})
}

func scalarsOf(values []any) []scalar {
	out := make([]scalar, 0, len(values))
	for _, value := range values {
		if s, ok := scalarOf(value); ok {
			out = append(out, s)
		}
	}
	return out
}

func scalarOf(value any) (scalar, bool) {
	switch v := value.(type) {
	case string:
		return scalar{text: v}, true
	case float64:
		return scalar{kind: kindNumber, number: v}, true
	case json.Number:
		n, err := v.Float64()
		return scalar{kind: kindNumber, number: n}, err == nil
	case bool:
		return scalar{kind: kindBool, text: strconv.FormatBool(v)}, true
	case nil:
		return scalar{kind: kindNull}, true
	}
	return scalar{}, false
}
