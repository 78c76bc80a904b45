package archtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// imports is a documented file that does nothing but import.
func imports(pkg string, paths ...string) string {
	source := "// Package comment.\npackage " + pkg + "\n"
	for _, path := range paths {
		source += "import _ \"" + path + "\"\n"
	}
	return source
}

// code is a documented file with a function body.
func code(imported, body string) string {
	return "// Package comment.\npackage p\nimport " + imported + "\nfunc f() {\n" + body + "\n}\n"
}

const ours = modulePath + "/"

// planted has for each rule files that break it, with what the violation says, and
// files that come close but keep it, with "".
var planted = []struct {
	rule, file, source, says string
}{
	{"every package has a package comment", "api/api.go", "package api", "api has no package comment"},
	{"every package has a package comment", "api/doc.go", "// Package api serves.\npackage api", ""},
	{"every package has a package comment", "api/api_test.go", "package api", ""},

	{"packages import only what is below them", "relay/x.go", imports("relay", ours+"api"), "relay/x.go imports api"},
	{"packages import only what is below them", "api/x.go", imports("api", ours+"consumers"), "api may import of ours only [schema internal/service internal/awshttp internal/figure internal/tracing]"},
	{"packages import only what is below them", "consumers/x.go", imports("consumers", ours+"relay"), "consumers/x.go imports relay"},
	{"packages import only what is below them", "consumers/x_test.go", imports("consumers", ours+"relay"), "consumers/x_test.go imports relay"},
	{"packages import only what is below them", "internal/ops/x.go", imports("ops", ours+"relay"), "internal/ops/x.go imports relay"},
	{"packages import only what is below them", "schema/x.go", imports("schema", ours+"internal/service"), "schema/x.go imports internal/service"},
	{"packages import only what is below them", "internal/service/x.go", imports("service", ours+"schema"), "internal/service/x.go imports schema"},
	{"packages import only what is below them", "relay/x.go", imports("relay", modulePath), "relay/x.go imports ."},
	{"packages import only what is below them", "relay/x.go", imports("relay", ours+"schema", ours+"internal/service", ours+"relay/wire", "github.com/jackc/pglogrepl"), ""},
	{"packages import only what is below them", "internal/console/x.go", imports("console", ours+"internal/ops"), ""},
	{"packages import only what is below them", "relay/x_test.go", imports("relay_test", ours+"api"), ""},
	{"packages import only what is below them", "cmd/restock/x.go", imports("main", ours+"relay", ours+"api"), ""},

	{"stand-ins are known to cmd and tests alone", "api/x.go", imports("api", ours+"internal/localpg"), "product code must not know"},
	{"stand-ins are known to cmd and tests alone", "api/x_test.go", imports("api", ours+"internal/localpg/pgtest"), "move the wiring to cmd, or the test to package api_test"},
	{"stand-ins are known to cmd and tests alone", "internal/ops/x.go", imports("ops", ours+"internal/localaws"), "internal/ops/x.go imports internal/localaws"},
	{"stand-ins are known to cmd and tests alone", "consumers/x.go", imports("consumers", ours+"internal/localfactory"), "consumers/x.go"},
	{"stand-ins are known to cmd and tests alone", "api/x_test.go", imports("api_test", ours+"internal/localpg/pgtest"), ""},
	{"stand-ins are known to cmd and tests alone", "cmd/restock/demo.go", imports("main", ours+"internal/localpg"), ""},
	{"stand-ins are known to cmd and tests alone", "internal/localpg/pgtest/x.go", imports("pgtest", ours+"internal/localpg"), ""},

	{"the replication protocol is known to relay alone", "internal/ops/x.go", imports("ops", "github.com/jackc/pglogrepl"), "internal/ops/x.go imports pglogrepl"},
	{"the replication protocol is known to relay alone", "relay/stream.go", imports("relay", "github.com/jackc/pglogrepl"), ""},

	{"the AWS SDK is known to a few files", "relay/relay.go", imports("relay", "github.com/aws/aws-sdk-go-v2/aws"), "relay/relay.go imports github.com/aws/aws-sdk-go-v2/aws"},
	{"the AWS SDK is known to a few files", "api/x.go", imports("api", "github.com/aws/smithy-go"), "api/x.go"},
	{"the AWS SDK is known to a few files", "relay/sns.go", imports("relay", "github.com/aws/aws-sdk-go-v2/aws"), ""},
	{"the AWS SDK is known to a few files", "cmd/restock/x.go", imports("main", "github.com/aws/aws-sdk-go-v2/aws"), ""},
	{"the AWS SDK is known to a few files", "relay/sns_test.go", imports("relay_test", "github.com/aws/aws-sdk-go-v2/aws"), ""},

	{"the OpenTelemetry SDK is known to internal/otlp alone", "api/x.go", imports("api", "go.opentelemetry.io/otel/sdk/trace"), "api/x.go imports go.opentelemetry.io/otel/sdk/trace"},
	{"the OpenTelemetry SDK is known to internal/otlp alone", "cmd/restock/x.go", imports("main", "go.opentelemetry.io/otel/exporters/otlp/otlptrace"), "cmd makes one by internal/otlp"},
	{"the OpenTelemetry SDK is known to internal/otlp alone", "api/x.go", imports("api", "go.opentelemetry.io/otel/trace"), ""},
	{"the OpenTelemetry SDK is known to internal/otlp alone", "api/x_test.go", imports("api_test", "go.opentelemetry.io/otel/sdk/trace"), ""},
	{"the OpenTelemetry SDK is known to internal/otlp alone", "internal/otlp/otlp.go", imports("otlp", "go.opentelemetry.io/otel/sdk/trace"), ""},

	{"only cmd reads the environment", "api/x.go", code(`"os"`, `os.Getenv("X")`), "api/x.go:5 uses os.Getenv"},
	{"only cmd reads the environment", "api/x.go", code(`system "os"`, `_, _ = system.LookupEnv("X")`), "uses os.LookupEnv"},
	{"only cmd reads the environment", "internal/localpg/x.go", code(`"os"`, `_ = os.Environ()`), "uses os.Environ"},
	{"only cmd reads the environment", "api/x.go", "package api\ntype c struct {\n\tA string `env:\"A\"`\n}", "api/x.go:3 has a struct tag env"},
	{"only cmd reads the environment", "cmd/restock/x.go", code(`"os"`, `os.Getenv("X")`), ""},
	{"only cmd reads the environment", "api/x_test.go", code(`"os"`, `os.Getenv("X")`), ""},
	{"only cmd reads the environment", "api/x.go", code(`"os"`, `os.Getpid()`), ""},

	{"only cmd decides how the process ends", "relay/x.go", code(`"os"`, `os.Exit(1)`), "relay/x.go:5 uses os.Exit"},
	{"only cmd decides how the process ends", "relay/x.go", code(`"os/signal"`, `signal.Notify(nil)`), "uses os/signal.Notify"},
	{"only cmd decides how the process ends", "cmd/restock/main.go", code(`"os"`, `os.Exit(1)`), ""},

	{"nothing sleeps", "relay/x.go", code(`"time"`, `time.Sleep(1)`), "relay/x.go:5 uses time.Sleep"},
	{"nothing sleeps", "relay/x_test.go", code(`"time"`, `time.Sleep(1)`), "relay/x_test.go:5 uses time.Sleep"},
	{"nothing sleeps", "relay/x.go", code(`"time"`, `pause := time.Sleep; pause(1)`), "uses time.Sleep"},
	{"nothing sleeps", "bench/x.go", code(`"time"`, `time.Sleep(1)`), ""},

	{"nothing is left unfinished", "api/x.go", code(`"os"`, `panic("not implemented")`), "api/x.go:5 panics for want of code"},
	{"nothing is left unfinished", "api/x.go", code(`"os"`, `panic("TODO: answer")`), "api/x.go:5 panics"},
	{"nothing is left unfinished", "api/x.go", code(`"os"`, `panic("the lock is not held")`), ""},
}

func TestEveryRuleCanFail(t *testing.T) {
	t.Parallel()
	broken := map[string]bool{}
	for _, plant := range planted {
		f, err := parse(plant.file, plant.source)
		require.NoError(t, err)
		violations := ruleNamed(t, plant.rule).check([]file{f})
		if plant.says == "" {
			require.Empty(t, violations, "%s: %s", plant.rule, plant.source)
			continue
		}
		require.Len(t, violations, 1, "%s: %s", plant.rule, plant.source)
		require.Contains(t, violations[0], plant.says)
		broken[plant.rule] = true
	}
	for _, rule := range rules {
		require.True(t, broken[rule.name], "no planted violation of: %s", rule.name)
	}
}

func ruleNamed(t *testing.T, name string) rule {
	t.Helper()
	for _, rule := range rules {
		if rule.name == name {
			return rule
		}
	}
	require.Fail(t, "no such rule: "+name)
	return rule{}
}
