package localaws

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// withFaults carries a call out, and does to it what the rules say.
func (s *Server) withFaults(c *call) answer {
	drop := false
	for _, r := range s.faults.take(c) {
		switch r.Effect {
		case DropAnswer:
			drop = true
		case Cut:
			panic(http.ErrAbortHandler)
		case Delay:
			s.pause(c, r.Delay)
		case FailEntries:
			if c.failing == nil {
				c.failing = make(map[string]*apiError)
			}
			if refused := r.failEntries(c); refused != nil {
				return c.refusal(refused)
			}
		default:
			return c.refusal(r.refusal(c))
		}
	}
	a := s.perform(c)
	if drop || s.faults.Away() {
		panic(http.ErrAbortHandler)
	}
	return a
}

func (s *Server) pause(c *call, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
	case <-s.closing:
	case <-c.away:
	}
}

// take returns the rules that hit a call, and counts the hits.
func (f *Faults) take(c *call) []Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.rules) == 0 {
		return nil
	}
	c.readFacts()
	var hit []Rule
	kept := f.rules[:0:0]
	for _, r := range f.rules {
		if r.matches(c) {
			hit = append(hit, *r)
			r.Hits++
			f.hits[r.ID]++
		}
		if r.Count == 0 || r.Hits < r.Count {
			kept = append(kept, r)
		}
	}
	f.rules = kept
	return hit
}

// messageFacts are what a rule looks at in one message of a request.
type messageFacts struct {
	id, group, body string
	attributes      map[string]string
}

func (r *Rule) matches(c *call) bool {
	if r.Service != "" && r.Service != c.service || r.Action != "" && r.Action != c.faultAction() {
		return false
	}
	if r.Resource != "" && !c.concerns(r.Resource) {
		return false
	}
	if r.Effect != FailEntries && r.Group == "" && r.BodyContains == "" && len(r.Attributes) == 0 {
		return true
	}
	for _, m := range c.messages {
		if r.matchesMessage(m) {
			return true
		}
	}
	return false
}

func (r *Rule) matchesMessage(m messageFacts) bool {
	if r.Group != "" && r.Group != m.group || !strings.Contains(m.body, r.BodyContains) {
		return false
	}
	for name, value := range r.Attributes {
		if m.attributes[name] != value {
			return false
		}
	}
	return true
}

// failEntries marks the entries that fail. For a request without entries it returns the failure.
func (r *Rule) failEntries(c *call) *apiError {
	for _, m := range c.messages {
		if !r.matchesMessage(m) {
			continue
		}
		e := r.refusal(c)
		if m.id == "" {
			return e
		}
		c.failing[m.id] = e
	}
	return nil
}

// faultAction gives SES's requests the names of its actions.
func (c *call) faultAction() string {
	if c.action == http.MethodPost+" "+pathOutbound {
		return "SendEmail"
	}
	return c.action
}

func (c *call) concerns(resource string) bool {
	for _, r := range c.resources {
		if r == resource || lastPart(r, ":") == resource || lastPart(r, "/") == resource {
			return true
		}
	}
	return false
}

// refusal is the error that a rule answers with.
func (r *Rule) refusal(c *call) *apiError {
	e := &apiError{status: http.StatusBadRequest, message: "This failure was asked for."}
	switch r.Effect {
	case Throttle:
		e.code, e.message = throttleCode(c.service), "Rate exceeded"
		if c.service != serviceSQS {
			e.status = http.StatusTooManyRequests
		}
	case InternalError:
		e.code, e.status, e.fault = internalCode(c.service, r.Status), http.StatusInternalServerError, true
	case FailEntries, Refuse:
		e.code, e.fault = "InvalidParameter", !r.SenderFault
		if e.fault {
			e.code, e.status = "InternalError", http.StatusInternalServerError
		}
	}
	if r.Code != "" {
		e.code = r.Code
	}
	if r.Message != "" {
		e.message = r.Message
	}
	if r.Status != 0 {
		e.status = r.Status
	}
	return e
}

func throttleCode(service string) string {
	switch service {
	case serviceSNS:
		return "Throttled"
	case serviceSQS:
		return "RequestThrottled"
	case serviceSES:
		return "TooManyRequestsException"
	}
	return "ThrottlingException"
}

func internalCode(service string, status int) string {
	switch {
	case status == http.StatusServiceUnavailable:
		return "ServiceUnavailable"
	case service == serviceSES:
		return "InternalServiceErrorException"
	case service == serviceSQS:
		return "InternalFailure"
	}
	return "InternalError"
}

// readFacts finds out what rules may match on: the resources and the messages of a request.
func (c *call) readFacts() {
	switch {
	case c.service == serviceSES:
		c.messages = []messageFacts{{body: string(c.body)}}
	case c.json || c.service == serviceSQS:
		c.readSQSFacts()
	default:
		c.readSNSFacts()
	}
}

func (c *call) readSNSFacts() {
	for _, name := range []string{"TopicArn", "TargetArn", "SubscriptionArn", "ResourceArn", "Endpoint", "Name"} {
		if value := c.form.get(name); value != "" {
			c.resources = append(c.resources, value)
		}
	}
	entries, err := c.form.at("PublishBatchRequestEntries", "member").list()
	if err != nil {
		return // the action will refuse it
	}
	if c.action == "Publish" {
		entries = []*form{c.form}
	}
	for _, e := range entries {
		p, _ := readPublication(e)
		c.messages = append(c.messages, messageFacts{id: p.entryID, group: p.group, body: p.message, attributes: p.attributes.texts()})
	}
}

func (c *call) readSQSFacts() {
	var in struct {
		QueueUrl, QueueName, SourceArn string
		sendFields
		Entries []sendEntry `query:"SendMessageBatchRequestEntry"`
	}
	if c.json {
		if json.Unmarshal(c.body, &in) != nil {
			return // the action will refuse it
		}
	} else if c.decodeSQS(&in) != nil {
		return
	}
	c.resources = []string{in.QueueUrl, in.QueueName, in.SourceArn}
	if c.action == "SendMessage" {
		in.Entries = []sendEntry{{sendFields: in.sendFields}}
	}
	for _, e := range in.Entries {
		c.messages = append(c.messages, messageFacts{id: e.Id, group: e.MessageGroupId, body: e.body(), attributes: fromWire(e.MessageAttributes).texts()})
	}
}

func (as attributes) texts() map[string]string {
	out := make(map[string]string, len(as))
	for name, a := range as {
		out[name] = a.text
	}
	return out
}
