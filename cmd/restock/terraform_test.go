package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

const terraformDir = "../../deployments/terraform"

// TestTerraformContract: what Terraform makes is what the code expects, by name, filter
// policy, delivery form and limit.
func TestTerraformContract(t *testing.T) {
	t.Parallel()
	var contract struct {
		Topic                                                string
		MaxReceiveCount, RetentionSeconds, VisibilitySeconds int
		Consumers                                            map[string]struct {
			Queue, DLQ, SubscriptionDLQ string
			Raw                         bool
			Filter                      json.RawMessage
		}
	}
	text, err := os.ReadFile(filepath.Join(terraformDir, "messaging/contract.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &contract))
	require.Equal(t, schema.Topic, contract.Topic)
	require.Equal(t, schema.MaxReceiveCount, contract.MaxReceiveCount)
	require.Equal(t, topology.Retention, time.Duration(contract.RetentionSeconds)*time.Second)
	require.Equal(t, topology.VisibilityTimeout, time.Duration(contract.VisibilitySeconds)*time.Second)
	interests := schema.Interests(4711)
	require.Len(t, contract.Consumers, len(interests))
	for _, in := range interests {
		c := contract.Consumers[in.Consumer]
		require.Equal(t, []string{schema.QueueName(in.Consumer), schema.DLQName(in.Consumer), schema.SubscriptionDLQName(in.Consumer)}, []string{c.Queue, c.DLQ, c.SubscriptionDLQ})
		require.Equal(t, in.Raw, c.Raw, in.Consumer)
		require.JSONEq(t, in.FilterPolicy(), strings.ReplaceAll(string(c.Filter), `"vip_threshold"`, "4711"))
	}
}

// TestTerraformRoles: each database has those that Terraform makes secrets for.
func TestTerraformRoles(t *testing.T) {
	t.Parallel()
	require.Equal(t, map[string][]string{
		"store":     {schema.RoleAPI, schema.RoleRelay, schema.RoleConsumers, schema.RoleMaintenance},
		"customers": {schema.RoleRelay, schema.RoleCustomers, schema.RoleMaintenance},
	}, databaseRoles(t))
}

// TestTerraformPaths: the load balancer lets through what the API says that it serves, but
// not the probes, nor its metrics.
func TestTerraformPaths(t *testing.T) {
	t.Parallel()
	list := regexp.MustCompile(`path_pattern \{\s+values = (\[.*\])`).FindStringSubmatch(read(t, filepath.Join(terraformDir, "compute", "network.tf")))
	require.NotNil(t, list)
	var patterns []string
	require.NoError(t, json.Unmarshal([]byte(list[1]), &patterns))
	served := regexp.MustCompile(`(?m)^  (/\S*):$`).FindAllStringSubmatch(read(t, filepath.Join("..", "..", "api", "openapi.yaml")), -1)
	require.Greater(t, len(served), 5)
	for _, p := range served {
		passes := slices.ContainsFunc(patterns, func(pattern string) bool {
			start, any := strings.CutSuffix(pattern, "*")
			return pattern == p[1] || any && strings.HasPrefix(p[1], start)
		})
		require.Equal(t, !slices.Contains([]string{"/healthz", "/readyz", "/metrics"}, p[1]), passes, p[1])
	}
}

// TestTerraformExamples: each module is part of an example, and with them validated; each
// file is formatted; each input and output says what it is.
func TestTerraformExamples(t *testing.T) {
	t.Parallel()
	var all string
	modules := map[string]bool{}
	require.NoError(t, fs.WalkDir(os.DirFS(terraformDir), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != ".tf" {
			return err
		}
		text := read(t, filepath.Join(terraformDir, name))
		if dir := path.Dir(name); strings.HasPrefix(dir, "examples/") {
			all += text
		} else {
			modules[dir] = true
		}
		for _, block := range regexp.MustCompile(`(?ms)^(?:variable|output) "\w+" \{.*?^\}`).FindAllString(text, -1) {
			require.Contains(t, block, "\n  description = \"", "%s: %s", name, block)
		}
		return nil
	}))
	require.Greater(t, len(modules), 5)
	for module := range modules {
		require.Contains(t, all, `"../../`+module+`"`, "no example has module %s: nothing validates it", module)
	}
	needs(t, "terraform")
	out, err := exec.Command("terraform", "fmt", "-check", "-recursive", "-diff", terraformDir).CombinedOutput()
	require.NoError(t, err, "terraform fmt -recursive deployments/terraform\n%s", out)
}

// TestTerraformMinimal validates the small example, whose modules TestTerraform applies.
func TestTerraformMinimal(t *testing.T) {
	t.Parallel()
	needs(t, "terraform")
	newTerraform(t, "minimal", nil).run("validate")
}

// TestTerraform applies the whole to an AWS API, runs every part as a process with the
// command and the environment of its task and with no rights but its role's, plays the
// story, and destroys it. Most of that is waiting, for which it should begin among the first:
// of Go 1.26's tests that run in parallel, those of the last files do.
func TestTerraform(t *testing.T) {
	t.Parallel()
	needs(t, "terraform", "moto_server")
	tf := newTerraform(t, "production", startMoto(t))
	s := newTerraformStack(t, tf)
	tf.variables["running"] = false
	tf.run("validate")
	tf.apply()
	s.jobs()
	tf.variables["running"] = true
	tf.apply()
	s.start()
	s.examined()
	s.story()
	s.reported()
	t.Logf("each role called: %s", strings.Join(tf.moto.kept(), ", "))
	tf.unchanged()
	tf.switched()
	tf.run("destroy", "-auto-approve")
}

// terraform is a copy of an example, with moto for AWS.
type terraform struct {
	t         *testing.T
	dir       string
	moto      *moto // nil where nothing is asked
	variables map[string]any
}

// needs skips a test where a program is missing.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("NOT RUN: deployments/terraform was not tried, because there is no %s on the PATH", program)
		}
	}
}

func newTerraform(t *testing.T, example string, aws *moto) *terraform {
	t.Helper()
	root := filepath.Join(t.TempDir(), "terraform")
	require.NoError(t, os.CopyFS(root, os.DirFS(terraformDir)))
	tf := &terraform{t: t, dir: filepath.Join(root, "examples", example), moto: aws}
	override := `provider "aws" {
  access_key                  = "local"
  secret_key                  = "local"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}
`
	require.NoError(t, os.WriteFile(filepath.Join(tf.dir, "moto_override.tf"), []byte(override), 0o600))
	initialize := []string{"init", "-input=false"}
	if plugins := os.Getenv("RESTOCK_TERRAFORM_PLUGINS"); plugins != "" {
		initialize = append(initialize, "-plugin-dir="+plugins)
	}
	if out, err := tf.command(initialize...).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: deployments/terraform was not tried, because the AWS provider is not to be had (RESTOCK_TERRAFORM_PLUGINS can name a folder that has it): %s", out)
	}
	return tf
}

func (tf *terraform) command(args ...string) *exec.Cmd {
	cmd := exec.Command("terraform", append(args, "-no-color")...)
	cmd.Dir = tf.dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") || strings.HasPrefix(v, "TF_CLI") }),
		"TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1")
	if tf.moto != nil {
		cmd.Env = append(cmd.Env, "AWS_ENDPOINT_URL="+tf.moto.url)
	}
	return cmd
}

func (tf *terraform) run(args ...string) string {
	tf.t.Helper()
	if !slices.Contains([]string{"output", "validate", "show"}, args[0]) {
		args = append(args, "-input=false", "-parallelism=40")
		text, err := json.Marshal(tf.variables)
		require.NoError(tf.t, err)
		require.NoError(tf.t, os.WriteFile(filepath.Join(tf.dir, "terraform.tfvars.json"), text, 0o600))
	}
	out, err := tf.command(args...).CombinedOutput()
	require.NoError(tf.t, err, "terraform %v: %s", args, out)
	return string(out)
}

func (tf *terraform) apply() {
	tf.t.Helper()
	tf.t.Log(lastLines(tf.run("apply", "-auto-approve"), "Apply complete"))
}

// untold are attributes of which moto does not tell what was set.
var untold = map[string][]string{
	"aws_ecs_service":                     {"availability_zone_rebalancing", "health_check_grace_period_seconds"},
	"aws_db_parameter_group":              {"parameter"},
	"aws_vpc_security_group_egress_rule":  {"description", "referenced_security_group_id"},
	"aws_vpc_security_group_ingress_rule": {"description", "referenced_security_group_id"},
}

// unchanged holds that what is there is what is written, after everything ran on it.
func (tf *terraform) unchanged() {
	tf.t.Helper()
	tf.run("plan", "-out=again")
	var plan struct {
		ResourceChanges []struct {
			Address, Type string
			Change        struct {
				Actions       []string
				Before, After map[string]any
			}
		} `json:"resource_changes"`
	}
	require.NoError(tf.t, json.Unmarshal([]byte(tf.run("show", "-json", "again")), &plan))
	require.Greater(tf.t, len(plan.ResourceChanges), 100)
	for _, r := range plan.ResourceChanges {
		if slices.Equal(r.Change.Actions, []string{"no-op"}) {
			continue
		}
		require.Equal(tf.t, []string{"update"}, r.Change.Actions, r.Address)
		for name, value := range r.Change.After {
			if !reflect.DeepEqual(value, r.Change.Before[name]) {
				require.Contains(tf.t, untold[r.Type], name, "%s: %v would become %v", r.Address, r.Change.Before[name], value)
			}
		}
	}
}

// switched plans the same with Lambda in place of the consumers' services, and with replicas.
func (tf *terraform) switched() {
	tf.t.Helper()
	var databases map[string]struct {
		SecretARNs map[string]string `json:"secret_arns"`
	}
	tf.output("databases", &databases)
	for _, d := range databases {
		for _, arn := range d.SecretARNs {
			tf.moto.json("secretsmanager", "secretsmanager.PutSecretValue", map[string]string{"SecretId": arn, "SecretString": "p@ss w+rd"})
		}
	}
	for _, name := range []string{"callback-secrets", "marketing-secrets"} {
		tf.moto.json("secretsmanager", "secretsmanager.PutSecretValue", map[string]string{"SecretId": "restock/" + name, "SecretString": `{"password":"whatever"}`})
	}
	function := filepath.Join(tf.dir, "function.zip")
	require.NoError(tf.t, os.WriteFile(function, []byte("not run"), 0o600))
	variables := maps.Clone(tf.variables)
	defer func() { tf.variables = variables }()
	tf.variables = maps.Clone(variables)
	tf.variables["consumer_runtime"], tf.variables["lambda_package"] = "lambda", function
	tf.variables["replica"], tf.variables["owner_secret_arns"] = true, map[string]string{"store": "restock/marketing-secrets", "customers": "restock/marketing-secrets"}
	out := tf.run("plan", "-out=switched")
	planned := tf.run("show", "-json", "switched")
	require.Contains(tf.t, planned, "postgres://restock_consumers:p%40ss%20w%2Brd@")
	tf.bounded(planned)
	for _, name := range append(consumerNames(), "stock-increase") {
		require.Contains(tf.t, out, fmt.Sprintf(`module.compute.aws_lambda_function.function[%q] will be created`, name))
	}
	require.Contains(tf.t, out, `"ReportBatchItemFailures"`)
	require.Contains(tf.t, out, `module.database.aws_db_instance.replica["store"] will be created`)
	require.NotContains(tf.t, out, "module.database.aws_db_instance.primary[\"store\"] must be replaced")
	tf.t.Log(lastLines(out, "Plan:"))
}

// bounded holds that no function runs more often at once than the database can bear: each
// is bounded by its event source, or else by itself.
func (tf *terraform) bounded(planned string) {
	tf.t.Helper()
	var plan struct {
		ResourceChanges []struct {
			Type   string
			Index  any
			Change struct{ After json.RawMessage }
		} `json:"resource_changes"`
	}
	require.NoError(tf.t, json.Unmarshal([]byte(planned), &plan))
	bounds := map[string]int{}
	for _, r := range plan.ResourceChanges {
		var after struct {
			Reserved int `json:"reserved_concurrent_executions"`
			Scaling  []struct {
				Most int `json:"maximum_concurrency"`
			} `json:"scaling_config"`
		}
		switch r.Type {
		case "aws_lambda_function", "aws_lambda_event_source_mapping":
			require.NoError(tf.t, json.Unmarshal(r.Change.After, &after))
			name := fmt.Sprint(r.Index)
			bounds[name] = max(bounds[name], after.Reserved)
			for _, s := range after.Scaling {
				bounds[name] = s.Most
			}
		}
	}
	require.Equal(tf.t, map[string]int{"ads": 10, "factory": 10, "marketing": 10, "stock-increase": 10, "vip": 10}, bounds)
}

func lastLines(out, from string) string {
	text := out[max(strings.LastIndex(out, from), 0):]
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// output reads one of the example's.
func (tf *terraform) output(name string, to any) {
	tf.t.Helper()
	require.NoError(tf.t, json.Unmarshal([]byte(tf.run("output", "-json", name)), to))
}
