package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/google/uuid"
)

// minSecret is the shortest callback secret, in bytes.
const minSecret = 16

// sigLength is a signature's length as it stands in a URL.
var sigLength = base64.RawURLEncoding.EncodedLen(sha256.Size)

// signer makes and checks the addresses that the factory calls back at. The
// first secret signs and every secret verifies, so that one can be replaced
// while production is under way.
type signer struct {
	base    string
	secrets [][]byte
}

func newSigner(publicURL string, secrets [][]byte) (signer, error) {
	base, err := checkPublicURL(publicURL)
	if err != nil {
		return signer{}, err
	}
	if len(secrets) < 1 || len(secrets) > 2 {
		return signer{}, fmt.Errorf("%d callback secrets: configure one, or two while one replaces the other; `openssl rand -hex 32` makes a good one", len(secrets))
	}
	for i, s := range secrets {
		if len(s) < minSecret {
			return signer{}, fmt.Errorf("callback secret %d has %d bytes: at least %d are needed; `openssl rand -hex 32` makes a good one", i+1, len(s), minSecret)
		}
	}
	return signer{base: base, secrets: secrets}, nil
}

func checkPublicURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return "", errors.New("the public URL cannot be parsed: give one such as https://shop.example.com")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.Hostname() == "":
		return "", fmt.Errorf("public URL %q: give an absolute http or https URL such as https://shop.example.com", u.Redacted())
	case u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return "", fmt.Errorf("public URL %q: give it without user, query and fragment", u.Redacted())
	}
	return u.JoinPath().String(), nil
}

// callbackURL is where the factory reports the delivery of quantity units.
func (s signer) callbackURL(id uuid.UUID, sku string, quantity int) string {
	base, _ := url.Parse(s.base) // was checked by newSigner
	base = base.JoinPath("stock-increase", id.String())
	base.RawQuery = "sig=" + base64.RawURLEncoding.EncodeToString(sign(s.secrets[0], id, sku, quantity))
	return base.String()
}

// decodeSig reads a signature. What does not decode cannot be right.
func decodeSig(sig string) ([]byte, bool) {
	if len(sig) != sigLength {
		return nil, false
	}
	mac, err := base64.RawURLEncoding.Strict().DecodeString(sig)
	return mac, err == nil
}

// verify compares in constant time, and with every secret whatever came out of
// the first.
func (s signer) verify(mac []byte, id uuid.UUID, sku string, quantity int) bool {
	ok := false
	for _, secret := range s.secrets {
		if hmac.Equal(mac, sign(secret, id, sku, quantity)) {
			ok = true
		}
	}
	return ok
}

// sign prefixes each part with its length, so that no two different requests
// have the same bytes.
func sign(secret []byte, id uuid.UUID, sku string, quantity int) []byte {
	h := hmac.New(sha256.New, secret)
	var length [8]byte
	for _, part := range []string{id.String(), sku, strconv.Itoa(quantity)} {
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}
