package main

import (
	"io"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadmesAreAlike: what can be typed, the sections, the commands that are listed and
// the pages that are linked are the same in every language.
func TestReadmesAreAlike(t *testing.T) {
	t.Parallel()
	english, korean := read(t, "../../README.md"), read(t, "../../README.ko.md")
	for what, pattern := range map[string]string{
		"code blocks": "(?ms)^```(?:sh|console)\n.*?^```$",
		"headings":    `(?m)^(#+) `,
		"rows":        "(?m)^\\| ([^|]*`[^|]*) \\|", // of tables: what the row is of
	} {
		found := regexp.MustCompile(pattern)
		require.Equal(t, found.FindAllString(english, -1), found.FindAllString(korean, -1), what)
	}
	for what, pattern := range map[string]string{"links": `\]\(([^)]+)\)`, "variables": `RESTOCK_[A-Z_]+`} {
		require.Equal(t, distinct(english, pattern), distinct(korean, pattern), what)
	}
	parser, err := newParser(&cli{}, nil, io.Discard, io.Discard, func(int) {})
	require.NoError(t, err)
	for _, command := range parser.Model.Children {
		require.Regexp(t, "(restock|cmd/restock) "+command.Name, english, "README.md does not have the command")
	}
}

// distinct are the different matches in alphabetical order, but for the link to the other
// language.
func distinct(text, pattern string) []string {
	all := regexp.MustCompile(pattern).FindAllString(text, -1)
	all = slices.DeleteFunc(all, func(s string) bool { return s == "](README.md)" || s == "](README.ko.md)" })
	slices.Sort(all)
	return slices.Compact(all)
}
