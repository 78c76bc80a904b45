package api

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxKey is the most characters of an idempotency key.
const maxKey = 255

// key is the Idempotency-Key of a request.
// https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
type key struct {
	scope       string // the customer, empty where there is none
	text        string
	fingerprint [sha256.Size]byte
}

// keyName is what a key is known by.
type keyName struct{ scope, text string }

// keptAnswer is an answer as it is kept under a key.
type keptAnswer struct {
	status int
	locale locale
	body   string
}

// readKey reads the header, empty where there is none. The draft has the key in
// quotes, as a structured string; most clients send it bare. Both name the same.
func readKey(r *http.Request) (string, error) {
	values := r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	k, ok := parseKey(values[0])
	switch {
	case len(values) > 1:
		return "", malformedKey(sayKey, maxKey)
	case !ok && strings.HasPrefix(values[0], `"`):
		return "", malformedKey(sayKeyQuotes)
	case !ok:
		return "", malformedKey(sayKeyText)
	case k == "" || utf8.RuneCountInString(k) > maxKey:
		return "", malformedKey(sayKey, maxKey)
	}
	return k, nil
}

func parseKey(s string) (string, bool) {
	if inner, quoted := strings.CutPrefix(s, `"`); quoted {
		return unquoteKey(inner)
	}
	return s, utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// unquoteKey reads what follows the opening quote of a structured string, to its end.
// https://www.rfc-editor.org/rfc/rfc8941.html#section-3.3.3
func unquoteKey(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch == '"':
			return b.String(), i == len(s)-1
		case ch < ' ' || ch > '~':
			return "", false
		case ch == '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
			fallthrough
		default:
			b.WriteByte(s[i])
		}
	}
	return "", false
}

// fingerprint tells one request from another: what is asked, not how it is written.
func (r checkoutRequest) fingerprint() [sha256.Size]byte {
	type asked struct {
		SKU      string
		Quantity int
	}
	var lines []asked
	for _, l := range r.lines {
		lines = append(lines, asked{l.sku, l.quantity})
	}
	slices.SortFunc(lines, func(a, b asked) int { return cmp.Compare(a.SKU, b.SKU) })
	text, _ := json.Marshal([]any{"POST", "/checkout", r.customer, r.itemised, lines}) // of plain values: always encodes
	return sha256.Sum256(text)
}

// buyOnce is buy for a request with a key: whatever is decided is kept, and is the
// answer from then on.
func (a *API) buyOnce(c *call, k string, p *purchase) (any, string, error) {
	p.key = &key{scope: p.customer, text: k, fingerprint: p.fingerprint()}
	answer, outcome, err := a.decideOnce(c, p)
	label := "new"
	var refused *problem
	switch {
	case outcome == outcomeRepeated:
		label = outcomeRepeated
	case errors.As(err, &refused) && (refused.kind == kindKeyReused || refused.kind == kindInProgress):
		label = refused.kind
	}
	a.metrics.keys.WithLabelValues(label).Inc()
	if refused != nil && refused.kind == kindInProgress {
		c.w.Header().Set("Retry-After", retryAfterInProgress)
	}
	return answer, outcome, err
}

func (a *API) decideOnce(c *call, p *purchase) (any, string, error) {
	// What this process is deciding is not worth a place in the queue.
	name := keyName{p.key.scope, p.key.text}
	if _, running := a.keysInHand.LoadOrStore(name, true); running {
		return nil, "", requestInProgress()
	}
	defer a.keysInHand.Delete(name)
	d, err := a.committer.checkout(c.r.Context(), p)
	if err != nil {
		return nil, "", err
	}
	if d.answer == nil {
		answer, err := p.say(d)
		return answer, outcomeBought, err
	}
	outcome := outcomeBought
	switch d.outcome {
	case decidedRepeated:
		outcome = outcomeRepeated
		c.ids = nil // those of an order that is not made
		c.w.Header().Set("Idempotent-Replayed", "true")
	case decidedShort:
		c.aboutShort(d)
	}
	c.locale = d.answer.locale
	answer, err := d.answer.say()
	return answer, outcome, err
}

// answer is what d means for p, as the bytes that are sent and kept.
func (p *purchase) answer(d decision) *keptAnswer {
	kept := &keptAnswer{status: http.StatusOK, locale: p.locale}
	said, err := p.say(d)
	if err != nil {
		refusal := asProblem(err)
		kept.status = refusal.status
		said = refusal.body(p.locale, p.trace.traceID())
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(said); err != nil {
		panic(err) // every body is a struct of plain values
	}
	kept.body = strings.TrimSuffix(b.String(), "\n") // which is written after every body
	return kept
}

// say is the answer byte for byte.
func (k *keptAnswer) say() (any, error) {
	if k.status == http.StatusOK {
		return json.RawMessage(k.body), nil
	}
	return nil, &problem{status: k.status, kind: kindOutOfStock, kept: json.RawMessage(k.body)}
}
