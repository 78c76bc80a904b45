package localaws

import "time"

// attempts remembers for dedupPeriod what receives with a ReceiveRequestAttemptId were given, so that one whose
// answer was lost can be repeated.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html#API_ReceiveMessage_RequestParameters
type attempts struct {
	given map[string][]given
	order []dedupMark // oldest first
}

// given is one message of an answer, as it was then.
type given struct {
	message *message
	receipt uint64
	due     time.Time
}

func (a *attempts) remember(now time.Time, id string, messages []*message) {
	a.forget(now)
	if id == "" || len(messages) == 0 {
		return
	}
	if a.given == nil {
		a.given = make(map[string][]given)
	}
	all := make([]given, len(messages))
	for i, m := range messages {
		all[i] = given{m, m.receipt, m.due}
	}
	a.given[id] = all
	a.order = append(a.order, dedupMark{key: id, until: now.Add(dedupPeriod)})
}

// repeat returns what the receive of that id was given, if all of it is in flight still and was neither deleted nor
// given another visibility.
func (a *attempts) repeat(now time.Time, id string) []*message {
	a.forget(now)
	var messages []*message
	for _, g := range a.given[id] {
		if !g.message.inFlight || g.message.receipt != g.receipt || !g.message.due.Equal(g.due) {
			return nil
		}
		messages = append(messages, g.message)
	}
	return messages
}

func (a *attempts) forget(now time.Time) {
	n := 0
	for n < len(a.order) && !a.order[n].until.After(now) {
		delete(a.given, a.order[n].key)
		n++
	}
	a.order = a.order[n:]
}
