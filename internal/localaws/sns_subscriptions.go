package localaws

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// subscription sends what a topic gets to one SQS queue.
type subscription struct {
	arn        string
	topic      *topic
	endpoint   string            // ARN of the queue
	attributes map[string]string // as set
	raw        bool
	filter     *filter // nil: everything
	deadLetter string  // ARN of the queue for what cannot be delivered
}

func (s *Server) subscribe(_ *call, f *form) (formReply, error) {
	asked, err := f.at("Attributes", "entry").textMap("key", "value")
	if err != nil {
		return nil, invalidParameter("Attributes: %s", err)
	}
	endpoint := f.get("Endpoint")
	if protocol := f.get("Protocol"); protocol != "sqs" {
		return nil, invalidParameter("Protocol Reason: only sqs can be subscribed here, not %q", clip(protocol))
	}
	if !strings.HasPrefix(endpoint, "arn:aws:sqs:") || strings.Count(endpoint, ":") != 5 {
		return nil, invalidParameter("SQS endpoint ARN")
	}
	t, err := s.lockedTopic(f.get("TopicArn"))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if isFIFO(endpoint) && !t.fifo {
		return nil, invalidParameter("Invalid parameter: Endpoint Reason: FIFO SQS Queues can not be subscribed to standard SNS topics")
	}
	sub := &subscription{arn: t.arn + ":" + uuid.NewString(), topic: t, endpoint: endpoint}
	if err := s.configure(sub, asked); err != nil {
		return nil, err
	}
	if sub, err = t.add(sub); err != nil {
		return nil, err
	}
	s.subscriptions[sub.arn] = sub
	return func(w *xmlWriter) { w.text("SubscriptionArn", sub.arn) }, nil
}

// add returns the subscription that the endpoint has already, if it has the same attributes.
func (t *topic) add(sub *subscription) (*subscription, error) {
	for _, old := range t.subscriptions {
		if old.endpoint != sub.endpoint {
			continue
		}
		if len(sub.attributes) > 0 && !maps.Equal(old.effective(), sub.effective()) {
			return nil, invalidParameter("Attributes Reason: Subscription already exists with different attributes")
		}
		return old, nil
	}
	t.subscriptions = append(t.subscriptions, sub)
	return sub, nil
}

// configure replaces the attributes, all or none.
func (s *Server) configure(sub *subscription, asked map[string]string) error {
	next := subscription{attributes: maps.Clone(asked)}
	if next.attributes == nil {
		next.attributes = make(map[string]string)
	}
	scope := scopeAttributes
	if given, ok := asked["FilterPolicyScope"]; ok {
		scope = given
	}
	for _, name := range sortedKeys(asked) {
		value := asked[name]
		var err error
		switch name {
		case "RawMessageDelivery":
			if next.raw = value == "true"; !next.raw && value != "false" {
				err = invalidParameter("Attributes Reason: RawMessageDelivery: Invalid value [%s]. Must be true or false.", clip(value))
			}
		case "FilterPolicyScope":
			if !oneOf(value, scopeAttributes, scopeBody) {
				err = invalidParameter("FilterPolicyScope: Invalid value [%s]. Please use either MessageBody or MessageAttributes", clip(value))
			}
		case "FilterPolicy":
			next.filter, err = filterOf(value, scope)
		case "RedrivePolicy":
			next.deadLetter, err = s.subscriptionDLQ(value, sub.topic.fifo)
		default:
			err = invalidParameter("AttributeName")
		}
		if err != nil {
			return err
		}
	}
	sub.attributes, sub.raw, sub.filter, sub.deadLetter = next.attributes, next.raw, next.filter, next.deadLetter
	return nil
}

func filterOf(raw, scope string) (*filter, error) {
	if raw == "" {
		return nil, nil
	}
	parsed, err := parseFilter(raw, scope)
	if err != nil {
		return nil, invalidParameter("FilterPolicy: %s", err)
	}
	return parsed, nil
}

func (s *Server) subscriptionDLQ(raw string, fifo bool) (string, error) {
	if raw == "" {
		return "", nil
	}
	var doc struct {
		Target string `json:"deadLetterTargetArn"`
	}
	if json.Unmarshal([]byte(raw), &doc) != nil || !strings.HasPrefix(doc.Target, "arn:aws:sqs:") {
		return "", invalidParameter("RedrivePolicy: deadLetterTargetArn is an invalid arn")
	}
	if isFIFO(doc.Target) != fifo {
		return "", invalidParameter("RedrivePolicy: the dead-letter queue must be of the same type as the topic")
	}
	if s.queueByARN(doc.Target) == nil {
		return "", invalidParameter("RedrivePolicy: deadLetterTargetArn does not exist")
	}
	return doc.Target, nil
}

// effective are the attributes with their defaults.
func (sub *subscription) effective() map[string]string {
	all := map[string]string{"RawMessageDelivery": "false"}
	if sub.filter != nil {
		all["FilterPolicyScope"] = scopeAttributes
	}
	for name, value := range sub.attributes {
		if value != "" {
			all[name] = value
		}
	}
	return all
}

func (s *Server) lockedSubscription(arn string) (*subscription, error) {
	if !strings.HasPrefix(arn, "arn:aws:sns:") || strings.Count(arn, ":") != 6 {
		return nil, invalidParameter("SubscriptionArn Reason: An ARN must have at least 6 elements, not %q", clip(arn))
	}
	s.mu.Lock()
	sub := s.subscriptions[arn]
	if sub == nil {
		s.mu.Unlock()
		return nil, notFound("Subscription")
	}
	return sub, nil
}

func (s *Server) unsubscribe(_ *call, f *form) (formReply, error) {
	sub, err := s.lockedSubscription(f.get("SubscriptionArn"))
	if codeOf(err) == "NotFound" {
		return nil, nil // unsubscribing what is gone succeeds
	}
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	delete(s.subscriptions, sub.arn)
	t := sub.topic
	t.subscriptions = slices.DeleteFunc(t.subscriptions, func(other *subscription) bool { return other == sub })
	return nil, nil
}

func (s *Server) getSubscriptionAttributes(_ *call, f *form) (formReply, error) {
	sub, err := s.lockedSubscription(f.get("SubscriptionArn"))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	all := sub.effective()
	maps.Copy(all, map[string]string{
		"SubscriptionArn": sub.arn, "TopicArn": sub.topic.arn, "Endpoint": sub.endpoint, "Protocol": "sqs", "Owner": accountID,
		"PendingConfirmation": "false", "ConfirmationWasAuthenticated": "true", "SubscriptionPrincipal": "arn:aws:iam::" + accountID + ":root",
	})
	return func(w *xmlWriter) { w.textMap("Attributes", all) }, nil
}

func (s *Server) setSubscriptionAttributes(_ *call, f *form) (formReply, error) {
	sub, err := s.lockedSubscription(f.get("SubscriptionArn"))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	asked := maps.Clone(sub.attributes)
	name, value := f.get("AttributeName"), f.get("AttributeValue")
	asked[name] = value
	if value == "" && oneOf(name, "FilterPolicy", "RedrivePolicy") {
		delete(asked, name)
	}
	return nil, s.configure(sub, asked)
}

func (s *Server) listSubscriptions(_ *call, f *form) (formReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*subscription
	for _, arn := range sortedKeys(s.topics) {
		all = append(all, s.topics[arn].subscriptions...)
	}
	return subscriptionPage(all, f.get("NextToken"))
}

func (s *Server) listSubscriptionsByTopic(_ *call, f *form) (formReply, error) {
	t, err := s.lockedTopic(f.get("TopicArn"))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return subscriptionPage(slices.Clone(t.subscriptions), f.get("NextToken"))
}

func subscriptionPage(all []*subscription, token string) (formReply, error) {
	subs, next, err := page(all, token, snsPageSize)
	if err != nil {
		return nil, invalidParameter("NextToken")
	}
	return func(w *xmlWriter) {
		w.inside("Subscriptions", func() {
			for _, sub := range subs {
				w.inside("member", func() {
					w.text("TopicArn", sub.topic.arn)
					w.text("Protocol", "sqs")
					w.text("SubscriptionArn", sub.arn)
					w.text("Owner", accountID)
					w.text("Endpoint", sub.endpoint)
				})
			}
		})
		w.nextToken(next)
	}, nil
}
