package ops

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/restock-dev/restock/schema"
)

// ReplaySelection says which events are meant: those that meet all that is given. As
// JSON it is kept with the replay.
type ReplaySelection struct {
	Events []uuid.UUID `json:"events,omitempty"`
	// IDs has an id on each line, as many as it likes; IDsFile is its name.
	IDs      io.Reader  `json:"-"`
	IDsFile  string     `json:"idsFile,omitempty"`
	Since    *time.Time `json:"since,omitempty"`
	Until    *time.Time `json:"until,omitempty"` // not included
	Types    []string   `json:"types,omitempty"`
	Groups   []string   `json:"groups,omitempty"`
	SKU      string     `json:"sku,omitempty"`
	Customer string     `json:"customer,omitempty"`
	Order    string     `json:"order,omitempty"`
	// Without one of these, events are meant that are published.
	Parked      bool   `json:"parked,omitempty"`      // that are parked, but not with their whole group
	Unpublished bool   `json:"unpublished,omitempty"` // that the ledger does not know
	Unhandled   string `json:"unhandled,omitempty"`   // that are published and that this consumer has not handled
	// SkipMissing leaves out events that are named and cannot be replayed.
	SkipMissing bool `json:"skipMissing,omitempty"`
}

// ErrSelection is that a selection means nothing, or what cannot be.
var ErrSelection = errors.New("this cannot be selected")

// Validate tells what is wrong with a selection.
func (s ReplaySelection) Validate() error {
	kinds := 0
	for _, given := range []bool{s.Parked, s.Unpublished, s.Unhandled != ""} {
		if given {
			kinds++
		}
	}
	anything := kinds > 0 || len(s.Events) > 0 || s.IDs != nil || s.Since != nil || s.Until != nil || len(s.Types) > 0 || len(s.Groups) > 0 ||
		s.SKU != "" || s.Customer != "" || s.Order != ""
	switch {
	case !anything:
		return fmt.Errorf("%w: say which events: ids, a file of ids, a time range, a type, a group, a SKU, a customer, an order, or those that are parked, unpublished or unhandled", ErrSelection)
	case kinds > 1:
		return fmt.Errorf("%w: parked, unpublished and unhandled exclude each other", ErrSelection)
	case s.Since != nil && s.Until != nil && !s.Since.Before(*s.Until):
		return fmt.Errorf("%w: the time range runs backwards: since %s is not before until %s", ErrSelection, s.Since.Format(time.RFC3339), s.Until.Format(time.RFC3339))
	}
	for _, t := range s.Types {
		if !slices.Contains(schema.Types(), t) {
			return fmt.Errorf("%w: no event type is called %q: there are %s", ErrSelection, t, strings.Join(schema.Types(), ", "))
		}
	}
	return nil
}

// status is the one of an event, as chooseSQL names it, that is meant.
func (s ReplaySelection) status() string {
	switch {
	case s.Parked:
		return "parked"
	case s.Unpublished:
		return "unpublished"
	}
	return "published"
}

// conditions are those on the outbox, o, with their arguments, which begin with the
// first.
func (s ReplaySelection) conditions(only []schema.Interest) (sql string, args []any) {
	all := []string{"true"}
	add := func(condition string, arg any) {
		args = append(args, arg)
		all = append(all, fmt.Sprintf(condition, len(args)))
	}
	if len(s.Events) > 0 || s.IDs != nil {
		all = append(all, "o.id IN (SELECT id FROM replay_ids)")
	}
	if s.Since != nil {
		add("o.created_at >= $%d", *s.Since)
		add("o.day >= $%d::date", utcDay(*s.Since))
	}
	if s.Until != nil {
		add("o.created_at < $%d", *s.Until)
		add("o.day <= $%d::date", utcDay(*s.Until))
	}
	if len(s.Types) > 0 {
		add("o.type = ANY($%d::text[])", s.Types)
	}
	if len(s.Groups) > 0 {
		add("o.message_group = ANY($%d::text[])", s.Groups)
	}
	// The body is text as its writer encoded it, and within a text of its own no quote
	// is bare.
	for name, value := range map[string]string{"sku": s.SKU, "customerId": s.Customer, "orderId": s.Order} {
		if value != "" {
			quoted, _ := json.Marshal(value) // a text always encodes
			add("strpos(o.body, $%d::text) > 0", `"`+name+`":`+string(quoted))
		}
	}
	for _, in := range only {
		all = append(all, in.SQL())
	}
	if s.Unhandled != "" {
		all = append(all, "NOT EXISTS (SELECT FROM replay_handled h WHERE h.day = o.day AND h.event_id = o.id)")
	}
	return strings.Join(all, " AND "), args
}

// idReader reads ids line by line, as rows for COPY. Empty lines are left out.
type idReader struct {
	first []uuid.UUID // before those of the lines
	lines *bufio.Scanner
	name  string
	line  int
	id    uuid.UUID
	err   error
}

// maxIDLine is more than an id takes in any form.
const maxIDLine = 256

func (s ReplaySelection) ids() *idReader {
	from := s.IDs
	if from == nil {
		from = strings.NewReader("")
	}
	r := &idReader{first: s.Events, lines: bufio.NewScanner(from), name: s.IDsFile}
	r.lines.Buffer(make([]byte, maxIDLine), maxIDLine)
	return r
}

// Next implements pgx.CopyFromSource.
func (r *idReader) Next() bool {
	if len(r.first) > 0 {
		r.id, r.first = r.first[0], r.first[1:]
		return true
	}
	for r.lines.Scan() {
		r.line++
		text := bytes.TrimSpace(r.lines.Bytes())
		if len(text) == 0 {
			continue
		}
		if r.id, r.err = uuid.ParseBytes(text); r.err != nil {
			r.err = fmt.Errorf("%w: line %d of %s is not an event id: %.40q", ErrSelection, r.line, r.name, text)
		}
		return r.err == nil
	}
	switch err := r.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		r.err = fmt.Errorf("%w: line %d of %s is not an event id: it is far too long", ErrSelection, r.line+1, r.name)
	case err != nil:
		r.err = fmt.Errorf("read %s: %w", r.name, err)
	}
	return false
}

// Values implements pgx.CopyFromSource.
func (r *idReader) Values() ([]any, error) { return []any{r.id}, nil }

// Err implements pgx.CopyFromSource.
func (r *idReader) Err() error { return r.err }
