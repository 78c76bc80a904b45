package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// The files that people and Prometheus read.
const (
	metricsPage   = "../../docs/metrics.md"
	runbooksPage  = "../../docs/runbooks.md"
	alertsFile    = "../../deployments/monitoring/alerts.yml"
	alertsTests   = "../../deployments/monitoring/alerts_test.yml"
	dashboardFile = "../../deployments/monitoring/dashboard.json"
)

// family is a metric as a scrape shows it, or the page.
type family struct {
	kind, help string
	labels     []string
}

// scrape is all that a running Restock serves of its own.
type scrape map[string]family

// parseScrape reads the text format, of which a metric's HELP and TYPE come first.
func parseScrape(text string) scrape {
	all, name := scrape{}, ""
	label := regexp.MustCompile(`(\w+)="(?:[^"\\]|\\.)*"`)
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, rest, _ = strings.Cut(rest, " ")
			all[name] = family{help: rest}
			continue
		}
		f := all[name]
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			_, f.kind, _ = strings.Cut(rest, " ")
		} else {
			for _, match := range label.FindAllStringSubmatch(line, -1) {
				if match[1] != "le" && !slices.Contains(f.labels, match[1]) {
					f.labels = append(f.labels, match[1])
				}
			}
			slices.Sort(f.labels)
		}
		all[name] = f
	}
	for name := range all {
		if !strings.HasPrefix(name, "restock_") {
			delete(all, name)
		}
	}
	return all
}

// row is the metric's line of the page.
func (s scrape) row(name string) string {
	f := s[name]
	labels := make([]string, len(f.labels))
	for i, l := range f.labels {
		labels[i] = "`" + l + "`"
	}
	return "| `" + name + "` | " + f.kind + " | " + strings.Join(labels, ", ") + " | " + f.help + " |"
}

// has tells whether a query may use a name: a metric, or one of a histogram's.
func (s scrape) has(name string) bool {
	if _, ok := s[name]; ok {
		return s[name].kind != "histogram"
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok && s[base].kind == "histogram" {
			return true
		}
	}
	return false
}

// labels are all that any metric has.
func (s scrape) labels() []string {
	all := []string{"le"}
	for _, f := range s {
		all = append(all, f.labels...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// liveScrape is of the demo, which runs every part, once it has looked at itself.
func liveScrape(t *testing.T) scrape {
	t.Helper()
	demo := launch(t, nil, anywhere(filepath.Join(t.TempDir(), "data"), "--log-level", "warn")...)
	res, err := http.Post(demo.endpoints["api"]+"/checkout", "", nil)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	var all scrape
	require.Eventually(t, func() bool {
		res, err := http.Get(demo.endpoints["metrics"])
		require.NoError(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		all = parseScrape(string(text))
		return all.has("restock_reconcile_wanted") && all.has("restock_status_dead_letters") && all.has("restock_status_publish_lag_seconds")
	}, patience, 1)
	return all
}

// rule is one of alerts.yml.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	require.NoError(t, yaml.Unmarshal([]byte(read(t, alertsFile)), &file))
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	require.NotEmpty(t, all)
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// TestMonitoring holds the page of metrics, the rules and the dashboard against what
// a running Restock serves.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	live := liveScrape(t)
	require.Greater(t, len(live), 50)
	page := read(t, metricsPage)

	t.Run("page", func(t *testing.T) {
		var missing, stale []string
		for name := range live {
			if row := live.row(name); !strings.Contains(page, row+"\n") {
				missing = append(missing, row)
			}
		}
		for _, label := range live.labels() {
			if row := "| `" + label + "` | "; label != "le" && !strings.Contains(page, "\n"+row) {
				missing = append(missing, row+"its values |")
			}
		}
		for _, match := range regexp.MustCompile("(?m)^\\| `(restock_\\w+)`").FindAllStringSubmatch(page, -1) {
			if _, ok := live[match[1]]; !ok {
				stale = append(stale, match[1])
			}
		}
		require.Empty(t, missing, "docs/metrics.md lacks these lines")
		require.Empty(t, stale, "docs/metrics.md has metrics that nothing serves")
	})
	t.Run("queries", func(t *testing.T) {
		recorded := map[string]bool{}
		var queries []string
		for _, r := range rules(t) {
			recorded[r.Record] = true
			queries = append(queries, r.Expr)
		}
		for _, query := range append(queries, dashboardQueries(t)...) {
			names := regexp.MustCompile(`\brestock[\w:]*`).FindAllString(query, -1)
			require.NotEmpty(t, names, query)
			for _, name := range names {
				require.True(t, recorded[name] || live.has(name), "%s is served by nothing, in %s", name, query)
			}
			for _, label := range queryLabels(query) {
				require.Contains(t, live.labels(), label, query)
			}
		}
	})
}

// queryLabels are the labels that a query groups or selects by.
func queryLabels(query string) []string {
	var all []string
	for _, match := range regexp.MustCompile(`\bby \(([^)]*)\)`).FindAllStringSubmatch(query, -1) {
		all = append(all, strings.Split(match[1], ", ")...)
	}
	for _, match := range regexp.MustCompile(`(\w+)(?:=|!=|=~|!~)"`).FindAllStringSubmatch(query, -1) {
		all = append(all, match[1])
	}
	return all
}

// TestRunbooks: each alert has its section and each section its alert, and says what
// it means, where to look and what to do.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	page := read(t, runbooksPage)
	headings := map[string]bool{}
	for _, section := range strings.Split(page, "\n## ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		headings[name] = true
		for _, part := range []string{"**Means.** ", "**Look first.** ", "**Mend.** "} {
			require.Contains(t, text, "\n"+part, name)
		}
	}
	for _, match := range regexp.MustCompile(`\[(\w+)\]\(#(\w+)\)`).FindAllStringSubmatch(page, -1) {
		require.Equal(t, strings.ToLower(match[1]), match[2])
		require.Contains(t, headings, match[1], "a link in docs/runbooks.md leads nowhere")
	}
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		require.Equal(t, "docs/runbooks.md#"+strings.ToLower(r.Alert), r.Annotations["runbook"], r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
		require.Contains(t, []string{"page", "ticket"}, r.Labels["severity"], r.Alert)
		require.Contains(t, headings, r.Alert, "docs/runbooks.md has no section for it")
		require.Contains(t, read(t, alertsTests), "  - name: "+r.Alert+"\n", "alerts_test.yml has no test of it")
		delete(headings, r.Alert)
	}
	require.Empty(t, headings, "docs/runbooks.md has sections without an alert")
	for _, match := range regexp.MustCompile(`docs/runbooks\.md#(\w+)`).FindAllStringSubmatch(read(t, "../../internal/ops/status_judge.go"), -1) {
		require.Contains(t, strings.ToLower(page), "\n## "+match[1]+"\n", "a mend of restock status leads nowhere")
	}
}

// TestAlerts: the rules are Prometheus's own, and each fires when it should and not before.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", alertsFile)
	promtool(t, "test", "rules", alertsTests)
	var asRules []map[string]string
	for _, query := range dashboardQueries(t) {
		asRules = append(asRules, map[string]string{"record": "dashboard:query", "expr": query})
	}
	file, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": asRules}}})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "dashboard.yml")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	promtool(t, "check", "rules", "--lint=none", path)
}

// dashboardQueries are the expressions of the dashboard.
func dashboardQueries(t *testing.T) []string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, dashboardFile)), &dashboard))
	var all []string
	for _, p := range dashboard.Panels {
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}

// promtool is the program of Prometheus, on PATH or where .ci/setup puts it.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	program, err := exec.LookPath("promtool")
	if err != nil {
		if program, err = filepath.Abs("../../bin/promtool"); err == nil {
			_, err = os.Stat(program)
		}
	}
	if err != nil {
		t.Skip("promtool is not here: bash .ci/setup fetches it")
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	require.NoError(t, err, string(out))
}
