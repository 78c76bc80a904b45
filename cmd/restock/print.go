package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/schollz/progressbar/v3"

	"github.com/restock-dev/restock/internal/ops"
)

// say prints. A reader that is gone is told nothing, and stops nothing.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// newBar is a progress bar on a terminal, on which it leaves nothing behind.
func newBar(w io.Writer, total int64, more ...progressbar.Option) *progressbar.ProgressBar {
	return progressbar.NewOptions64(total, append(more, progressbar.OptionSetWriter(w), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())...)
}

// newTable is a table for people: no lines, as wide as it needs.
func newTable(w io.Writer, header ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.AppendHeader(header)
	return t
}

// visible makes any text safe for a terminal: what others sent may hold control
// characters.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// short is the beginning of a text.
func short(s string, runes int) string {
	text := []rune(visible(s))
	if len(text) <= runes {
		return string(text)
	}
	return string(text[:runes-1]) + "…"
}

// age is how long ago something was, in whole seconds.
func age(at time.Time) string { return max(time.Since(at), 0).Round(time.Second).String() }

func sequence(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func kind(eventType string) string {
	if eventType == "" {
		return "(not an event)"
	}
	return visible(eventType)
}

// remark is what to know of a dead event besides.
func remark(e ops.DeadEvent) string {
	var all []string
	if e.Hidden() {
		all = append(all, "behind others of its group")
	}
	if e.Messages > 1 {
		all = append(all, fmt.Sprintf("%d copies", e.Messages))
	}
	if e.State != "dead" && e.State != "" {
		all = append(all, "inbox: "+e.State)
	}
	if e.NewerDone > 0 {
		all = append(all, fmt.Sprintf("sequence %d of its group is handled", e.NewerDone))
	}
	return strings.Join(all, ", ")
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// some is a list of s, of nothing where s is empty.
func some(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
