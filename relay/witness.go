package relay

import "time"

// trouble is what is known of the failures of one entry.
type trouble struct {
	// rejectedIn is the first call that was rejected whole with it alone, 0 if none was.
	rejectedIn uint64
	failedIn   uint64    // the newest call in which it failed, 0 if in none
	first      time.Time // when it failed first
	suspect    time.Time // since when it fails while others do not; zero: that is not known
	refused    time.Time // since when the publisher answers and refuses it; zero: it did not answer the last time
	whole      int       // calls in a row that failed as a whole with it
	alone      bool      // it is to go in a call of its own
	parks      bool      // it has parked its group
}

func (e *entry) troubled() *trouble {
	if e.trouble == nil {
		e.trouble = &trouble{}
	}
	return e.trouble
}

func (e *entry) alone() bool { return e.trouble != nil && e.trouble.alone }

func (e *entry) suspected() bool { return e.trouble != nil && !e.trouble.suspect.IsZero() }

// noteRefusal takes one more failure: whether the publisher answered, and refused the entry,
// or was out of reach or short of breath.
func (t *trouble) noteRefusal(now time.Time, answered bool) {
	switch {
	case !answered:
		t.refused = time.Time{}
	case t.refused.IsZero():
		t.refused = now
	}
}

// refusedFor tells whether it was refused, and nothing but that, for so long.
func (t *trouble) refusedFor(hold time.Duration, now time.Time) bool {
	return !t.refused.IsZero() && now.Sub(t.refused) >= hold
}

func (e *entry) parksGroup() bool { return e.trouble != nil && e.trouble.parks }

// witness remembers how calls went for others: that tells an entry that is refused
// from an outage. It is pure and for one goroutine. Calls are numbered from 1 in
// the order in which they began.
type witness struct {
	accepted uint64 // the newest call of which something was accepted
	failed   uint64 // the newest call in which something failed that was not suspected
}

// saw notes the entries that failed in a call. All of a call's are noted before
// one is judged.
func (w *witness) saw(call uint64, failed []failure) {
	for _, f := range failed {
		if !f.entry.suspected() {
			w.failed = max(w.failed, call)
		}
	}
}

// judge takes one more failure of an entry, and tells whether it has failed for
// hold while others did not. Since its last failure, or in the same call,
// something of others must have been accepted: that is evidence, and the time runs
// from the first of it. Where instead others failed too, the time begins anew.
// Where nobody else was tried it runs on, but does not run out; only when stuck,
// because the entries that fail leave no room for others to be tried, it does.
func (w *witness) judge(e *entry, call uint64, now time.Time, hold time.Duration, stuck bool) bool {
	t := e.troubled()
	evidence := w.accepted >= call || t.failedIn != 0 && w.accepted > t.failedIn
	outage := !evidence && w.failed > t.failedIn
	if t.first.IsZero() {
		t.first = now
	}
	switch {
	case outage:
		t.suspect = time.Time{}
	case evidence && t.suspect.IsZero():
		t.suspect = now
	}
	t.failedIn = call
	return e.suspected() && now.Sub(t.suspect) >= hold && (evidence || stuck && !outage)
}
