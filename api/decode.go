package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// maxBody bounds the body of any request, in bytes.
const maxBody = 64 << 10

// readBody reads a whole body, bounded.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, bodyTooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, bodyTooSlow()
	case err != nil:
		return nil, malformed(sayCutBody)
	}
	return body, nil
}

// isBlank tells a body of nothing but JSON's white space.
func isBlank(body []byte) bool { return len(bytes.Trim(body, " \t\r\n")) == 0 }

// isJSON tells whether the request says that its body is JSON. Parameters such
// as a charset change nothing.
func isJSON(r *http.Request) bool {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return mediaType == "application/json" && (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter))
}

// object is a JSON object's members by their exact names. It is stricter than
// encoding/json, which ignores case, takes the last of two members of one name
// and mends invalid UTF-8: each of these would let two readers of one request
// see two different requests.
type object map[string]json.RawMessage

// readObject reads a body that is one JSON object and nothing else. Malformed
// is 400; a duplicate name or another kind of value is well-formed and 422.
func readObject(body []byte) (object, error) {
	if !utf8.Valid(body) {
		return nil, malformed(sayNotUTF8)
	}
	if !json.Valid(body) {
		return nil, malformed(sayNotJSON)
	}
	if loneSurrogate.Match(escapedPairs.ReplaceAll(body, nil)) {
		return nil, malformed(sayNotUTF8)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, invalid("", sayNotObject)
	}
	o := object{}
	for dec.More() {
		name, value, err := readMember(dec)
		if err != nil {
			return nil, malformed(sayNotJSON)
		}
		if _, twice := o[name]; twice {
			return nil, invalidField(name, sayTwice)
		}
		o[name] = value
	}
	return o, nil
}

// In valid JSON a backslash stands only in strings. Once escaped backslashes
// and surrogate pairs are taken out, any surrogate escape left stands alone and
// is no character.
var (
	escapedPairs  = regexp.MustCompile(`\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}`)
	loneSurrogate = regexp.MustCompile(`\\u[dD][89a-fA-F]`)
)

func readMember(dec *json.Decoder) (string, json.RawMessage, error) {
	name, err := dec.Token()
	if err != nil {
		return "", nil, err
	}
	var value json.RawMessage
	err = dec.Decode(&value)
	s, _ := name.(string)
	return s, value, err
}

// only refuses members of other names, so that a client's mistyped field is
// never taken for a wish for the default.
func (o object) only(names ...string) error {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(names, name) {
			return invalidField(name, sayUnknownField)
		}
	}
	return nil
}

var integerText = regexp.MustCompile(`^-?[0-9]+$`)

// integer reads a member that is a JSON integer from lowest to highest, written
// as one: 1.0 and 1e3 are refused. Absent is def.
func (o object) integer(name string, def, lowest, highest int) (int, error) {
	raw, ok := o[name]
	if !ok {
		return def, nil
	}
	n, err := strconv.Atoi(string(raw))
	if !integerText.Match(raw) || err != nil || n < lowest || n > highest {
		return 0, invalidField(name, sayNotInteger, lowest, highest)
	}
	return n, nil
}

// list reads a member that is an array of fewest to most elements.
func (o object) list(name string, fewest, most int) ([]json.RawMessage, error) {
	var all []json.RawMessage
	// null decodes into a list without an error.
	if o[name][0] != '[' || json.Unmarshal(o[name], &all) != nil || len(all) < fewest || len(all) > most {
		return nil, invalidField(name, sayNotList, fewest, most)
	}
	return all, nil
}

// text reads a member that is a string. Absent is "" and false.
func (o object) text(name string) (string, bool, error) {
	raw, ok := o[name]
	if !ok {
		return "", false, nil
	}
	var s string
	// null decodes into a string without an error.
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false, invalidField(name, sayNotString)
	}
	return s, true, nil
}

// needed is text that must be there.
func (o object) needed(name string) (string, error) {
	s, given, err := o.text(name)
	if err == nil && !given {
		err = invalidField(name, sayMissing)
	}
	return s, err
}

// Limits on ids, the store's own.
const (
	maxSKU      = 64  // bytes
	maxCustomer = 128 // characters
)

func checkSKU(field, sku string) error {
	if sku == "" || len(sku) > maxSKU {
		return invalidField(field, sayBytes, maxSKU)
	}
	return checkText(field, sku)
}

func checkCustomer(field, id string) error {
	if id == "" || utf8.RuneCountInString(id) > maxCustomer {
		return invalidField(field, sayCharacters, maxCustomer)
	}
	return checkText(field, id)
}

// checkText refuses what a text column or an SNS attribute would not take.
func checkText(field, s string) error {
	if !utf8.ValidString(s) {
		return invalidField(field, sayControl)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return invalidField(field, sayControl)
		}
	}
	return nil
}
