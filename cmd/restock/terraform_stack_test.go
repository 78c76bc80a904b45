package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// terraformStack is every part of Restock as a process, on what Terraform made, started as
// its task says: only where things are is another.
type terraformStack struct {
	*stack
	tf        *terraform
	databases map[string]*pgtest.Database
	customers *pgxpool.Pool
	tasks     map[string]task
	others    map[string]string // what is elsewhere, by its variable
}

// task is a container's definition.
type task struct {
	Command     []string
	Environment []struct{ Name, Value string }
	Secrets     []struct{ Name, ValueFrom string }
}

// newTerraformStack starts what is no part of Restock, and says where it is.
func newTerraformStack(t *testing.T, tf *terraform) *terraformStack {
	t.Helper()
	s := &terraformStack{stack: &stack{t: t, ctx: t.Context(), aws: &process{endpoints: map[string]string{"aws": tf.moto.url}}}, tf: tf}
	s.db, s.pool = newDatabase(t, store)
	other, otherPool := newDatabase(t, customers)
	s.databases, s.customers = map[string]*pgtest.Database{"store": s.db, "customers": other}, otherPool
	s.factory = launch(t, nil, "factory", "--addr", "127.0.0.1:0", "--delay", "1s")
	marketing := launch(t, []string{"RESTOCK_MARKETING_SECRETS=" + oldSecret}, "marketing", "--addr", "127.0.0.1:0")
	s.apiURL = "http://127.0.0.1:" + freePort(t)
	s.others = map[string]string{
		"RESTOCK_FACTORY_API": s.factory.endpoints["factory"], "RESTOCK_PUBLIC_URL": s.apiURL,
		"RESTOCK_MARKETING_WEBHOOK_URL": marketing.endpoints["marketing"] + "/webhooks",
		"RESTOCK_CALLBACK_SECRETS":      "0123456789abcdef", "RESTOCK_MARKETING_SECRETS": oldSecret,
	}
	subnets := tf.moto.form("ec2", url.Values{"Action": {"DescribeSubnets"}, "Version": {"2016-11-15"}})
	var ids []string
	for _, match := range regexp.MustCompile(`<subnetId>([^<]+)<`).FindAllStringSubmatch(subnets, 2) {
		ids = append(ids, match[1])
	}
	var certificate struct{ CertificateArn string }
	require.NoError(t, json.Unmarshal([]byte(tf.moto.json("acm", "CertificateManager.RequestCertificate", map[string]string{"DomainName": "shop.example"})), &certificate))
	tf.variables = map[string]any{
		"vpc_id": regexp.MustCompile(`<vpcId>([^<]+)<`).FindStringSubmatch(subnets)[1], "private_subnet_ids": ids, "public_subnet_ids": ids,
		"certificate_arn": certificate.CertificateArn, "image": "registry.example/restock:1", "deletion_protection": false,
		"mail_identity": "ads@donuts.example", "ads_from": "ads@donuts.example", "public_url": "https://shop.example",
		"factory_api": "https://factory.example", "marketing_webhook_url": "https://marketing.example/webhooks", "marketing_allow": []string{"127.0.0.0/8"},
		"alarm_topic_arn": "arn:aws:sns:ap-northeast-2:123456789012:pager", "operator_principals": []string{"arn:aws:iam::123456789012:root"},
	}
	return s
}

// jobs runs what comes before the parts, as their tasks are defined.
func (s *terraformStack) jobs() {
	t := s.t.(*testing.T)
	s.clients()
	var definitions map[string]string
	s.tf.output("container_definitions", &definitions)
	s.tasks = map[string]task{}
	for name, text := range definitions {
		var containers []task
		require.NoError(t, json.Unmarshal([]byte(text), &containers))
		require.Len(t, containers, 1)
		s.tasks[name] = containers[0]
	}
	for _, job := range []string{"migrate", "maintain"} {
		code, out, errs := restock(t, s.environment(job), s.tasks[job].Command...)
		require.Zero(t, code, "%s: %s %s", job, out, errs)
	}
}

// start starts each part as its task is defined, with the rights of its role.
func (s *terraformStack) start() {
	for _, role := range []string{"relay", "factory", "ads", "vip", "marketing", "status", "operator"} {
		s.tf.moto.enforce("restock-" + role)
	}
	for name := range s.tasks {
		if name != "migrate" && name != "maintain" && name != "status" {
			launch(s.t, s.environment(name), s.command(name)...)
		}
	}
}

// command is a task's, at a port that is free here.
func (s *terraformStack) command(name string) []string {
	at := strings.TrimPrefix(s.apiURL, "http://")
	if name != "api" {
		at = "127.0.0.1:" + freePort(s.t.(*testing.T))
	}
	command := slices.Clone(s.tasks[name].Command)
	for i, arg := range command {
		if strings.HasPrefix(arg, "0.0.0.0:") {
			command[i] = at
		}
	}
	return command
}

// environment is a task's, its databases and the others at where they are here, and its
// role for an access key.
func (s *terraformStack) environment(name string) []string {
	t := s.t
	role := "restock-" + regexp.MustCompile(`^consume-|-(store|customers)$`).ReplaceAllString(name, "")
	env := []string{"AWS_ENDPOINT_URL=" + s.tf.moto.url, "AWS_ACCESS_KEY_ID=" + role, "AWS_SECRET_ACCESS_KEY=local"}
	owned := false
	for _, v := range s.tasks[name].Environment {
		value := v.Value
		if here, moved := s.others[v.Name]; moved {
			value = here
		}
		if strings.HasSuffix(v.Name, "DATABASE_URL") {
			u, err := url.Parse(value)
			require.NoError(t, err)
			require.Equal(t, "require", u.Query().Get("sslmode"))
			db := s.databases[strings.TrimPrefix(u.Path, "/")]
			require.NotNil(t, db, value)
			if owned = u.User.Username() == "restock"; owned {
				value = db.DSN
			} else {
				value = strings.Replace(db.RoleDSN(u.User.Username(), "-"), ":-@", "@", 1)
			}
		}
		env = append(env, v.Name+"="+value)
	}
	for _, v := range s.tasks[name].Secrets {
		value, is := s.others[v.Name]
		if !is {
			require.Contains(t, v.Name, "DATABASE_PASSWORD")
			value = password
		}
		if !is && owned {
			continue // it is in the connection string
		}
		env = append(env, v.Name+"="+value)
	}
	return env
}

// operator is the environment of one who looks.
func (s *terraformStack) operator() []string {
	env := slices.DeleteFunc(s.environment("status"), func(v string) bool { return strings.HasPrefix(v, "AWS_ACCESS_KEY_ID") })
	return append(env, "AWS_ACCESS_KEY_ID=restock-operator", "RESTOCK_TOPIC_ARN="+s.topic, "RESTOCK_ADS_FROM=ads@donuts.example", "RESTOCK_LOG_LEVEL=error")
}

// examined has the doctor look at what Terraform made. It finds fault with nothing but
// that moto does not know an account of SES.
func (s *terraformStack) examined() {
	t := s.t
	code, out, errs := restock(t.(*testing.T), s.operator(), "doctor", "--json", "--slot", schema.SlotName(s.db.Name))
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
	counted := func(sql string) (n int) {
		require.NoError(t, s.customers.QueryRow(t.Context(), "SELECT count(*) FROM "+sql).Scan(&n))
		return n
	}
	s.eventually("the customer is VIP", func() bool { return counted(`customers WHERE id = 'c-1' AND type = 'vip'`) == 1 })
	s.eventually("the marketing system knows", func() bool { return counted(`inbox WHERE consumer = 'marketing' AND state = 'done'`) == 1 })
	s.conserved()
	code, out, errs := restock(t.(*testing.T), s.operator(), "reconcile", "--grace", "1ns")
	require.Zero(t, code, "%s\n%s", out, errs)
	t.Log(out)
}

// reported holds a line of the status part's log against the filters that CloudWatch makes
// metrics with.
func (s *terraformStack) reported() {
	t := s.t
	// While no WAL is written no slot has an end, and there is nothing to make a metric of.
	line := strings.ReplaceAll(watching(t, s.environment("status"), s.command("status")...), `"leftSeconds":null`, `"leftSeconds":3600`)
	var filters map[string]struct{ Pattern, Field string }
	s.tf.output("status_filters", &filters)
	require.Len(t, filters, 7)
	for name, f := range filters {
		matches, err := logMatches(f.Pattern, line)
		require.NoError(t, err)
		require.True(t, matches, "%s: %s takes nothing of %s", name, f.Pattern, line)
		value, is := logField(f.Field, line).(float64)
		require.True(t, is, "%s in %s", f.Field, line)
		require.Equal(t, strings.HasPrefix(name, "slot-left"), value > 0, "%s in %s: all is well", f.Field, line)
	}
}

// logField is what a selector of CloudWatch's, as $.relays[0].error, finds in a line of
// JSON; nil where it finds nothing.
func logField(selector, line string) any {
	var value any
	if json.Unmarshal([]byte(line), &value) != nil {
		return nil
	}
	for _, step := range regexp.MustCompile(`\.(\w+)|\[(\d+)\]`).FindAllStringSubmatch(selector, -1) {
		switch at := value.(type) {
		case map[string]any:
			value = at[step[1]]
		case []any:
			var i int
			if _, err := fmt.Sscan(step[2], &i); err != nil || i >= len(at) {
				return nil
			}
			value = at[i]
		default:
			return nil
		}
	}
	return value
}

// logMatches tells whether a filter pattern of CloudWatch's takes a line. Of its grammar it
// knows what module alarms uses: tests in parentheses, all with && or all with ||.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntaxForMetricFilters.html
func logMatches(pattern, line string) (bool, error) {
	tests := regexp.MustCompile(`\((\$\S+) (=|>=|NOT EXISTS)(?: ("[^"]*"|[0-9.]+))?\)`).FindAllStringSubmatch(pattern, -1)
	rest := pattern
	for _, test := range tests {
		rest = strings.Replace(rest, test[0], "", 1)
	}
	if len(tests) == 0 || strings.Trim(rest, "{}&| ") != "" {
		return false, fmt.Errorf("a pattern that this test cannot read: %s", pattern)
	}
	any, all := false, true
	for _, test := range tests {
		value, holds := logField(test[1], line), false
		switch test[2] {
		case "NOT EXISTS":
			holds = value == nil
		case "=":
			holds = fmt.Sprintf("%q", value) == test[3]
		case ">=":
			number, is := value.(float64)
			var least float64
			if _, err := fmt.Sscan(test[3], &least); err != nil {
				return false, err
			}
			holds = is && number >= least
		}
		any, all = any || holds, all && holds
	}
	if strings.Contains(pattern, "||") {
		return any, nil
	}
	return all, nil
}

// TestLogMatches: a filter takes a line that says it, and not one that could not.
func TestLogMatches(t *testing.T) {
	t.Parallel()
	const pattern = `{ ($.relays[0].database = "store") && ($.relays[0].error NOT EXISTS) && ($.relays[0].lagSeconds >= 0) }`
	for line, want := range map[string]bool{
		`{"relays":[{"database":"store","lagSeconds":0.5}]}`:                 true,
		`{"relays":[{"database":"store","lagSeconds":0,"error":"refused"}]}`: false,
		`{"relays":[{"database":"customers","lagSeconds":0.5}]}`:             false,
		`{"relays":[{"database":"store","lagSeconds":null}]}`:                false,
		`{"relays":[]}`: false,
		`no JSON`:       false,
	} {
		got, err := logMatches(pattern, line)
		require.NoError(t, err)
		require.Equal(t, want, got, line)
	}
	_, err := logMatches(`{ $.a IS TRUE }`, "{}")
	require.Error(t, err)
}
