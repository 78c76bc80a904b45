package localmarketing

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// verifier tells a webhook of the sender's from any other.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#verifying-signatures
type verifier struct {
	keys      [][]byte
	tolerance time.Duration
}

// parseSecrets reads the secrets; its errors show none.
func parseSecrets(secrets []string) ([][]byte, error) {
	if len(secrets) == 0 {
		return nil, errors.New("marketing system: no secret")
	}
	var keys [][]byte
	for i, s := range secrets {
		encoded, ok := strings.CutPrefix(s, "whsec_")
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(key) < 24 || len(key) > 64 {
			return nil, fmt.Errorf("marketing system: secret %d: want whsec_ and 24 to 64 bytes in base64", i+1)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// verify returns the id and the time of a webhook that one of the secrets signed.
func (v verifier) verify(h http.Header, body []byte, now time.Time) (id string, at time.Time, err error) {
	id, err1 := one(h, "Webhook-Id")
	stamp, err2 := one(h, "Webhook-Timestamp")
	signatures, err3 := one(h, "Webhook-Signature")
	if err := errors.Join(err1, err2, err3); err != nil {
		return "", time.Time{}, err
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != stamp {
		return "", time.Time{}, errors.New("webhook-timestamp: want whole seconds")
	}
	at = time.Unix(seconds, 0).UTC()
	// Signed before it is looked at: what an unsigned timestamp says is of no interest.
	if !v.signed(signatures, id+"."+stamp+"."+string(body)) {
		return "", time.Time{}, errors.New("webhook-signature: none fits")
	}
	if off := now.Sub(at).Abs(); off > v.tolerance {
		return "", time.Time{}, fmt.Errorf("webhook-timestamp: %s off, over %s", off.Round(time.Second), v.tolerance)
	}
	return id, at, nil
}

// signed tells whether one of the signatures was made with one of the keys. Those of
// other versions than v1 are passed over.
func (v verifier) signed(signatures, content string) bool {
	for signature := range strings.SplitSeq(signatures, " ") {
		encoded, ok := strings.CutPrefix(signature, "v1,")
		given, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil {
			continue
		}
		for _, key := range v.keys {
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(content))
			if hmac.Equal(given, mac.Sum(nil)) {
				return true
			}
		}
	}
	return false
}

// one returns the header that has to be there once.
func one(h http.Header, name string) (string, error) {
	values := h.Values(name)
	if len(values) != 1 || values[0] == "" {
		return "", fmt.Errorf("%s: want it once", strings.ToLower(name))
	}
	return values[0], nil
}
