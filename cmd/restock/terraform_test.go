package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/ops"
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

// TestTerraform applies messaging, mail and roles to an AWS API, runs every part as a
// process on what was made, and destroys it.
func TestTerraform(t *testing.T) {
	t.Parallel()
	tf := newTerraform(t)
	tf.apply()
	s := newTerraformStack(t, tf)
	s.examined()
	s.story()
	tf.unchanged()
	tf.run("destroy", "-auto-approve")
}

// terraform is a copy of the minimal example, with moto for AWS.
type terraform struct {
	t    *testing.T
	dir  string
	moto string // URL
}

func newTerraform(t *testing.T) *terraform {
	t.Helper()
	for _, program := range []string{"terraform", "moto_server"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("NOT RUN: deployments/terraform was not applied, because there is no %s on the PATH", program)
		}
	}
	root := filepath.Join(t.TempDir(), "terraform")
	require.NoError(t, os.CopyFS(root, os.DirFS(terraformDir)))
	tf := &terraform{t: t, dir: filepath.Join(root, "examples/minimal"), moto: startMoto(t)}
	override := fmt.Sprintf(`provider "aws" {
  access_key                  = "local"
  secret_key                  = "local"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
  endpoints {
    sns   = %[1]q
    sqs   = %[1]q
    iam   = %[1]q
    sts   = %[1]q
    sesv2 = %[1]q
  }
}
`, tf.moto)
	require.NoError(t, os.WriteFile(filepath.Join(tf.dir, "moto_override.tf"), []byte(override), 0o600))
	initialize := []string{"init", "-input=false"}
	if plugins := os.Getenv("RESTOCK_TERRAFORM_PLUGINS"); plugins != "" {
		initialize = append(initialize, "-plugin-dir="+plugins)
	}
	if out, err := tf.command(initialize...).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: deployments/terraform was not applied, because the AWS provider is not to be had (RESTOCK_TERRAFORM_PLUGINS can name a folder that has it): %s", out)
	}
	return tf
}

func (tf *terraform) command(args ...string) *exec.Cmd {
	cmd := exec.Command("terraform", append(args, "-no-color")...)
	cmd.Dir = tf.dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") || strings.HasPrefix(v, "TF_CLI") }),
		"TF_IN_AUTOMATION=1", "TF_VAR_mail_identity=ads@donuts.example", "CHECKPOINT_DISABLE=1")
	return cmd
}

func (tf *terraform) run(args ...string) string {
	tf.t.Helper()
	if args[0] != "output" && args[0] != "validate" {
		args = append(args, "-input=false", "-parallelism=40")
	}
	out, err := tf.command(args...).CombinedOutput()
	require.NoError(tf.t, err, "terraform %v: %s", args, out)
	return string(out)
}

func (tf *terraform) apply() {
	tf.t.Helper()
	tf.run("validate")
	tf.t.Log(lastLines(tf.run("apply", "-auto-approve"), "Apply complete"))
}

// unchanged holds that what is there is what is written, after everything ran on it.
func (tf *terraform) unchanged() {
	tf.t.Helper()
	out := tf.run("plan", "-detailed-exitcode")
	require.Contains(tf.t, out, "No changes")
}

func lastLines(out, from string) string {
	i := strings.Index(out, from)
	return out[max(i, 0):]
}

// environment is the example's own output, and where AWS is.
func (tf *terraform) environment() []string {
	var env map[string]string
	require.NoError(tf.t, json.Unmarshal([]byte(tf.run("output", "-json", "environment")), &env))
	all := []string{"AWS_ENDPOINT_URL=" + tf.moto, "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local"}
	for name, value := range env {
		all = append(all, name+"="+value)
	}
	return all
}

// startMoto starts moto, and returns where it can be reached: through a proxy that
// corrects what no client of AWS can read.
func startMoto(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := free.Addr().(*net.TCPAddr).Port
	require.NoError(t, free.Close())
	log := &log{}
	cmd := exec.Command("moto_server", "-H", "127.0.0.1", "-p", strconv.Itoa(port))
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("moto printed:\n%s", regexp.MustCompile(`(?m)^.*" 200 -\n`).ReplaceAllString(log.tail(), ""))
		}
	})
	to := &url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	require.Eventually(t, func() bool {
		res, err := http.Get(to.String() + "/moto-api/data.json")
		if err != nil {
			return false
		}
		return errors.Join(res.Body.Close()) == nil && res.StatusCode == http.StatusOK
	}, patience, 50*time.Millisecond)
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host },
		ModifyResponse: correctMoto, ErrorLog: stdlog.New(io.Discard, "", 0), // clients that go away
	})
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// correctMoto makes three answers of moto's what AWS's are. Of a configuration set SES v2
// says whether sending is enabled with true or false, and leaves out options that are not
// set; of a FIFO topic SNS
// tells the throughput scope; a redrive policy comes back as it was given, without spaces.
func correctMoto(res *http.Response) error {
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	switch {
	case res.Request.Method == http.MethodGet && strings.HasPrefix(res.Request.URL.Path, "/v2/email/configuration-sets/"):
		var set map[string]any
		if err := json.Unmarshal(text, &set); err != nil {
			return err
		}
		maps.DeleteFunc(set, func(_ string, value any) bool { return reflect.DeepEqual(value, map[string]any{}) })
		set["SendingOptions"] = map[string]bool{"SendingEnabled": true}
		if text, err = json.Marshal(set); err != nil {
			return err
		}
	case bytes.Contains(text, []byte("<GetTopicAttributesResult>")):
		scope := "<entry><key>FifoThroughputScope</key><value>Topic</value></entry></Attributes>"
		text = bytes.Replace(text, []byte("</Attributes>"), []byte(scope), 1)
	case bytes.Contains(text, []byte("RedrivePolicy")):
		text = bytes.ReplaceAll(text, []byte(`\": `), []byte(`\":`))
		text = bytes.ReplaceAll(text, []byte(`, \"maxReceiveCount`), []byte(`,\"maxReceiveCount`))
	}
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	res.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return nil
}

// terraformStack is every part of Restock as a process, on what Terraform made.
type terraformStack struct {
	*stack
	operatorEnv []string
	counted     func(sql string, args ...any) int
}

func newTerraformStack(t *testing.T, tf *terraform) *terraformStack {
	t.Helper()
	env := tf.environment()
	s := &stack{t: t, ctx: t.Context(), awsEnv: env, aws: &process{endpoints: map[string]string{"aws": tf.moto}}}
	s.clients()
	s.db, s.pool = newDatabase(t, store)
	other, otherPool := newDatabase(t, customers)
	with := func(more ...string) []string { return append(slices.Clone(env), more...) }
	dsn := func(role string) string { return "RESTOCK_DATABASE_URL=" + s.db.RoleDSN(role, password) }
	s.factory = launch(t, nil, "factory", "--addr", "127.0.0.1:0", "--delay", "1s")
	marketing := launch(t, []string{"RESTOCK_MARKETING_SECRETS=" + oldSecret}, "marketing", "--addr", "127.0.0.1:0")
	s.api = launch(t, []string{dsn(schema.RoleAPI), "RESTOCK_CALLBACK_SECRETS=0123456789abcdef"}, "api", "--addr", "127.0.0.1:0", "--log-level", "warn")
	s.apiURL = s.api.endpoints["api"]
	s.relay = launch(t, with(dsn(schema.RoleRelay)), "relay")
	launch(t, with("RESTOCK_DATABASE_URL="+other.RoleDSN(schema.RoleRelay, password)), "relay")
	s.consume = launch(t, with(dsn(schema.RoleConsumers), "RESTOCK_CUSTOMERS_DATABASE_URL="+other.RoleDSN(schema.RoleCustomers, password),
		"RESTOCK_FACTORY_API="+s.factory.endpoints["factory"], "RESTOCK_ADS_FROM=ads@donuts.example",
		"RESTOCK_MARKETING_WEBHOOK_URL="+marketing.endpoints["marketing"]+"/webhooks", "RESTOCK_MARKETING_SECRETS="+oldSecret, "RESTOCK_MARKETING_ALLOW=127.0.0.0/8"), "consume")
	return &terraformStack{
		stack:       s,
		operatorEnv: with(dsn(schema.RoleMaintenance), "RESTOCK_CUSTOMERS_DATABASE_URL="+other.RoleDSN(schema.RoleMaintenance, password), "RESTOCK_ADS_FROM=ads@donuts.example", "RESTOCK_LOG_LEVEL=error"),
		counted: func(sql string, args ...any) (n int) {
			require.NoError(t, otherPool.QueryRow(t.Context(), "SELECT count(*) FROM "+sql, args...).Scan(&n))
			return n
		},
	}
}

// examined has the doctor look at what Terraform made. It finds fault with nothing but
// that moto does not know an account of SES.
func (s *terraformStack) examined() {
	t := s.t
	code, out, errs := restock(t.(*testing.T), s.operatorEnv, "doctor", "--json", "--slot", schema.SlotName(s.db.Name))
	require.Equal(t, 1, code, errs)
	var d diagnosis
	require.NoError(t, json.Unmarshal([]byte(out), &d))
	var faults []string
	for _, c := range d.Checks {
		if c.Level == ops.LevelFail {
			faults = append(faults, c.Subject+" "+c.Name)
		}
	}
	require.Equal(t, []string{"ses reachable"}, faults, out)
}

// story is the demo's, on processes: the last one sold, one more in vain, the factory's
// delivery, both mails, a bulk order, a promotion, a webhook.
func (s *terraformStack) story() {
	t := s.t
	s.sell(1, 10, "A")
	s.sell(500, 10, "BULK")
	require.Equal(t, http.StatusOK, s.checkout(http.DefaultClient, "A", "c-1"))
	require.Equal(t, http.StatusConflict, s.checkout(http.DefaultClient, "A", "c-1"))
	s.eventually("the factory delivered", func() bool { return s.count(`replenishments WHERE state = 'delivered'`) == 1 })
	require.Len(t, s.productions("A"), 1)
	s.eventually("the ads were stopped and resumed, or never stopped", func() bool {
		return s.count(`inbox WHERE consumer = 'ads' AND state = 'done'`) == 2
	})
	res, err := http.Post(s.apiURL+"/checkout", "application/json", strings.NewReader(`{"sku":"BULK","quantity":100,"customerId":"c-1"}`))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
	s.eventually("the customer is VIP", func() bool { return s.counted(`customers WHERE id = 'c-1' AND type = 'vip'`) == 1 })
	s.eventually("the marketing system knows", func() bool { return s.counted(`inbox WHERE consumer = 'marketing' AND state = 'done'`) == 1 })
	s.conserved()
	code, out, errs := restock(t.(*testing.T), s.operatorEnv, "reconcile", "--grace", "1ns")
	require.Zero(t, code, "%s\n%s", out, errs)
	t.Log(out)
}
