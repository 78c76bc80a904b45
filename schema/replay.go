package schema

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// ReplayAttribute is the message attribute that says that a message is one of a
// replay. Its value is a Replay's text.
const ReplayAttribute = "replay"

// Replay is why an event is published once more. The zero value is none.
type Replay struct {
	ID uuid.UUID
	// Consumer is the only one to handle the event; empty is all that want it.
	Consumer string
	// Force has a consumer handle the event although its inbox says that it did.
	Force bool
}

// String is the value of the message attribute: the id, and then what differs from
// a plain replay, as in 0193…;consumer=factory;force. It has no white space, which
// some consumers strip.
func (r Replay) String() string {
	s := r.ID.String()
	if r.Consumer != "" {
		s += ";consumer=" + r.Consumer
	}
	if r.Force {
		s += ";force"
	}
	return s
}

// ParseReplay reads what String made. What it does not know it refuses: it might be
// a reason not to handle the event.
func ParseReplay(s string) (Replay, error) {
	parts := strings.Split(s, ";")
	id, err := uuid.Parse(parts[0])
	r := Replay{ID: id}
	if err != nil || id == uuid.Nil {
		return Replay{}, fmt.Errorf("%q does not begin with the id of a replay", s)
	}
	for _, part := range parts[1:] {
		name, isConsumer := strings.CutPrefix(part, "consumer=")
		switch {
		case part == "force":
			r.Force = true
		case isConsumer && name != "":
			r.Consumer = name
		default:
			return r, fmt.Errorf("%q is not known of a replay", part)
		}
	}
	return r, nil
}
