package ops

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/restock-dev/restock/schema"
)

// letter is one message of a dead-letter queue, held until it is put back or
// deleted.
type letter struct {
	queue           *queue
	messageID       string
	receipt         string
	group           string
	deduplicationID string
	body            string
	attributes      rawAttributes
	sentAt          time.Time // to the dead-letter queue
	receivedAt      time.Time
	size            int // of what is held in memory

	identity
	eventType string    // empty where it cannot be read
	sequence  int64     // 0 where there is none
	day       time.Time // that the inbox row is likely to be under
	row       row       // the inbox row, if there is one
	order     int64     // the place in its group: its sequence, or that of the one before where it has none
	forgotten bool      // without body and attributes
	kept      bool      // died again since it was redriven: not this redrive's any more
}

// since is when the event died, or where nothing tells that, when its message
// came into the queue.
func (l *letter) since() time.Time {
	if l.row.state == stateDead {
		return l.row.updatedAt.UTC()
	}
	return l.sentAt.UTC()
}

// identity is what an event is known by in a consumer's inbox, besides its day.
type identity struct {
	event, replay uuid.UUID
}

// identify reads what a letter is. A worker noted the identity in the
// deduplication id; what came otherwise is read as a consumer reads it. A message
// that tells nothing is known by its own id.
func (l *letter) identify() {
	text, attributes, wrapped := schema.Unwrap(l.body)
	if !wrapped {
		text, attributes = l.body, texts(l.attributes)
	}
	l.size = len(l.body)
	for name, value := range attributes {
		l.size += len(name) + len(value)
	}
	var e struct {
		ID   json.RawMessage `json:"id"`
		Time json.RawMessage `json:"time"`
	}
	_ = json.Unmarshal([]byte(text), &e) // what cannot be read stays empty
	var at time.Time
	if json.Unmarshal(e.ID, &l.event) != nil {
		l.event = uuid.Nil
	}
	if json.Unmarshal(e.Time, &at) != nil || at.IsZero() {
		at = l.sentAt
	}
	l.day = utcDay(at)
	replay, _ := schema.ParseReplay(attributes[schema.ReplayAttribute]) // none is all zeros
	l.replay = replay.ID
	decoded, _ := schema.Decode([]byte(text)) // refused or not, what could be read is in it
	l.eventType, l.sequence = decoded.Type, decoded.Seq()
	if event, replay, ok := schema.ParseDeadLetterID(l.deduplicationID); ok {
		l.event, l.replay = event, replay
	}
	if l.event == uuid.Nil {
		l.event = uuid.NewSHA1(uuid.NameSpaceURL, []byte(l.queue.name()+"/"+l.messageID))
	}
}

// forget drops what takes memory and keeps what says what the letter is.
func (l *letter) forget() { l.body, l.attributes, l.size, l.forgotten = "", nil, 0, true }

func utcDay(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }
