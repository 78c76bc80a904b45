package api

import (
	"net/http"

	"github.com/google/uuid"
)

// Routes lists "METHOD path" of every route.
func (a *API) Routes() []string {
	var all []string
	for path, methods := range a.routes() {
		for method := range methods {
			all = append(all, method+" "+path)
		}
	}
	return all
}

// CallbackURL is what the factory would be told.
func (a *API) CallbackURL(id uuid.UUID, sku string, quantity int) string {
	return a.signer.callbackURL(id, sku, quantity)
}

// ReadObject is the strict reader of bodies.
func ReadObject(body []byte) (map[string]string, error) {
	o, err := readObject(body)
	if err != nil {
		return nil, err
	}
	members := map[string]string{}
	for name := range o {
		members[name], _, _ = o.text(name)
	}
	return members, nil
}

// Verify signs with one secret and verifies with another.
func Verify(signing, verifying []byte, id uuid.UUID, sku string, quantity int) bool {
	return signer{secrets: [][]byte{verifying}}.verify(sign(signing, id, sku, quantity), id, sku, quantity)
}

// Sign makes a signature.
func Sign(secret []byte, id uuid.UUID, sku string, quantity int) []byte {
	return sign(secret, id, sku, quantity)
}

// DecodeSig reads a signature out of a URL.
var DecodeSig = decodeSig

// Panicking is an endpoint with a mistake in it.
func (a *API) Panicking() http.Handler {
	return a.endpoint("/panicking", func(*call) (any, error) { panic("a mistake") })
}
