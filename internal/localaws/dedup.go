package localaws

import "time"

// dedupPeriod is how long SNS and SQS remember a deduplication id.
const dedupPeriod = 5 * time.Minute

// accepted is what the first send of a deduplication id was answered, and so what its repeats are answered.
type accepted struct {
	messageID string
	sequence  uint64
}

// dedupWindow remembers deduplication ids for dedupPeriod after the first send. It knows nothing of the messages:
// deleting one does not make its id usable again.
type dedupWindow struct {
	seen  map[string]accepted
	order []dedupMark // oldest first
}

type dedupMark struct {
	key   string
	until time.Time
}

func (w *dedupWindow) lookup(now time.Time, key string) (accepted, bool) {
	w.forget(now)
	first, ok := w.seen[key]
	return first, ok
}

func (w *dedupWindow) remember(now time.Time, key string, first accepted) {
	if w.seen == nil {
		w.seen = make(map[string]accepted)
	}
	w.seen[key] = first
	w.order = append(w.order, dedupMark{key: key, until: now.Add(dedupPeriod)})
}

func (w *dedupWindow) forget(now time.Time) {
	n := 0
	for n < len(w.order) && !w.order[n].until.After(now) {
		delete(w.seen, w.order[n].key)
		n++
	}
	w.order = w.order[n:]
}

// dedupKey scopes a deduplication id to its message group where the topic or queue is set so.
func dedupKey(id, group string, perGroup bool) string {
	if perGroup {
		return group + "\x00" + id
	}
	return id
}
