package localaws

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	scopeAttributes = "MessageAttributes"
	scopeBody       = "MessageBody"

	maxFilterKeys         = 5
	maxFilterCombinations = 150
	maxFilterDepth        = 16
)

// filter is a parsed filter policy. A message passes if every field matches.
type filter struct {
	scope string
	root  filterGroup
}

// filterGroup holds the fields of one JSON object of a policy: all must match, and of each $or one of its groups.
type filterGroup struct {
	fields []filterField
	ors    [][]filterGroup
}

// filterField is one path of names and the conditions of which one must hold.
type filterField struct {
	path       []string
	conditions []condition
}

// parseFilter refuses what SNS refuses: unknown conditions, empty lists, nesting outside of MessageBody, too much of it.
func parseFilter(raw, scope string) (*filter, error) {
	decoder := json.NewDecoder(bytes.NewReader([]byte(raw)))
	decoder.UseNumber()
	var doc map[string]any
	if err := decoder.Decode(&doc); err != nil {
		return nil, errors.New("failed to parse JSON: an object is expected")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("failed to parse JSON: text follows the object")
	}
	p := filterParser{scope: scope, combinations: 1, keys: make(map[string]bool)}
	root, err := p.group(doc, nil)
	if err != nil {
		return nil, err
	}
	if len(p.keys) > maxFilterKeys {
		return nil, fmt.Errorf("Filter policy can not have more than %d keys", maxFilterKeys)
	}
	return &filter{scope: scope, root: root}, nil
}

type filterParser struct {
	scope        string
	keys         map[string]bool
	combinations int
}

func (p *filterParser) group(doc map[string]any, path []string) (filterGroup, error) {
	var g filterGroup
	if len(path) > maxFilterDepth {
		return g, errors.New("it is nested too deep")
	}
	for _, name := range sortedKeys(doc) {
		if name == "$or" {
			groups, err := p.or(doc[name], path)
			if err != nil {
				return g, err
			}
			g.ors = append(g.ors, groups)
			continue
		}
		if err := p.member(&g, doc[name], append(path[:len(path):len(path)], name)); err != nil {
			return g, err
		}
	}
	return g, nil
}

// member adds one name of an object: a list of conditions, or a nested object with its own names.
func (p *filterParser) member(g *filterGroup, value any, path []string) error {
	name := path[len(path)-1]
	switch v := value.(type) {
	case []any:
		conditions, err := p.conditions(v, name)
		if err != nil {
			return err
		}
		p.keys[fmt.Sprint(path)] = true
		g.fields = append(g.fields, filterField{path: path, conditions: conditions})
		return nil
	case map[string]any:
		if p.scope != scopeBody {
			return errors.New("Filter policy scope MessageAttributes does not support nested filter policy")
		}
		if len(v) == 0 {
			return fmt.Errorf("%q is an empty object", clip(name))
		}
		nested, err := p.group(v, path)
		if err != nil {
			return err
		}
		g.fields = append(g.fields, nested.fields...)
		g.ors = append(g.ors, nested.ors...)
		return nil
	}
	return fmt.Errorf("%q must be an object or an array", clip(name))
}

func (p *filterParser) conditions(values []any, name string) ([]condition, error) {
	if len(values) == 0 {
		return nil, fmt.Errorf("empty arrays are not allowed, and %q is one", clip(name))
	}
	if p.combinations *= len(values); p.combinations > maxFilterCombinations {
		return nil, fmt.Errorf("it is too complex: more than %d combinations", maxFilterCombinations)
	}
	conditions := make([]condition, 0, len(values))
	for _, v := range values {
		c, err := parseCondition(v)
		if err != nil {
			return nil, err
		}
		conditions = append(conditions, c)
	}
	return conditions, nil
}

func (p *filterParser) or(value any, path []string) ([]filterGroup, error) {
	items, ok := value.([]any)
	if !ok || len(items) < 2 {
		return nil, errors.New("$or must be an array of at least two objects")
	}
	groups := make([]filterGroup, 0, len(items))
	for _, item := range items {
		doc, ok := item.(map[string]any)
		if !ok || len(doc) == 0 {
			return nil, errors.New("$or must hold objects that are not empty")
		}
		g, err := p.group(doc, path)
		if err != nil {
			return nil, err
		}
		groups = append(groups, g)
	}
	return groups, nil
}

// matches decides on what newFilterFacts found in a message.
func (f *filter) matches(facts *filterFacts) bool {
	if f.scope == scopeBody {
		body, ok := facts.body()
		return ok && f.root.matches(func(path []string) []scalar { return valuesAt(body, path) })
	}
	return f.root.matches(func(path []string) []scalar { return facts.attributes[path[0]] })
}

func (g filterGroup) matches(lookup func(path []string) []scalar) bool {
	for _, field := range g.fields {
		if !field.matches(lookup(field.path)) {
			return false
		}
	}
	for _, groups := range g.ors {
		if !anyGroup(groups, lookup) {
			return false
		}
	}
	return true
}

func anyGroup(groups []filterGroup, lookup func(path []string) []scalar) bool {
	for _, g := range groups {
		if g.matches(lookup) {
			return true
		}
	}
	return false
}

func (f filterField) matches(values []scalar) bool {
	for _, c := range f.conditions {
		if c(values) {
			return true
		}
	}
	return false
}
