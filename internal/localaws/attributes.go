package localaws

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

const maxAttributes = 10

// attribute is the value of one message attribute.
type attribute struct {
	dataType string
	text     string // String, Number and String.Array
	binary   []byte // Binary
}

type attributes map[string]attribute

func (a attribute) kind() string {
	kind, _, _ := strings.Cut(a.dataType, ".")
	return kind
}

func (a attribute) isBinary() bool { return a.kind() == "Binary" }

func (a attribute) isArray() bool { return a.dataType == "String.Array" }

func (a attribute) bytes() []byte {
	if a.isBinary() {
		return a.binary
	}
	return []byte(a.text)
}

// envelopeValue is the attribute's value in an SNS envelope, where everything is text.
func (a attribute) envelopeValue() string {
	if a.isBinary() {
		return base64.StdEncoding.EncodeToString(a.binary)
	}
	return a.text
}

func (as attributes) names() []string { return slices.Sorted(maps.Keys(as)) }

// size is what the attributes count towards a message's size: names, types and values.
func (as attributes) size() int {
	n := 0
	for name, a := range as {
		n += len(name) + len(a.dataType) + len(a.text) + len(a.binary)
	}
	return n
}

// digest is the MD5 that SQS answers with, empty without attributes.
func (as attributes) digest() string {
	if len(as) == 0 {
		return ""
	}
	h := md5.New()
	var length [4]byte
	put := func(b []byte) {
		binary.BigEndian.PutUint32(length[:], uint32(len(b)))
		h.Write(length[:])
		h.Write(b)
	}
	for _, name := range as.names() {
		a := as[name]
		put([]byte(name))
		put([]byte(a.dataType))
		transport := byte(1)
		if a.isBinary() {
			transport = 2
		}
		h.Write([]byte{transport})
		put(a.bytes())
	}
	return hex.EncodeToString(h.Sum(nil))
}

func bodyDigest(body string) string {
	sum := md5.Sum([]byte(body))
	return hex.EncodeToString(sum[:])
}

// flaw says what is wrong with a set of attributes, or nothing.
func (as attributes) flaw() string {
	for _, name := range as.names() {
		if flaw := attributeNameFlaw(name); flaw != "" {
			return flaw
		}
		if flaw := as[name].flaw(name); flaw != "" {
			return flaw
		}
	}
	return ""
}

func attributeNameFlaw(name string) string {
	lower := strings.ToLower(name)
	switch {
	case name == "":
		return "The message attribute name must not be empty."
	case utf8.RuneCountInString(name) > 256:
		return "The message attribute name '" + clip(name) + "' is longer than 256 characters."
	case strings.HasPrefix(lower, "aws.") || strings.HasPrefix(lower, "amazon."):
		return "The message attribute name '" + clip(name) + "' starts with a reserved prefix."
	case strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, ".."):
		return "The message attribute name '" + clip(name) + "' has a period at its start or end, or two in a row."
	case strings.ContainsFunc(name, func(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune("_-.", r) }):
		return "The message attribute name '" + clip(name) + "' may only hold letters, digits, '_', '-' and '.'."
	}
	return ""
}

func (a attribute) flaw(name string) string {
	quoted := "The message attribute '" + name + "' "
	if len(a.dataType) > 256 {
		return quoted + "has a type longer than 256 characters."
	}
	switch a.kind() {
	case "String", "Number", "Binary":
	default:
		return quoted + "has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String."
	}
	if len(a.bytes()) == 0 {
		return quoted + "must contain non-empty message attribute value for message attribute type '" + a.dataType + "'."
	}
	switch {
	case a.isBinary():
	case !isXMLText(a.text):
		return quoted + "holds a character that is not allowed in XML."
	case a.kind() == "Number" && !isNumber(a.text):
		return "Could not cast message attribute '" + name + "' value to number."
	case a.isArray() && !isScalarArray(a.text):
		return quoted + "is not a JSON array of strings, numbers, booleans and nulls."
	}
	return ""
}

func isScalarArray(text string) bool {
	var values []any
	if json.Unmarshal([]byte(text), &values) != nil {
		return false
	}
	for _, v := range values {
		switch v.(type) {
		case map[string]any, []any:
			return false
		}
	}
	return true
}
