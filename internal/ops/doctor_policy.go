package ops

import (
	"encoding/json"
	"path"
	"reflect"
	"slices"
	"strings"
)

// policyAllows tells whether a queue's policy lets the topic send, and whether it lets
// any other.
func policyAllows(policy, topicARN string) (allowed, anybody bool) {
	var p struct{ Statement json.RawMessage }
	if json.Unmarshal([]byte(policy), &p) != nil {
		return false, false
	}
	type statement struct {
		Effect    string
		Principal json.RawMessage
		Action    json.RawMessage
		Condition map[string]map[string]json.RawMessage
	}
	var statements []statement
	if json.Unmarshal(p.Statement, &statements) != nil {
		statements = make([]statement, 1)
		if json.Unmarshal(p.Statement, &statements[0]) != nil {
			return false, false
		}
	}
	for _, st := range statements {
		if st.Effect != "Allow" || !mentions(st.Action, "sqs:SendMessage", "sqs:*", "*") || !principalIsSNS(st.Principal) {
			continue
		}
		bound, fits := false, false
		for _, test := range st.Condition {
			for key, value := range test {
				if strings.EqualFold(key, "aws:SourceArn") {
					bound, fits = true, fits || anyOf(value, func(pattern string) bool {
						matched, err := path.Match(pattern, topicARN) // an ARN of a topic has no slash
						return err == nil && matched
					})
				}
			}
		}
		allowed = allowed || !bound || fits
		anybody = anybody || !bound
	}
	return allowed, anybody
}

func principalIsSNS(principal json.RawMessage) bool {
	var named map[string]json.RawMessage
	if json.Unmarshal(principal, &named) != nil {
		return mentions(principal, "*")
	}
	return mentions(named["Service"], "sns.amazonaws.com", "*") || mentions(named["AWS"], "*")
}

// mentions tells whether a text, or a list of texts, has one of those wanted, whatever
// its case.
func mentions(value json.RawMessage, wanted ...string) bool {
	return anyOf(value, func(text string) bool {
		return slices.ContainsFunc(wanted, func(w string) bool { return strings.EqualFold(text, w) })
	})
}

// anyOf tells whether a text, or one of a list of texts, is as is says.
func anyOf(value json.RawMessage, is func(string) bool) bool {
	var list []string
	if json.Unmarshal(value, &list) == nil {
		return slices.ContainsFunc(list, is)
	}
	var one string
	return json.Unmarshal(value, &one) == nil && is(one)
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
