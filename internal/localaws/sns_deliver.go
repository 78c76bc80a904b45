package localaws

import (
	"strings"
	"time"
)

// delivery is a publication on its way to the topic's subscriptions.
type delivery struct {
	publication
	accepted
	topic *topic
	at    time.Time
	facts *filterFacts // what filters look at, made once
}

// fanOut delivers to every subscription before the publish is answered, under the lock: the order in every queue is the
// order in which publishes were accepted.
func (s *Server) fanOut(t *topic, d *delivery) {
	for _, sub := range t.subscriptions {
		if sub.filter != nil && !sub.filter.matches(d.filterFacts()) {
			s.stats.FilteredOut++
			continue
		}
		if sub.raw && len(d.attributes) > maxAttributes {
			s.stats.RawTooMany++
			s.log.Warn().Str("subscription", sub.arn).Str("messageId", d.messageID).Msg("raw delivery discards a message with more than 10 attributes")
			continue
		}
		s.deliver(sub, d)
	}
}

func (d *delivery) filterFacts() *filterFacts {
	if d.facts == nil {
		d.facts = newFilterFacts(d.attributes, d.forSQS)
	}
	return d.facts
}

func (s *Server) deliver(sub *subscription, d *delivery) {
	m := d.forSubscription(sub, s.url)
	if s.sendTo(sub.endpoint, d, m) {
		return
	}
	s.stats.Refused++
	log := s.log.Warn().Str("subscription", sub.arn).Str("messageId", d.messageID)
	if sub.deadLetter != "" && s.sendTo(sub.deadLetter, d, m) {
		s.stats.DeadLettered++
		log.Msg("delivery refused by the queue or its policy; dead-lettered")
		return
	}
	s.stats.DroppedDelivery++
	log.Msg("delivery refused by the queue or its policy; dropped")
}

// sendTo delivers if the queue is there, takes the size, and its policy lets the topic in.
func (s *Server) sendTo(arn string, d *delivery, m newMessage) bool {
	q := s.queueByARN(arn)
	if q == nil || !q.settings.policy.allowsTopic(d.topic.arn, q.arn) || len(m.body)+m.attributes.size() > q.settings.maxBytes {
		return false
	}
	if !q.fifo {
		m.dedup = ""
	}
	q.send(d.at, m)
	return true
}

func (d *delivery) forSubscription(sub *subscription, endpoint string) newMessage {
	m := newMessage{group: d.group, dedup: d.dedup, sender: "AIDALOCALSNS"}
	if sub.raw {
		m.body, m.attributes = d.forSQS, d.attributes
	} else {
		m.body = d.envelope(sub, endpoint)
	}
	return m
}

// envelope is the JSON that SNS wraps a message in, laid out as SNS does. SNS signs it for standard topics only.
func (d *delivery) envelope(sub *subscription, endpoint string) string {
	var b strings.Builder
	separator := "{\n"
	field := func(name string, value any) {
		b.WriteString(separator + `  "` + name + `" : `)
		b.Write(jsonBody(value))
		separator = ",\n"
	}
	field("Type", "Notification")
	field("MessageId", d.messageID)
	if d.topic.fifo {
		field("SequenceNumber", sequenceString(d.sequence))
	}
	field("TopicArn", d.topic.arn)
	if d.hasSubject {
		field("Subject", d.subject)
	}
	field("Message", d.forSQS)
	field("Timestamp", d.at.UTC().Format("2006-01-02T15:04:05.000Z"))
	if !d.topic.fifo {
		field("SignatureVersion", "1")
		field("Signature", "bm90IHNpZ25lZCBieSBBV1M=")
		field("SigningCertURL", endpoint+"/SimpleNotificationService.pem")
	}
	field("UnsubscribeURL", endpoint+"/?Action=Unsubscribe&SubscriptionArn="+sub.arn)
	if len(d.attributes) > 0 {
		field("MessageAttributes", d.envelopeAttributes())
	}
	b.WriteString("\n}")
	return b.String()
}

func (d *delivery) envelopeAttributes() any {
	type typed struct{ Type, Value string }
	out := make(map[string]typed, len(d.attributes))
	for name, a := range d.attributes {
		out[name] = typed{Type: a.dataType, Value: a.envelopeValue()}
	}
	return out
}
