package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// TestDrills: every drill does its damage, and what it types mends it.
func TestDrills(t *testing.T) {
	t.Parallel()
	for name, says := range map[string][]string{
		"broker-loss":   {"20 more, which the relay published", "2 published and not handled by factory", "done: 18 events are replayed", "missing: 0"},
		"dead-letters":  {"60 events of 7 groups are dead", "customers: assignment to entry in nil map", "60/60 sent vip"},
		"parked":        {"10 events are parked, the other 10 went through", "data protection policy denies this message", "sent for drill"},
		"slot-lost":     {"slot restock_store is lost", "missing: 0"},
		"relay-stopped": {"no relay is active on slot restock_store", "was never pending", "healthy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events := map[string]string{"broker-loss": "40", "dead-letters": "60"}[name]
			if events == "" {
				events = "20"
			}
			code, out, errs := restock(t, nil, "drill", name, "--events", events, "--groups", "7", "--stopped-for", "2s", "--data-dir", filepath.Join(t.TempDir(), "data"))
			require.Zero(t, code, "%s\n%s", out, errs)
			for _, want := range append(says, "all is well: nothing is missing, nothing happened twice", "_missing median=0 ", "_doubled median=0 ", "_out_of_order median=0 ") {
				require.Contains(t, out, want)
			}
			require.Empty(t, errs)
		})
	}
}

// TestDrillByHand: the drill does the damage, and ends when somebody has mended it.
func TestDrillByHand(t *testing.T) {
	t.Parallel()
	p := launch(t, nil, "drill", "parked", "--by-hand", "--events", "20", "--data-dir", filepath.Join(t.TempDir(), "data"))
	var file []string
	require.Eventually(t, func() bool {
		file = regexp.MustCompile(`(?m)^  \. (.*)$`).FindStringSubmatch(p.log.tail())
		return file != nil
	}, patience, 10*time.Millisecond)
	info, err := os.Stat(file[1])
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "it holds passwords")
	text, err := os.ReadFile(file[1])
	require.NoError(t, err)
	var env []string
	for _, export := range regexp.MustCompile(`(?m)^export (\w+)='(.*)'$`).FindAllStringSubmatch(string(text), -1) {
		env = append(env, export[1]+"="+export[2])
	}
	code, out, errs := restock(t, env, "parked", "send", "--all")
	require.Zero(t, code, errs)
	require.Contains(t, out, "done: 0 events are parked again")
	_ = p.cmd.Wait()
	require.Zero(t, p.cmd.ProcessState.ExitCode(), p.log.tail())
	require.Contains(t, p.log.tail(), "all is well")
}

func TestDrillUsage(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"must be one of":    {"drill", "nap"},
		"are positive":      {"drill", "parked", "--groups", "0"},
		"expected \"<name>": {"drill"},
	} {
		code, _, errs := restock(t, nil, args...)
		require.Equal(t, 2, code, args)
		require.Contains(t, errs, want)
	}
}

// TestLagWatch: the alert is pending, fires and ends when it would.
func TestLagWatch(t *testing.T) {
	t.Parallel()
	var w lagWatch
	var news []string
	for s := 10; s <= 300; s += 10 {
		lag := time.Duration(s) * time.Second
		if s > 250 {
			lag = 0
		}
		if n := w.note(time.Duration(s)*time.Second, lag); n != "" {
			news = append(news, (time.Duration(s)*time.Second).String()+n)
		}
	}
	require.Equal(t, []string{"1m10s, the alert is pending", "3m10s, the alert fires", "4m20s, the alert ends"}, news)
	require.True(t, w.rose(25))
	require.False(t, w.rose(26))
	require.Equal(t, "was pending at 70 s, fired at 190 s and ended at 260 s", w.verdict())

	var short lagWatch
	short.note(time.Second, 2*time.Minute)
	short.note(time.Minute, 0)
	require.Equal(t, "was pending at 1 s and did not fire", short.verdict())
}

// TestDrillAlert: the alert of the drill is the one that is deployed.
func TestDrillAlert(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deployments/monitoring/alerts.yml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr, For string }
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert == "RestockPublishLag" {
				held, err := time.ParseDuration(r.For)
				require.NoError(t, err)
				require.Equal(t, alertFor, held)
				require.True(t, strings.HasSuffix(r.Expr, "_lag_seconds > 60") && alertLag == time.Minute, r.Expr)
				return
			}
		}
	}
	t.Fatal("there is no such alert")
}
