package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxBody bounds the body of any request, in bytes.
const maxBody = 64 << 10

// readBody reads a whole body, bounded.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > maxBody {
		// Before any of it is read: who asked first (Expect: 100-continue) sends none,
		// and who sends slowly is told at once.
		w.Header().Set("Connection", "close")
		return nil, bodyTooLarge()
	}
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
	contentType := r.Header.Get("Content-Type")
	if contentType == "application/json" {
		return true // most say just this
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	return mediaType == "application/json" && (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter))
}

// isEncoded tells whether the request says that its body is compressed, or encoded otherwise.
func isEncoded(r *http.Request) bool {
	for _, encoding := range r.Header.Values("Content-Encoding") {
		if encoding = strings.TrimSpace(encoding); encoding != "" && !strings.EqualFold(encoding, "identity") {
			return true
		}
	}
	return false
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
	if bytes.IndexByte(body, '\\') >= 0 && loneSurrogate.Match(escapedPairs.ReplaceAll(body, nil)) {
		return nil, malformed(sayNotUTF8)
	}
	rest := afterSpace(body)
	if rest[0] != '{' {
		return nil, invalid("", sayNotObject)
	}
	o := object{}
	for rest = afterSpace(rest[1:]); rest[0] != '}'; {
		var name, value []byte
		name, rest = cutValue(rest)
		value, rest = cutValue(afterSpace(afterSpace(rest)[1:])) // behind the colon
		if rest = afterSpace(rest); rest[0] == ',' {
			rest = afterSpace(rest[1:])
		}
		text, err := unquoted(name)
		if err != nil {
			return nil, malformed(sayNotJSON)
		}
		if _, twice := o[text]; twice {
			return nil, invalidField(text, sayTwice)
		}
		o[text] = value
	}
	return o, nil
}

// afterSpace and cutValue go through JSON that is known to be valid.
func afterSpace(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }

// cutValue returns the value at the beginning of b, and what follows it.
func cutValue(b []byte) (value, rest []byte) {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch ch := b[i]; {
		case quoted && ch == '\\':
			i++
		case ch == '"':
			if quoted = !quoted; !quoted && depth == 0 {
				return b[:i+1], b[i+1:]
			}
		case quoted:
		case ch == '{' || ch == '[':
			depth++
		case ch == '}' || ch == ']':
			if depth == 0 {
				return b[:i], b[i:]
			}
			if depth--; depth == 0 {
				return b[:i+1], b[i+1:]
			}
		case depth == 0 && (ch == ',' || ch == ':' || ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n'):
			return b[:i], b[i:]
		}
	}
	return b, nil
}

// In valid JSON a backslash stands only in strings. Once escaped backslashes
// and surrogate pairs are taken out, any surrogate escape left stands alone and
// is no character.
var (
	escapedPairs  = regexp.MustCompile(`\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}`)
	loneSurrogate = regexp.MustCompile(`\\u[dD][89a-fA-F]`)
)

// unquoted is the text of a JSON string.
func unquoted(raw []byte) (s string, err error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	err = json.Unmarshal(raw, &s)
	return s, err
}

// only refuses members of other names, so that a client's mistyped field is
// never taken for a wish for the default.
func (o object) only(names ...string) error {
	var unknown []string
	for name := range o {
		if !slices.Contains(names, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return invalidField(slices.Min(unknown), sayUnknownField)
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
	if raw[0] != '"' {
		return "", false, invalidField(name, sayNotString)
	}
	s, err := unquoted(raw)
	if err != nil {
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

// checkText refuses what a text column or an SNS attribute would not take. Of the
// characters that are no control characters SNS and SQS refuse two, which XML has not.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
func checkText(field, s string) error {
	if !utf8.ValidString(s) {
		return invalidField(field, sayControl)
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == 0xFFFE || r == 0xFFFF {
			return invalidField(field, sayControl)
		}
	}
	return nil
}
