package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/google/uuid"

	"github.com/restock-dev/restock/schema"
)

// ErrNotDead is that an event is in no dead-letter queue.
var ErrNotDead = errors.New("in no dead-letter queue")

// Dossier is all that is known of one dead event of one consumer.
type Dossier struct {
	DeadEvent
	// Message is the body as received, but for the signature of a callback. Of a
	// hidden event it is the outbox's, and empty where that has it no more.
	Message    string            `json:"message"`
	Attributes map[string]string `json:"attributes"`
	// Event is the event in the message, out of the SNS envelope and indented. It is
	// empty where the message is not JSON.
	Event   string   `json:"-"`
	Effects []Effect `json:"effects"`
}

// Show tells all that is known of an event in the dead-letter queues, for each
// consumer that has it there. It is ErrNotDead where none has.
func (d *DLQ) Show(ctx context.Context, event uuid.UUID) ([]Dossier, error) {
	each, err := inParallel(d.consumers, func(c *consumer) ([]Dossier, error) { return d.show(ctx, c, event) })
	if err != nil {
		return nil, fmt.Errorf("show event %s of %w", event, err)
	}
	all := slices.Concat(each...)
	if len(all) == 0 && len(d.cfg.unreachable) > 0 {
		return nil, fmt.Errorf("event %s is not among what can be looked at: %w", event, &UnreachableError{d.cfg.unreachable})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("event %s is %w", event, ErrNotDead)
	}
	return all, nil
}

func (d *DLQ) show(ctx context.Context, c *consumer, event uuid.UUID) ([]Dossier, error) {
	w := newWalk(d, c)
	defer w.putBack()
	var found []*letter
	index := make(map[identity]int)
	var all []Dossier
	err := w.all(ctx, func(l *letter) {
		if l.event != event {
			l.forget()
			return
		}
		if i, again := index[l.identity]; again {
			all[i].Messages++
			return
		}
		index[l.identity], found = len(all), append(found, l)
		all = append(all, Dossier{DeadEvent: l.describe(c, nil), Message: l.body, Attributes: texts(l.attributes)})
	})
	if err != nil {
		return nil, err
	}
	newest, err := c.newestDone(ctx, found)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		if all, err = c.showHidden(ctx, event); err != nil {
			return nil, err
		}
		all = slices.DeleteFunc(all, func(e Dossier) bool { return !w.mayHide(e.Group) })
	}
	for i := range all {
		e := &all[i]
		e.noteNewer(newest)
		e.Message = redact(e.Message)
		for name, value := range e.Attributes {
			e.Attributes[name] = redact(value)
		}
		e.Event = readable(e.Message)
		id := identity{event: e.EventID}
		if e.ReplayID != nil {
			id.replay = *e.ReplayID
		}
		if e.Effects, err = c.effects(ctx, id); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// mayHide tells whether a queue may have a message of the group that it did not show:
// what nothing stands in front of, and nobody holds, was purged, or expired.
func (w *walk) mayHide(group string) bool {
	return slices.ContainsFunc(w.letters, func(l *letter) bool { return l.group == group }) ||
		slices.ContainsFunc(w.counts, func(n QueueCount) bool { return n.Held > 0 })
}

// showHidden tells what the databases know of a dead event that no queue showed.
func (c *consumer) showHidden(ctx context.Context, event uuid.UUID) ([]Dossier, error) {
	dead, err := c.dead(ctx, event)
	if err != nil {
		return nil, err
	}
	var all []Dossier
	for _, b := range dead {
		body, err := c.body(ctx, b.day, event)
		if err != nil {
			return nil, err
		}
		all = append(all, Dossier{DeadEvent: b.describe(c, nil), Message: body, Attributes: map[string]string{}})
	}
	return all, nil
}

// readable is a message's event, indented, or nothing where it is not JSON.
func readable(message string) string {
	text, _, wrapped := schema.Unwrap(message)
	if !wrapped {
		text = message
	}
	var b bytes.Buffer
	if json.Indent(&b, []byte(text), "", "  ") != nil {
		return ""
	}
	return b.String()
}

// signature is that of a callback's URL, in JSON or not.
var signature = regexp.MustCompile(`\bsig=[^\s"'&\\]*`)

// redact takes out what lets whoever reads it raise the stock.
func redact(s string) string { return signature.ReplaceAllString(s, "sig=redacted") }
