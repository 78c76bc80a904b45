package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/schema"
)

const deploymentsDir = "../../deployments"

// TestDeploymentsDoNotDrift: whatever deployments says of this program, it knows: command
// lines, flags, variables, ports, paths of probes, metrics.
func TestDeploymentsDoNotDrift(t *testing.T) {
	t.Parallel()
	found, containers := drift(t, os.DirFS(deploymentsDir), newKnown(t))
	require.Empty(t, found)
	require.Greater(t, containers, 18, "compose.yaml and parts.json together have more")
}

// TestDriftIsNoticed plants a wrong thing of each sort in each kind of file.
func TestDriftIsNoticed(t *testing.T) {
	t.Parallel()
	k := newKnown(t)
	for _, plant := range []struct{ file, was, is, says string }{
		{"compose/compose.yaml", `["relay", "--http-addr", "0.0.0.0:8081"]`, `["relay", "--http-adr", "0.0.0.0:8081"]`, "--http-adr"},
		{"compose/compose.yaml", `command: ["maintain"`, `command: ["maintenance"`, "maintenance"},
		{"compose/compose.yaml", `RESTOCK_PUBLIC_URL:`, `RESTOCK_PUBLIC_URI:`, "RESTOCK_PUBLIC_URI"},
		{"compose/compose.yaml", "      RESTOCK_TOPIC_ARN: arn:aws:sns:ap-northeast-2:000000000000:restock-events.fifo\n    healthcheck:\n      test: [\"CMD\", \"/restock\", \"healthcheck\", \"http://127.0.0.1:8081", "    healthcheck:\n      test: [\"CMD\", \"/restock\", \"healthcheck\", \"http://127.0.0.1:8081", "restock relay is not given RESTOCK_TOPIC_ARN"},
		{"compose/compose.yaml", "RESTOCK_DEFAULT_SKU: CP-502101\n", "RESTOCK_SLOT: x\n", "restock api does not read RESTOCK_SLOT"},
		{"compose/compose.yaml", `http://127.0.0.1:8081/healthz`, `http://127.0.0.1:8181/healthz`, "8181"},
		{"compose/compose.yaml", `ports: ["127.0.0.1:8080:8080"]`, `ports: ["127.0.0.1:8080:8088"]`, "8088"},
		{"compose/compose.yaml", `http://127.0.0.1:8083/healthz`, `http://127.0.0.1:8083/health`, "/health"},
		{"compose/compose.yaml", `http://127.0.0.1:8080/healthz`, `http://127.0.0.1:8080/progressz`, "api serves no /progressz"},
		{"compose/compose.yaml", `"healthcheck", "http://127.0.0.1:8081`, `"healthchecks", "http://127.0.0.1:8081`, "healthchecks"},

		{"terraform/compute/parts.json", `"--interval"`, `"--intervall"`, "--intervall"},
		{"terraform/compute/parts.json", `["RESTOCK_FACTORY_API"]`, `["RESTOCK_FACTORY_URL"]`, "RESTOCK_FACTORY_URL"},
		{"terraform/compute/parts.json", `"RESTOCK_DATABASE": ["store", "restock_api"]`, `"RESTOCK_STORE": ["store", "restock_api"]`, "RESTOCK_STORE_URL"},
		{"terraform/compute/parts.json", `"port": 8083`, `"port": 8093`, "8093"},
		{"terraform/compute/main.tf", `RESTOCK_DEFAULT_SKU `, `RESTOCK_DEFAULT_SKI `, "RESTOCK_DEFAULT_SKI"},
		{"terraform/compute/main.tf", `/healthz"`, `/livez"`, "/livez"},
		{"terraform/compute/main.tf", `"/restock", "healthcheck"`, `"/restock", "health"`, "health"},
		{"terraform/compute/network.tf", `"/readyz"`, `"/ready"`, "/ready"},
		{"terraform/compute/variables.tf", "RESTOCK_LEASE", "RESTOCK_LEASES", "RESTOCK_LEASES"},
		{"terraform/alarms/main.tf", "restock status --watch", "restock status --watched", "--watched"},
		{"terraform/alarms/main.tf", "# What calls somebody.", "# restock_status_queue_age_seconds", "restock_status_queue_age_seconds"},

		{"docker/Dockerfile", "ENTRYPOINT [\"/restock\"]", "ENTRYPOINT [\"/restock\"]\nHEALTHCHECK CMD [\"/restock\", \"healthcheck\", \"--time-out\", \"1s\", \"http://127.0.0.1:8080/healthz\"]", "--time-out"},
		{"docker/Dockerfile", "USER", "ENV RESTOCK_LOGLEVEL=debug\nUSER", "RESTOCK_LOGLEVEL"},
		{"docker/Dockerfile", "USER", "EXPOSE 8079\nUSER", "8079"},
		{"docker/build", "version --sbom", "version --bom", "--bom"},

		{"monitoring/alerts.yml", "restock_status_dead_letters", "restock_status_dead_letter", "restock_status_dead_letter"},
		{"monitoring/dashboard.json", "restock_relay_publish_seconds_bucket", "restock_relay_publish_seconds_buckets", "restock_relay_publish_seconds_buckets"},

		{"README.md", "restock status --watch", "restock status --look", "--look"},
		{"README.md", "`restock admin`", "`restock console`", "restock console"},
		{"README.md", "RESTOCK_ADMIN_TOKENS", "RESTOCK_ADMIN_TOKEN", "RESTOCK_ADMIN_TOKEN"},

		{"k8s/base/relay.yaml", "--http-addr=0.0.0.0:8081", "--http-address=0.0.0.0:8081", "--http-address"},
		{"k8s/base/relay.yaml", "RESTOCK_TOPIC_ARN", "RESTOCK_TOPIC", "RESTOCK_TOPIC"},
		{"k8s/base/relay.yaml", "containerPort: 8081", "containerPort: 8082", "8082"},
		{"k8s/base/relay.yaml", "port: http", "port: 8089", "8089"},
		{"k8s/base/relay.yaml", "port: http", "port: htpp", "htpp"},
		{"k8s/base/relay.yaml", "path: /readyz", "path: /ready", "/ready"},
		{"k8s/base/relay.yaml", "path: /progressz", "path: /checkoutz", "/checkoutz"},
		{"k8s/base/relay.yaml", "[migrate]", "[migrates]", "migrates"},
		{"k8s/base/relay.yaml", "restock_relay_active", "restock_relay_actives", "restock_relay_actives"},
	} {
		root := deploymentsDir
		if strings.HasPrefix(plant.file, "k8s/") {
			root = "testdata/drift"
		}
		text := read(t, path.Join(root, plant.file))
		require.Contains(t, text, plant.was, "%s: nothing can be planted there", plant.file)
		planted := strings.Replace(text, plant.was, plant.is, 1)
		found, _ := drift(t, fstest.MapFS{plant.file: {Data: []byte(planted)}}, k)
		require.NotEmpty(t, found, "%s: %s instead of %s was not noticed", plant.file, plant.is, plant.was)
		require.Contains(t, strings.Join(found, "\n"), plant.says)
	}
	found, containers := drift(t, os.DirFS("testdata/drift"), k)
	require.Empty(t, found, "without a plant")
	require.Equal(t, 2, containers)
}

// known is what the program knows, from the program itself.
type known struct {
	parser    *kong.Kong
	commands  []string
	variables []string            // of any command, and of restock-lambda
	functions []string            // variables of restock-lambda
	flags     []string            // of any command
	metrics   map[string]bool     // as docs/metrics.md has them, which is held against a live scrape
	served    map[string][]string // paths by command, held against live processes by TestCompose
}

// served are the probes that a part answers, and where it can be scraped.
var served = map[string][]string{
	"api":     {"/healthz", "/readyz", "/metrics"},
	"relay":   {"/healthz", "/readyz", "/progressz", "/metrics"},
	"consume": {"/healthz", "/readyz", "/progressz", "/metrics"},
	"admin":   {"/healthz", "/readyz", "/metrics"},
	"status":  {"/healthz", "/readyz", "/metrics"},
}

func newKnown(t *testing.T) known {
	t.Helper()
	parser, err := newParser(&cli{}, nil, io.Discard, io.Discard, func(int) {})
	require.NoError(t, err)
	k := known{parser: parser, metrics: map[string]bool{}, served: served}
	require.NoError(t, kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		switch node := node.(type) {
		case *kong.Node:
			k.commands = append(k.commands, node.Name)
		case *kong.Flag:
			k.variables, k.flags = append(k.variables, node.Envs...), append(k.flags, node.Name)
		}
		return next(nil)
	}))
	for _, tag := range regexp.MustCompile(`env:"(\w+)"`).FindAllStringSubmatch(read(t, "../restock-lambda/main.go"), -1) {
		k.functions = append(k.functions, tag[1])
	}
	k.variables = append(append(k.variables, k.functions...), "RESTOCK_TERRAFORM_PLUGINS") // the last is the Makefile's
	for _, row := range regexp.MustCompile("(?m)^\\| `(restock_\\w+)` \\| (\\w+) ").FindAllStringSubmatch(read(t, metricsPage), -1) {
		k.metrics[row[1]] = row[2] != "histogram"
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			k.metrics[row[1]+suffix] = row[2] == "histogram"
		}
	}
	require.Greater(t, len(k.metrics), 100)
	// What else of Postgres is named so.
	for _, name := range []string{
		schema.RoleAPI, schema.RoleRelay, schema.RoleConsumers, schema.RoleCustomers, schema.RoleMaintenance,
		schema.Publication, schema.SlotName("store"), schema.SlotName("customers"),
	} {
		k.metrics[name] = true
	}
	return k
}

// drift reads every file and says what in it the program does not know, each with its
// file, and how many containers of this program there are.
func drift(t *testing.T, files fs.FS, k known) (found []string, containers int) {
	t.Helper()
	require.NoError(t, fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		complain := func(format string, args ...any) { found = append(found, name+": "+fmt.Sprintf(format, args...)) }
		k.text(string(text), complain)
		for _, c := range startedBy(t, name, text, k, complain) {
			containers++
			k.started(c, complain)
		}
		return nil
	}))
	return found, containers
}

// started is a container of this program as a file starts it.
type started struct {
	name        string
	args        []string          // after the program
	environment map[string]string // "" where the value is not in the file
	ports       []string          // that are opened
	probes      []probe
}

type probe struct{ port, path string }

// startedBy reads the containers of a file.
func startedBy(t *testing.T, name string, text []byte, k known, complain func(string, ...any)) []started {
	t.Helper()
	switch {
	case strings.HasPrefix(name, "compose/") && path.Ext(name) == ".yaml":
		return startedByCompose(t, text)
	case strings.HasPrefix(name, "k8s/") && path.Ext(name) == ".yaml":
		return startedByKubernetes(t, text, k, complain)
	case path.Base(name) == "parts.json":
		return startedByTerraform(t, text, k, complain)
	}
	return nil
}

func startedByCompose(t *testing.T, text []byte) (all []started) {
	for name, c := range composeServices(t, text) {
		if !c.ours() {
			continue
		}
		s := started{name: name, args: c.Command, environment: c.Environment}
		for _, mapping := range c.Ports {
			s.ports = append(s.ports, mapping[strings.LastIndex(mapping, ":")+1:])
		}
		s.probes = probesOf(c.Healthcheck.Test)
		all = append(all, s)
	}
	return all
}

// probesOf is what a health check by the program itself asks.
func probesOf(command []string) []probe {
	match := regexp.MustCompile(`^http://127\.0\.0\.1:(\d+)(/.*)$`).FindStringSubmatch(strings.Join(command[max(0, len(command)-1):], ""))
	if match == nil {
		return nil
	}
	return []probe{{match[1], match[2]}}
}

// startedByTerraform is how module compute starts parts: it gives each database's URL and
// password, and checks its health where it has a port.
func startedByTerraform(t *testing.T, text []byte, k known, complain func(string, ...any)) (all []started) {
	type part struct {
		Role                 string
		Command              []string
		Port                 int
		Databases            map[string][2]string
		Database             [2]string
		Environment, Secrets []string
	}
	var parts struct {
		StopTimeoutSeconds        int
		Services, Jobs, Functions map[string]part
	}
	require.NoError(t, json.Unmarshal(text, &parts))
	require.Greater(t, parts.StopTimeoutSeconds, 2*int(consumers.DefaultGrace.Seconds()))
	roles := databaseRoles(t)
	for _, of := range []map[string]part{parts.Services, parts.Jobs} {
		for name, p := range of {
			s := started{name: name, args: p.Command, environment: map[string]string{}}
			for _, variable := range slices.Concat(p.Environment, p.Secrets) {
				s.environment[variable] = ""
			}
			for variable, at := range p.Databases {
				s.environment[variable+"_URL"], s.environment[variable+"_PASSWORD"] = "", ""
				if at[1] != "owner" && !slices.Contains(roles[at[0]], at[1]) {
					complain("%s: database %s has no role %s", name, at[0], at[1])
				}
			}
			if p.Port > 0 {
				s.ports, s.probes = []string{fmt.Sprint(p.Port)}, []probe{{fmt.Sprint(p.Port), "/healthz"}}
			}
			all = append(all, s)
		}
	}
	for name, f := range parts.Functions {
		for _, variable := range slices.Concat(f.Environment, f.Secrets) {
			if !slices.Contains(k.functions, variable) {
				complain("function %s: restock-lambda does not read %s", name, variable)
			}
		}
		if !slices.Contains(roles[f.Database[0]], f.Database[1]) {
			complain("function %s: database %s has no role %s", name, f.Database[0], f.Database[1])
		}
	}
	return all
}

// databaseRoles are the roles of each database that Terraform makes secrets for.
func databaseRoles(t *testing.T) (roles map[string][]string) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(read(t, terraformDir+"/database/roles.json")), &roles))
	return roles
}

// elsewhere are variables that are not ours, by how they begin: the AWS SDK's,
// OpenTelemetry's, libpq's and Go's.
var elsewhere = []string{"AWS_", "OTEL_", "PG", "GOGC", "GOMEMLIMIT", "GOMAXPROCS"}

// started holds a container against the command that it runs.
func (k known) started(c started, complain func(string, ...any)) {
	kctx, complaint := k.traced(c.args)
	if complaint != "" {
		complain("%s: %s", c.name, complaint)
		return
	}
	command := strings.Fields(kctx.Command())[0]
	var reads, listens []string
	for _, flag := range kctx.Flags() {
		reads = append(reads, flag.Envs...)
		given := slices.ContainsFunc(kctx.Path, func(p *kong.Path) bool { return p.Flag == flag })
		byVariable := slices.ContainsFunc(flag.Envs, func(name string) bool { _, is := c.environment[name]; return is })
		if flag.Required && !given && !byVariable {
			complain("%s: restock %s is not given %s", c.name, command, strings.Join(flag.Envs, ", "))
		}
		if flag.Name == "addr" || flag.Name == "http-addr" {
			at := fmt.Sprint(kctx.FlagValue(flag))
			if !given && byVariable {
				at = c.environment[flag.Envs[0]]
			}
			listens = append(listens, at[strings.LastIndex(at, ":")+1:])
		}
	}
	for variable := range c.environment {
		foreign := slices.ContainsFunc(elsewhere, func(prefix string) bool { return strings.HasPrefix(variable, prefix) })
		if !slices.Contains(reads, variable) && !foreign {
			complain("%s: restock %s does not read %s", c.name, command, variable)
		}
	}
	for _, port := range c.ports {
		if !slices.Contains(listens, port) {
			complain("%s: restock %s does not listen on port %s", c.name, command, port)
		}
	}
	for _, p := range c.probes {
		if !slices.Contains(listens, p.port) {
			complain("%s: a probe asks port %s, where restock %s does not listen", c.name, p.port, command)
		}
		if !slices.Contains(k.served[command], p.path) {
			complain("%s: restock %s serves no %s", c.name, command, p.path)
		}
	}
}

// traced reads a command line, and says what is wrong with it.
func (k known) traced(args []string) (*kong.Context, string) {
	kctx, err := kong.Trace(k.parser, args)
	switch err = cmp.Or(err, errorOf(kctx)); {
	case err != nil:
		return nil, fmt.Sprintf("restock %s: %s", strings.Join(args, " "), err)
	case kctx.Command() == "":
		return nil, fmt.Sprintf("restock %s: no command", strings.Join(args, " "))
	}
	return kctx, ""
}

func errorOf(kctx *kong.Context) error {
	if kctx == nil {
		return nil
	}
	return kctx.Error
}

var (
	anyVariable = regexp.MustCompile(`\bRESTOCK_[A-Z0-9_]*[A-Z0-9]\b`)
	anyMetric   = regexp.MustCompile(`\brestock_[a-z0-9_]*[a-z0-9]\b`)
	anyPath     = regexp.MustCompile("(?:[\"'`\\s]|\\d{4}|\\})(/(?:[a-z]*z|health|healthcheck|ready|live|live[a-z]+|progress|metric|metrics))[\"'`\\s,.]")
	anyCommand  = regexp.MustCompile("`restock ([a-z]+)\\b")
	anyLine     = regexp.MustCompile(`\brestock"? ([a-z]+)((?: [a-z]+)?)((?: --[a-z-]+(?:[= ][A-Z0-9][A-Za-z0-9:.]*)?)+)`)
	anyExec     = regexp.MustCompile(`\["(?:CMD", ?")?/restock"((?:, ?"[^"]*")*)\]`)
	anyExposed  = regexp.MustCompile(`(?m)^EXPOSE (\d+)`)
	anyFlag     = regexp.MustCompile(` --([a-z-]+)`)
	anyQuoted   = regexp.MustCompile(`"([^"]*)"`)
)

// text holds against the program what any file may say, comments and prose included.
func (k known) text(text string, complain func(string, ...any)) {
	for _, name := range anyVariable.FindAllString(text, -1) {
		// RESTOCK_DATABASE stands for its _URL and its _PASSWORD.
		if !slices.Contains(k.variables, name) && !slices.Contains(k.variables, name+"_PASSWORD") {
			complain("nothing reads %s", name)
		}
	}
	for _, name := range anyMetric.FindAllString(text, -1) {
		if !k.metrics[name] {
			complain("%s is no metric", name)
		}
	}
	for _, match := range anyPath.FindAllStringSubmatch(text, -1) {
		if !slices.ContainsFunc([]string{"api", "relay"}, func(part string) bool { return slices.Contains(k.served[part], match[1]) }) {
			complain("nothing serves %s", match[1])
		}
	}
	for _, match := range anyCommand.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(k.commands, match[1]) {
			complain("there is no restock %s", match[1])
		}
	}
	for _, match := range anyLine.FindAllStringSubmatch(text, -1) {
		k.line(match[1]+match[2], match[3], complain)
	}
	for _, match := range anyExec.FindAllStringSubmatch(text, -1) {
		var args []string
		for _, arg := range anyQuoted.FindAllStringSubmatch(match[1], -1) {
			args = append(args, arg[1])
		}
		if len(args) == 0 {
			continue // an entry point
		}
		if _, complaint := k.traced(args); complaint != "" {
			complain("%s", complaint)
		}
	}
	for _, match := range anyExposed.FindAllStringSubmatch(text, -1) {
		complain("port %s is exposed, and which are is for each part to say", match[1])
	}
}

// line holds the flags of a command that is named with some against it. Other programs are
// told of a namespace restock, and go on with words of their own.
func (k known) line(command, flags string, complain func(string, ...any)) {
	if !slices.Contains(k.commands, strings.Fields(command)[0]) {
		return
	}
	kctx, complaint := k.traced(strings.Fields(command))
	if complaint != "" { // prose, or a command that wants an argument
		kctx, complaint = k.traced(strings.Fields(command)[:1])
	}
	if complaint != "" {
		complain("%s", complaint)
		return
	}
	for _, match := range anyFlag.FindAllStringSubmatch(flags, -1) {
		if !slices.ContainsFunc(kctx.Flags(), func(f *kong.Flag) bool { return f.Name == match[1] }) {
			complain("restock %s has no flag --%s", command, match[1])
		}
	}
}
