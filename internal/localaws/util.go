package localaws

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func oneOf(s string, choices ...string) bool { return slices.Contains(choices, s) }

func intBetween(s string, low, high int) (int, error) {
	n, err := strconv.Atoi(s)
	if err == nil && (n < low || n > high) {
		err = fmt.Errorf("%d is not between %d and %d", n, low, high)
	}
	return n, err
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// page cuts one page out of a list and says where the next begins, empty after the last.
func page[T any](all []T, token string, size int) ([]T, string, error) {
	start := 0
	if token != "" {
		n, err := intBetween(token, 0, len(all))
		if err != nil {
			return nil, "", fmt.Errorf("page token: %w", err)
		}
		start = n
	}
	end := min(start+size, len(all))
	if end == len(all) {
		return all[start:end], "", nil
	}
	return all[start:end], strconv.Itoa(end), nil
}
