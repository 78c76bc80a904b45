package archtest

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// rule looks at the whole module and returns its violations, each with its mend.
type rule struct {
	name  string
	check func([]file) []string
}

var rules = []rule{
	{"every package has a package comment", packageComments},
	{"packages import only what is below them", layers},
	{"stand-ins are known to cmd and tests alone", standIns},
	{"the replication protocol is known to relay alone", replicationProtocol},
	{"the AWS SDK is known to a few files", awsSDK},
	{"the OpenTelemetry SDK is known to internal/otlp alone", tracingSDK},
	{"only cmd reads the environment", environment},
	{"only cmd decides how the process ends", processEnd},
	{"nothing sleeps", sleeps},
	{"nothing is left unfinished", unfinished},
}

// leaves may be imported by any package of ours, and import none of ours themselves.
var leaves = []string{"schema", "internal/service", "internal/awshttp", "internal/figure", "internal/tracing"}

// mayImport says for a folder which of our folders it may import besides the leaves and
// itself. A folder that is not listed may import what it likes.
var mayImport = map[string][]string{
	"schema":            {},
	"internal/service":  {},
	"internal/awshttp":  {},
	"internal/tracing":  {},
	"internal/otlp":     {},
	"api":               {},
	"relay":             {},
	"consumers":         {},
	"internal/topology": {},
	"internal/ops":      {},
	"internal/console":  {"internal/ops"},
}

// standInFolders run in place of real services, or are for tests with those that do.
var standInFolders = []string{"internal/localaws", "internal/localpg", "internal/localfactory", "internal/localmarketing", "internal/matrix"}

// toolFolders may know everything: the wiring, and the programs that measure.
var toolFolders = []string{"cmd", "bench"}

// awsFolders and awsFiles are where the AWS SDK may be imported. The relay has three: the
// publisher, and the two parts of the SDK that it exchanges for lighter ones.
var (
	awsFolders = []string{"cmd", "bench", "internal/awshttp", "internal/localaws", "internal/topology"}
	awsFiles   = []string{"relay/sns.go", "relay/sns_request.go", "relay/sns_answer.go", "consumers/sqs.go", "consumers/ses.go", "internal/ops/sqs.go", "internal/ops/doctor_aws.go", "internal/ops/doctor_ses.go"}
)

// within tells whether dir is one of the folders or below one.
func within(dir string, folders []string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool {
		return dir == folder || strings.HasPrefix(dir, folder+"/")
	})
}

func packageComments(files []file) []string {
	documented, order := map[string]bool{}, []string{}
	for _, f := range files {
		if f.test {
			continue
		}
		if _, seen := documented[f.dir]; !seen {
			order = append(order, f.dir)
		}
		documented[f.dir] = documented[f.dir] || f.doc
	}
	var found []string
	for _, dir := range order {
		if !documented[dir] {
			found = append(found, dir+" has no package comment: add a doc.go that says what the package does and what it promises")
		}
	}
	return found
}

// layers leaves tests in packages of their own alone: no cycle can form through them.
func layers(files []file) []string {
	var found []string
	for _, f := range files {
		if f.outside {
			continue
		}
		for folder, allowed := range mayImport {
			if !within(f.dir, []string{folder}) {
				continue
			}
			if !slices.Contains(leaves, folder) {
				allowed = slices.Concat(allowed, leaves)
			}
			for _, imported := range f.ours() {
				switch {
				case within(imported, slices.Concat(allowed, []string{folder})):
				case within(imported, standInFolders): // has a rule of its own
				default:
					found = append(found, fmt.Sprintf("%s imports %s: %s may import of ours only [%s]; state the little that it needs as an interface of its own and let cmd join the two",
						path.Join(f.dir, f.name), imported, folder, strings.Join(allowed, " ")))
				}
			}
		}
	}
	return found
}

func standIns(files []file) []string {
	var found []string
	for _, f := range files {
		if f.outside || within(f.dir, toolFolders) || within(f.dir, standInFolders) {
			continue
		}
		for _, imported := range f.ours() {
			if within(imported, standInFolders) {
				found = append(found, fmt.Sprintf("%s imports %s: product code must not know that a service is a stand-in; move the wiring to cmd, or the test to package %s_test",
					path.Join(f.dir, f.name), imported, path.Base(f.dir)))
			}
		}
	}
	return found
}

func replicationProtocol(files []file) []string {
	var found []string
	for _, f := range files {
		if within(f.dir, []string{"relay", "bench"}) {
			continue
		}
		for _, imported := range f.imports {
			if strings.HasPrefix(imported, "github.com/jackc/pglogrepl") {
				found = append(found, path.Join(f.dir, f.name)+" imports pglogrepl: the replication protocol stays inside relay; ask relay for what you need")
			}
		}
	}
	return found
}

func awsSDK(files []file) []string {
	var found []string
	for _, f := range files {
		name := path.Join(f.dir, f.name)
		if f.test || within(f.dir, awsFolders) || slices.Contains(awsFiles, name) {
			continue
		}
		for _, imported := range f.imports {
			if strings.HasPrefix(imported, "github.com/aws/") {
				found = append(found, fmt.Sprintf("%s imports %s: the AWS SDK stays in [%s] and cmd; put the call there, behind the one method that you need",
					name, imported, strings.Join(awsFiles, " ")))
			}
		}
	}
	return found
}

// tracingSDK leaves the API to all: it does nothing where no SDK is handed in.
func tracingSDK(files []file) []string {
	var found []string
	for _, f := range files {
		if f.test || within(f.dir, []string{"internal/otlp"}) {
			continue
		}
		for _, imported := range f.imports {
			if within(imported, []string{"go.opentelemetry.io/otel/sdk", "go.opentelemetry.io/otel/exporters"}) {
				found = append(found, fmt.Sprintf("%s imports %s: a part takes a trace.TracerProvider in its Config; cmd makes one by internal/otlp", path.Join(f.dir, f.name), imported))
			}
		}
	}
	return found
}

// usesOf reports every use of the names in files that are not excused.
func usesOf(files []file, excused func(file) bool, mend string, names ...string) []string {
	var found []string
	for _, f := range files {
		if excused(f) {
			continue
		}
		for _, u := range f.uses {
			if slices.Contains(names, u.name) {
				found = append(found, fmt.Sprintf("%s uses %s: %s", f.at(u.line), u.name, mend))
			}
		}
	}
	return found
}

func environment(files []file) []string {
	excused := func(f file) bool { return f.test || within(f.dir, toolFolders) }
	found := usesOf(files, excused, "only cmd reads the environment; make it a field of the package's Config",
		"os.Getenv", "os.LookupEnv", "os.Environ", "os.ExpandEnv", "os.Setenv", "os.Unsetenv", "syscall.Getenv", "syscall.Environ")
	for _, f := range files {
		if excused(f) {
			continue
		}
		for _, line := range f.envTags {
			found = append(found, f.at(line)+" has a struct tag env: only cmd reads the environment; put the flag into cmd and pass the value")
		}
	}
	return found
}

func processEnd(files []file) []string {
	excused := func(f file) bool { return f.test || within(f.dir, toolFolders) }
	return usesOf(files, excused, "signals and exits belong to cmd; return an error, or stop when the context ends",
		"os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln", "os/signal.Notify", "os/signal.NotifyContext")
}

func sleeps(files []file) []string {
	excused := func(f file) bool { return within(f.dir, []string{"bench"}) }
	return usesOf(files, excused, "wait for a signal, use service.Sleep with a context, or testing/synctest in a test",
		"time.Sleep")
}

func unfinished(files []file) []string {
	var found []string
	for _, f := range files {
		for _, line := range f.unfinished {
			found = append(found, f.at(line)+" panics for want of code: finish it, or leave the function out until it is needed")
		}
	}
	return found
}
