package localaws

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// condition decides on the values that a message has for one field; none means that the field is absent.
type condition func(values []scalar) bool

// anyOf holds if some value satisfies a test. An absent field never does.
func anyOf(test func(scalar) bool) condition {
	return func(values []scalar) bool { return slices.ContainsFunc(values, test) }
}

func textTest(test func(string) bool) condition {
	return anyOf(func(v scalar) bool { return v.kind == kindText && test(v.text) })
}

func parseCondition(value any) (condition, error) {
	if want, ok := scalarOf(value); ok {
		return anyOf(func(v scalar) bool { return v == want }), nil
	}
	operators, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("match value must be String, number, true, false, or null")
	}
	if len(operators) != 1 {
		return nil, errors.New("only one key allowed in match expression")
	}
	name := sortedKeys(operators)[0]
	return parseOperator(name, operators[name])
}

func parseOperator(name string, argument any) (condition, error) {
	switch name {
	case "exists":
		want, ok := argument.(bool)
		if !ok {
			return nil, errors.New("exists match pattern must be either true or false")
		}
		return func(values []scalar) bool { return (len(values) > 0) == want }, nil
	case "numeric":
		return parseNumeric(argument)
	case "anything-but":
		return parseAnythingBut(argument)
	}
	test, err := parseTextTest(name, argument)
	if err != nil {
		return nil, err
	}
	return textTest(test), nil
}

// parseTextTest reads the operators that take one text.
func parseTextTest(name string, argument any) (func(string) bool, error) {
	text, ok := argument.(string)
	if !oneOf(name, "prefix", "suffix", "equals-ignore-case", "cidr") {
		return nil, fmt.Errorf("unrecognized match type %q", clip(name))
	}
	if !ok || text == "" {
		return nil, fmt.Errorf("%s match pattern must be a string that is not empty", name)
	}
	switch name {
	case "prefix":
		return func(s string) bool { return strings.HasPrefix(s, text) }, nil
	case "suffix":
		return func(s string) bool { return strings.HasSuffix(s, text) }, nil
	case "equals-ignore-case":
		return func(s string) bool { return strings.EqualFold(s, text) }, nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return nil, fmt.Errorf("malformed CIDR: %w", err)
	}
	return func(s string) bool {
		address, err := netip.ParseAddr(s)
		return err == nil && network.Contains(address)
	}, nil
}

// parseAnythingBut takes one value, a list of them, or a prefix or suffix.
func parseAnythingBut(argument any) (condition, error) {
	if nested, ok := argument.(map[string]any); ok {
		return parseAnythingButTest(nested)
	}
	items, ok := argument.([]any)
	if !ok {
		items = []any{argument}
	}
	unwanted := scalarsOf(items)
	if len(unwanted) != len(items) || len(items) == 0 {
		return nil, errors.New("inside anything-but list, start|null|boolean is not supported, nor is an empty list")
	}
	for _, u := range unwanted {
		if u.kind != kindText && u.kind != kindNumber {
			return nil, errors.New("inside anything-but, values must be strings or numbers")
		}
	}
	return anyOf(func(v scalar) bool { return !slices.Contains(unwanted, v) }), nil
}

func parseAnythingButTest(nested map[string]any) (condition, error) {
	if len(nested) != 1 {
		return nil, errors.New("only one key allowed in anything-but")
	}
	name := sortedKeys(nested)[0]
	if !oneOf(name, "prefix", "suffix") {
		return nil, fmt.Errorf("unsupported anything-but pattern %q", clip(name))
	}
	test, err := parseTextTest(name, nested[name])
	if err != nil {
		return nil, err
	}
	return anyOf(func(v scalar) bool { return v.kind != kindText || !test(v.text) }), nil
}

const maxFilterNumber = 1e9

// parseNumeric reads one comparison, or a lower bound and then an upper one.
func parseNumeric(argument any) (condition, error) {
	parts, ok := argument.([]any)
	if !ok || len(parts) != 2 && len(parts) != 4 {
		return nil, errors.New("value of numeric must be an array of one or two comparisons")
	}
	first, err := parseComparison(parts[0], parts[1])
	if err != nil {
		return nil, err
	}
	tests := []comparison{first}
	if len(parts) == 4 {
		second, err := parseComparison(parts[2], parts[3])
		if err != nil {
			return nil, err
		}
		if !oneOf(first.operator, ">", ">=") || !oneOf(second.operator, "<", "<=") {
			return nil, errors.New("a numeric range needs a lower bound and then an upper bound")
		}
		if first.bound >= second.bound {
			return nil, errors.New("bottom must be less than top in a numeric range")
		}
		tests = append(tests, second)
	}
	return anyOf(func(v scalar) bool {
		return v.kind == kindNumber && !slices.ContainsFunc(tests, func(c comparison) bool { return !c.holds(v.number) })
	}), nil
}

type comparison struct {
	operator string
	bound    float64
}

func parseComparison(operator, bound any) (comparison, error) {
	op, _ := operator.(string)
	if !oneOf(op, "=", "<", "<=", ">", ">=") {
		return comparison{}, fmt.Errorf("unrecognized numeric range operator %v", operator)
	}
	number, ok := bound.(json.Number)
	if !ok {
		return comparison{}, errors.New("value of a numeric comparison must be a number")
	}
	n, err := number.Float64()
	if err != nil || n < -maxFilterNumber || n > maxFilterNumber {
		return comparison{}, fmt.Errorf("value of a numeric comparison must be between %g and %g", -maxFilterNumber, maxFilterNumber)
	}
	return comparison{operator: op, bound: n}, nil
}

func (c comparison) holds(n float64) bool {
	switch c.operator {
	case "=":
		return n == c.bound
	case "<":
		return n < c.bound
	case "<=":
		return n <= c.bound
	case ">":
		return n > c.bound
	}
	return n >= c.bound
}
