package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// gate holds calls to AWS against the policy of the role that they come as, as IAM does
// and moto does not. Who comes with another access key than a role's name passes.
type gate struct {
	moto *moto

	mu      sync.Mutex
	roles   map[string][]permission
	refused []string
	used    map[string]bool // role and action
}

// permission is a statement of a role's policy.
type permission struct{ Action, Resource oneOrMore }

// oneOrMore is a text, or a list of them.
type oneOrMore []string

func (t *oneOrMore) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*t = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(t))
}

func newGate(m *moto) *gate {
	return &gate{moto: m, roles: map[string][]permission{}, used: map[string]bool{}}
}

// enforce reads a role's policy from AWS. From now on its name is an access key.
func (g *gate) enforce(role string) {
	t := g.moto.t
	t.Helper()
	answer := g.moto.form("iam", url.Values{"Action": {"GetRolePolicy"}, "Version": {"2010-05-08"}, "RoleName": {role}, "PolicyName": {"restock"}})
	match := regexp.MustCompile(`<PolicyDocument>([^<]*)</PolicyDocument>`).FindStringSubmatch(answer)
	require.NotNil(t, match, answer)
	document, err := url.QueryUnescape(match[1])
	require.NoError(t, err)
	var policy struct{ Statement []permission }
	require.NoError(t, json.Unmarshal([]byte(document), &policy), document)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.roles[role] = policy.Statement
}

var credential = regexp.MustCompile(`Credential=([^/]+)/\d+/[^/]+/(\w+)/`)

// pass tells whether a request may go on.
func (g *gate) pass(r *http.Request, body []byte) bool {
	match := credential.FindStringSubmatch(r.Header.Get("Authorization"))
	if match == nil {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	permissions, known := g.roles[match[1]]
	if !known {
		return true
	}
	action, resource := called(match[2], r, body)
	g.used[match[1]+" "+action] = true
	for _, p := range permissions {
		if slices.Contains(p.Action, action) && slices.ContainsFunc(p.Resource, func(arn string) bool {
			return arn == "*" || resource == "" || arn == resource || strings.HasSuffix(arn, ":"+resource)
		}) {
			return true
		}
	}
	g.refused = append(g.refused, match[1]+" may not "+action+" "+resource)
	return false
}

// called is the action of IAM's that a request takes, and on what; "" where the request
// does not name it by its ARN.
func called(service string, r *http.Request, body []byte) (action, resource string) {
	if service == "ses" {
		switch {
		case strings.HasPrefix(r.URL.Path, "/v2/email/outbound-emails"):
			return "ses:SendEmail", ""
		case strings.HasPrefix(r.URL.Path, "/v2/email/identities/"):
			return "ses:GetEmailIdentity", ""
		}
		return "ses:GetAccount", ""
	}
	// Of a batch IAM knows the single action only.
	if _, name, is := strings.Cut(r.Header.Get("X-Amz-Target"), "AmazonSQS."); is {
		var on struct{ QueueURL, QueueName string }
		_ = json.Unmarshal(body, &on) // what is no queue's is refused
		return "sqs:" + strings.TrimSuffix(name, "Batch"), on.QueueURL[strings.LastIndex(on.QueueURL, "/")+1:] + on.QueueName
	}
	form, _ := url.ParseQuery(string(body))
	resource = form.Get("TopicArn")
	if of := strings.Split(form.Get("SubscriptionArn"), ":"); len(of) > 1 { // of the topic's, for IAM
		resource = strings.Join(of[:len(of)-1], ":")
	}
	return service + ":" + strings.TrimSuffix(form.Get("Action"), "Batch"), resource
}

// kept tells that nobody was refused anything, and returns what each role did.
func (g *gate) kept() (used []string) {
	g.moto.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	require.Empty(g.moto.t, g.refused, "a role lacks a right")
	for one := range g.used {
		used = append(used, one)
	}
	slices.Sort(used)
	return used
}

// TestGate: a role does what its policy says, on what it says, and nothing else.
func TestGate(t *testing.T) {
	t.Parallel()
	const queue, topic = "arn:aws:sqs:x:1:a.fifo", "arn:aws:sns:x:1:t.fifo"
	for _, one := range []struct {
		role, service, target, path, body string
		passes                            bool
	}{
		{"consumer", "sqs", "AmazonSQS.DeleteMessageBatch", "/", `{"QueueUrl":"http://h/1/a.fifo"}`, true},
		{"consumer", "sqs", "AmazonSQS.GetQueueUrl", "/", `{"QueueName":"a.fifo"}`, false},
		{"consumer", "sqs", "AmazonSQS.DeleteMessage", "/", `{"QueueUrl":"http://h/1/b.fifo"}`, false},
		{"consumer", "ses", "", "/v2/email/outbound-emails", `{}`, false},
		{"relay", "sns", "", "/", "Action=PublishBatch&TopicArn=" + topic, true},
		{"relay", "sns", "", "/", "Action=PublishBatch&TopicArn=" + topic + "2", false},
		{"relay", "sns", "", "/", "Action=CreateTopic", false},
		{"nobody", "sns", "", "/", "Action=CreateTopic", true},
	} {
		g := newGate(&moto{t: t})
		g.roles["consumer"] = []permission{{oneOrMore{"sqs:DeleteMessage"}, oneOrMore{queue}}}
		g.roles["relay"] = []permission{{oneOrMore{"sns:Publish"}, oneOrMore{topic}}}
		r := httptest.NewRequest(http.MethodPost, one.path, nil)
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+one.role+"/20260101/x/"+one.service+"/aws4_request")
		r.Header.Set("X-Amz-Target", one.target)
		require.Equal(t, one.passes, g.pass(r, []byte(one.body)), one)
		require.Equal(t, one.passes, len(g.refused) == 0, one)
	}
}
