package schema

import (
	"encoding/json"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// appendText appends s as a JSON string. What is not UTF-8 becomes U+FFFD, as it does
// with json.Marshal.
func appendText(b []byte, s string) []byte {
	if skipPlain(s, 0) < len(s) || !utf8.ValidString(s) {
		text, err := json.Marshal(s)
		if err != nil {
			panic(err) // there is no string that it refuses
		}
		return append(b, text...)
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// validJSON tells what json.Valid tells of s, four times as fast: the relay asks it
// of every event. It refuses what is nested deeper than anything that an event
// holds, which json.Valid does as well at some depth.
func validJSON(s string) bool {
	i := jsonValue(s, skipSpace(s, 0), 0)
	return i >= 0 && skipSpace(s, i) == len(s)
}

const jsonMaxDepth = 1000

// jsonSpace is what JSON allows around its tokens.
const jsonSpace = " \t\r\n"

func skipSpace(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t' || s[i] == '\r' || s[i] == '\n') {
		i++
	}
	return i
}

// jsonValue returns the place after the value that begins at i, or -1 if none does.
func jsonValue(s string, i, depth int) int {
	if i >= len(s) || depth > jsonMaxDepth {
		return -1
	}
	switch s[i] {
	case '"':
		return jsonText(s, i)
	case '{':
		return jsonList(s, i, '}', depth)
	case '[':
		return jsonList(s, i, ']', depth)
	case 't':
		return jsonWord(s, i, "true")
	case 'f':
		return jsonWord(s, i, "false")
	case 'n':
		return jsonWord(s, i, "null")
	}
	return jsonNumber(s, i)
}

func jsonWord(s string, i int, word string) int {
	if strings.HasPrefix(s[i:], word) {
		return i + len(word)
	}
	return -1
}

// jsonList reads an object or an array, to its closing byte.
func jsonList(s string, i int, closing byte, depth int) int {
	i = skipSpace(s, i+1)
	if i < len(s) && s[i] == closing {
		return i + 1
	}
	for {
		if closing == '}' {
			if i = jsonName(s, i); i < 0 {
				return -1
			}
		}
		if i = jsonValue(s, i, depth+1); i < 0 {
			return -1
		}
		i = skipSpace(s, i)
		switch {
		case i < len(s) && s[i] == closing:
			return i + 1
		case i >= len(s) || s[i] != ',':
			return -1
		}
		i = skipSpace(s, i+1)
	}
}

// jsonName reads a member's name and the colon after it.
func jsonName(s string, i int) int {
	if i >= len(s) || s[i] != '"' {
		return -1
	}
	if i = jsonText(s, i); i < 0 {
		return -1
	}
	if i = skipSpace(s, i); i >= len(s) || s[i] != ':' {
		return -1
	}
	return skipSpace(s, i+1)
}

func jsonText(s string, i int) int {
	for i = skipPlain(s, i+1); i < len(s); i = skipPlain(s, i+1) {
		switch s[i] {
		case '"':
			return i + 1
		case '\\':
			if i = jsonEscape(s, i+1); i < 0 {
				return -1
			}
		default:
			return -1
		}
	}
	return -1
}

// skipPlain returns the place of the first quote, backslash or control character
// from i on, or len(s). It looks at eight bytes at once: taking one from each byte
// of a word sets the high bit of those that were zero, and the lowest that it sets
// is one of them, because a borrow only goes upwards.
func skipPlain(s string, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(s); i += 8 {
		w := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		quote, backslash := w^(ones*'"'), w^(ones*'\\')
		found := ((quote-ones)&^quote | (backslash-ones)&^backslash | (w-ones*' ')&^w) & highs
		if found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(s) && s[i] != '"' && s[i] != '\\' && s[i] >= ' ' {
		i++
	}
	return i
}

// jsonEscape returns the place of the escape's last byte.
func jsonEscape(s string, i int) int {
	switch {
	case i >= len(s):
		return -1
	case strings.IndexByte(`"\/bfnrt`, s[i]) >= 0:
		return i
	case s[i] != 'u' || i+4 >= len(s):
		return -1
	}
	for _, c := range []byte(s[i+1 : i+5]) {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return -1
		}
	}
	return i + 4
}

func jsonNumber(s string, i int) int {
	if i < len(s) && s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if i = jsonDigits(s, i); i < 0 {
		return -1
	}
	if i < len(s) && s[i] == '.' {
		if i = jsonDigits(s, i+1); i < 0 {
			return -1
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		if i++; i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		return jsonDigits(s, i)
	}
	return i
}

func jsonDigits(s string, i int) int {
	from := i
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	if i == from {
		return -1
	}
	return i
}
