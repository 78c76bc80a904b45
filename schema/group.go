package schema

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// maxGroup is the longest message group id that SNS takes.
// https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
const maxGroup = 128

// Group returns id as an SNS message group: id itself where SNS takes it, else
// "h-" and the base32 of its SHA-256. Equal ids have equal groups.
func Group(id string) string {
	if validGroup(id) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "h-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}

// validGroup holds a group to SNS's alphabet: letters, digits and punctuation
// of ASCII, which are the bytes from '!' to '~'.
func validGroup(s string) bool {
	if s == "" || len(s) > maxGroup {
		return false
	}
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return true
}
