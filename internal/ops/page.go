package ops

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// Bounds of what a list gives at once.
const (
	DefaultPage = 200
	MaxPage     = 1000
)

// Cursor says which part of a list is wanted.
type Cursor struct {
	// Most is how many to give, 1 to MaxPage. Default DefaultPage.
	Most int
	// After is the Next of the part before. Empty is the beginning.
	After string
}

// ErrCursor is that a Cursor means nothing.
var ErrCursor = fmt.Errorf("a list is given in parts of 1 to %d, and goes on after the next that came with the part before", MaxPage)

// read checks c and takes it apart. What After means stays as it is where there is none.
func (c *Cursor) read(after ...any) error {
	if c.Most == 0 {
		c.Most = DefaultPage
	}
	if c.Most < 1 || c.Most > MaxPage {
		return ErrCursor
	}
	if c.After == "" {
		return nil
	}
	text, err := base64.RawURLEncoding.DecodeString(c.After)
	if err != nil {
		return ErrCursor
	}
	var parts []json.RawMessage
	if json.Unmarshal(text, &parts) != nil || len(parts) != len(after) {
		return ErrCursor
	}
	for i, into := range after {
		if json.Unmarshal(parts[i], into) != nil {
			return ErrCursor
		}
	}
	return nil
}

// Page is a part of a list.
type Page[T any] struct {
	Items []T `json:"items"`
	// Next is where the list goes on, empty at its end.
	Next string `json:"next,omitempty"`
}

// pageOf makes a Page of one item more than fit, if there is one. key tells where an item
// stands, in what Cursor.read is given.
func pageOf[T any](items []T, most int, key func(T) []any) Page[T] {
	p := Page[T]{Items: items}
	if items == nil {
		p.Items = []T{} // in JSON, too
	}
	if len(items) > most {
		p.Items = items[:most]
		text, err := json.Marshal(key(items[most-1]))
		if err != nil {
			panic(err) // times, numbers, texts and ids always encode
		}
		p.Next = base64.RawURLEncoding.EncodeToString(text)
	}
	return p
}
