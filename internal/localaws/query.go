package localaws

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	maxFormParameters = 4096
	maxFormDepth      = 12
)

// form is a form-encoded request as a tree: "A.member.2.B=c" is the value c at A, member, 2, B. A nil form is an absent one.
type form struct {
	value    string
	given    bool
	children map[string]*form
}

// parseForm decodes a form-encoded body. A parameter given twice is refused, where the services take one of the two.
func parseForm(body string) (*form, error) {
	root := &form{}
	if body == "" {
		return root, nil
	}
	if strings.Count(body, "&") >= maxFormParameters {
		return nil, fmt.Errorf("more than %d parameters", maxFormParameters)
	}
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(key)
		if err != nil {
			return nil, fmt.Errorf("parameter name: %w", err)
		}
		text, err := url.QueryUnescape(value)
		if err != nil {
			return nil, fmt.Errorf("value of %s: %w", clip(name), err)
		}
		if err := root.put(name, text); err != nil {
			return nil, err
		}
	}
	return root, nil
}

func (f *form) put(name, value string) error {
	at, depth := f, 0
	for part := range strings.SplitSeq(name, ".") {
		if depth++; depth > maxFormDepth {
			return fmt.Errorf("parameter %s is nested too deep", clip(name))
		}
		next := at.children[part]
		if next == nil {
			next = &form{}
			if at.children == nil {
				at.children = make(map[string]*form)
			}
			at.children[part] = next
		}
		at = next
	}
	if at.given {
		return fmt.Errorf("parameter %s is given twice", clip(name))
	}
	at.value, at.given = value, true
	return nil
}

// at walks down to a part of the form; nil where there is none.
func (f *form) at(path ...string) *form {
	for _, part := range path {
		if f == nil {
			return nil
		}
		f = f.children[part]
	}
	return f
}

// get returns the value at a name, empty where absent.
func (f *form) get(name string) string {
	value, _ := f.lookup(name)
	return value
}

func (f *form) lookup(name string) (string, bool) {
	if child := f.at(name); child != nil {
		return child.value, child.given
	}
	return "", false
}

// list returns the numbered children in the order of their numbers: clients may send 1, 10, 2.
func (f *form) list() ([]*form, error) {
	if f == nil || len(f.children) == 0 {
		return nil, nil
	}
	numbers := make([]int, 0, len(f.children))
	for key := range f.children {
		n, err := strconv.Atoi(key)
		if err != nil || n < 1 || strconv.Itoa(n) != key {
			return nil, fmt.Errorf("%q is not a list index", clip(key))
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	items := make([]*form, len(numbers))
	for i, n := range numbers {
		items[i] = f.children[strconv.Itoa(n)]
	}
	return items, nil
}

// texts returns the values of a list of plain values.
func (f *form) texts() ([]string, error) {
	items, err := f.list()
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.value
	}
	return texts, nil
}

// pairs returns a numbered list of key and value as a map from key to the form at value.
func (f *form) pairs(key, value string) (map[string]*form, error) {
	items, err := f.list()
	if err != nil {
		return nil, err
	}
	pairs := make(map[string]*form, len(items))
	for _, item := range items {
		name, ok := item.lookup(key)
		if !ok {
			return nil, fmt.Errorf("a map entry has no %s", key)
		}
		if _, twice := pairs[name]; twice {
			return nil, fmt.Errorf("map key %q is given twice", clip(name))
		}
		child := item.at(value)
		if child == nil {
			child = &form{}
		}
		pairs[name] = child
	}
	return pairs, nil
}

// textMap returns a map whose values are plain.
func (f *form) textMap(key, value string) (map[string]string, error) {
	pairs, err := f.pairs(key, value)
	if err != nil {
		return nil, err
	}
	texts := make(map[string]string, len(pairs))
	for name, child := range pairs {
		texts[name] = child.value
	}
	return texts, nil
}
