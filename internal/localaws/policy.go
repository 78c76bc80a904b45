package localaws

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// policy is the resource policy of a queue, as far as it decides whether a topic may send to it. What it does not
// understand never allows and always denies.
type policy struct{ statements []statement }

type statement struct {
	Sid          string
	Effect       string
	Principal    principal
	NotPrincipal json.RawMessage
	Action       textOrList
	NotAction    json.RawMessage
	Resource     textOrList
	NotResource  json.RawMessage
	Condition    map[string]map[string]textOrList
}

// textOrList is a JSON string or a list of them.
type textOrList []string

func (t *textOrList) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*t = textOrList{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(raw, &many); err != nil {
		return errors.New("expected a string or a list of strings")
	}
	*t = many
	return nil
}

type principal map[string]textOrList

func (p *principal) UnmarshalJSON(raw []byte) error {
	var star string
	if json.Unmarshal(raw, &star) == nil {
		*p = principal{"AWS": {star}}
		return nil
	}
	var kinds map[string]textOrList
	if err := json.Unmarshal(raw, &kinds); err != nil {
		return fmt.Errorf("principal: %w", err)
	}
	*p = kinds
	return nil
}

func parsePolicy(raw string) (*policy, error) {
	var doc struct {
		Version   string
		ID        string `json:"Id"`
		Statement json.RawMessage
	}
	if err := json.Unmarshal([]byte(raw), &doc); err != nil {
		return nil, errors.New("it is not a JSON object")
	}
	if doc.Version != "" && !oneOf(doc.Version, "2012-10-17", "2008-10-17") {
		return nil, errors.New("its Version is unknown")
	}
	var p policy
	var one statement
	if err := json.Unmarshal(doc.Statement, &p.statements); err != nil {
		if err := json.Unmarshal(doc.Statement, &one); err != nil {
			return nil, errors.New("its Statement is malformed")
		}
		p.statements = []statement{one}
	}
	if len(p.statements) == 0 {
		return nil, errors.New("it has no Statement")
	}
	for _, st := range p.statements {
		if err := st.check(); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

func (st statement) check() error {
	switch {
	case !oneOf(st.Effect, "Allow", "Deny"):
		return errors.New("a statement has no Effect of Allow or Deny")
	case len(st.Principal) == 0 && st.NotPrincipal == nil:
		return errors.New("a statement has no Principal")
	case len(st.Action) == 0 && st.NotAction == nil:
		return errors.New("a statement has no Action")
	case len(st.Resource) == 0 && st.NotResource == nil:
		return errors.New("a statement has no Resource")
	}
	return nil
}

// allowsTopic tells whether SNS may send to the queue on behalf of the topic. A queue without a policy lets nobody in.
func (p *policy) allowsTopic(topicARN, queueARN string) bool {
	if p == nil {
		return false
	}
	allowed := false
	for _, st := range p.statements {
		applies, sure := st.appliesTo(topicARN, queueARN)
		switch {
		case st.Effect == "Deny" && (applies || !sure):
			return false
		case st.Effect == "Allow" && applies && sure:
			allowed = true
		}
	}
	return allowed
}

// appliesTo is not sure where the statement uses something that this stand-in does not evaluate.
func (st statement) appliesTo(topicARN, queueARN string) (applies, sure bool) {
	if st.NotPrincipal != nil || st.NotAction != nil || st.NotResource != nil {
		return false, false
	}
	if !st.Principal.isSNS() || !anyMatches(st.Resource, queueARN) || !st.coversSend() {
		return false, true
	}
	for operator, keys := range st.Condition {
		for key, patterns := range keys {
			holds, known := conditionHolds(operator, key, patterns, topicARN)
			if !known {
				return false, false
			}
			if !holds {
				return false, true
			}
		}
	}
	return true, true
}

func (p principal) isSNS() bool {
	return oneOf("sns.amazonaws.com", p["Service"]...) || oneOf("*", p["AWS"]...) || oneOf("*", p["Service"]...)
}

func (st statement) coversSend() bool {
	for _, action := range st.Action {
		if wildcardMatch(strings.ToLower(action), "sqs:sendmessage") {
			return true
		}
	}
	return false
}

func conditionHolds(operator, key string, patterns []string, topicARN string) (holds, known bool) {
	value := ""
	switch strings.ToLower(key) {
	case "aws:sourcearn":
		value = topicARN
	case "aws:sourceaccount", "aws:sourceowner":
		value = accountID
	default:
		return false, false
	}
	switch operator {
	case "ArnEquals", "ArnLike", "StringLike": // AWS treats the first two alike: both take wildcards
		return anyMatches(patterns, value), true
	case "StringEquals":
		return oneOf(value, patterns...), true
	}
	return false, false
}

func anyMatches(patterns []string, value string) bool {
	for _, p := range patterns {
		if wildcardMatch(p, value) {
			return true
		}
	}
	return false
}

// wildcardMatch matches * and ? in a pattern; time and space are linear in their product at worst.
func wildcardMatch(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
