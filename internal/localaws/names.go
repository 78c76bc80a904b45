package localaws

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// accountID is the account that everything here belongs to.
const accountID = "000000000000"

const (
	mostQueueName = 80
	mostTopicName = 256
)

var numberPattern = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$`)

const idPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

const fifoSuffix = ".fifo"

func isFIFO(name string) bool { return strings.HasSuffix(name, fifoSuffix) }

// isName tells whether a queue or a topic may have this name, of at most that many characters with the suffix.
func isName(name string, most int) bool {
	return len(name) <= most && isWord(strings.TrimSuffix(name, fifoSuffix))
}

// isBatchID tells whether an entry of a batch may have this id.
func isBatchID(id string) bool { return len(id) <= 80 && isWord(id) }

func isWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !isAlphanumeric(r) && r != '_' && r != '-' })
}

// isFIFOID tells whether s may be a message group id or a deduplication id.
func isFIFOID(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune(idPunctuation, r)
	})
}

func isAlphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// isXMLText tells whether every character may stand in an XML 1.0 document, which is what SNS and SQS can carry.
func isXMLText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		switch {
		case r == '\t', r == '\n', r == '\r', r >= 0x20 && r <= 0xD7FF, r >= 0xE000 && r <= 0xFFFD, r >= 0x10000:
		default:
			return false
		}
	}
	return true
}

// isSubject allows what SNS takes in practice: any text without control characters, not only ASCII.
func isSubject(s string) bool {
	n := utf8.RuneCountInString(s)
	return n >= 1 && n <= 100 && isXMLText(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func isNumber(s string) bool {
	if !numberPattern.MatchString(s) {
		return false
	}
	f, err := strconv.ParseFloat(s, 64)
	return err == nil && !math.IsInf(f, 0)
}

func (s *Server) queueARN(name string) string {
	return "arn:aws:sqs:" + s.cfg.Region + ":" + accountID + ":" + name
}

func (s *Server) topicARN(name string) string {
	return "arn:aws:sns:" + s.cfg.Region + ":" + accountID + ":" + name
}

func (s *Server) queueURL(name string) string { return s.url + "/" + accountID + "/" + name }

// lastPart is what follows the last separator, which is the name in an ARN or a queue URL.
func lastPart(s, separator string) string { return s[strings.LastIndex(s, separator)+1:] }
