package localmarketing

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The vector is that of the reference implementations.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/go/webhook_test.go
func vector() (v verifier, h http.Header, body []byte, at time.Time) {
	keys, err := parseSecrets([]string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
	if err != nil {
		panic(err)
	}
	h = http.Header{
		"Webhook-Id":        {"msg_p5jXN8AQM9LWM0D4loKWxJek"},
		"Webhook-Timestamp": {"1614265330"},
		"Webhook-Signature": {"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
	}
	return verifier{keys: keys, tolerance: DefaultTolerance}, h, []byte(`{"test": 2432232314}`), time.Unix(1614265330, 0)
}

func TestVerifiesTheVectorOfTheSpecification(t *testing.T) {
	t.Parallel()
	v, h, body, want := vector()
	id, at, err := v.verify(h, body, want.Add(time.Minute))
	require.NoError(t, err)
	require.Equal(t, "msg_p5jXN8AQM9LWM0D4loKWxJek", id)
	require.True(t, want.Equal(at))
	_, _, err = v.verify(h, body, want.Add(time.Hour))
	require.EqualError(t, err, "webhook-timestamp: 1h0m0s off, over 5m0s")
}

// Without the secret nothing but the vector itself gets through.
func FuzzVerify(f *testing.F) {
	v, h, body, at := vector()
	f.Add(h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), h.Get("Webhook-Signature"), body)
	f.Add("", "", "", []byte{})
	f.Add(h.Get("Webhook-Id"), "+1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF=", body)
	f.Add("msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330", `{"test": 2432232314}`, "v1,, v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", []byte{})
	f.Fuzz(func(t *testing.T, id, stamp, signatures string, given []byte) {
		got := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {stamp}, "Webhook-Signature": {signatures}}
		_, _, err := v.verify(got, given, at)
		same := id == h.Get("Webhook-Id") && stamp == h.Get("Webhook-Timestamp") && string(given) == string(body)
		if err == nil && !same {
			t.Fatalf("%q %q %q %q gets through", id, stamp, signatures, given)
		}
	})
}

func FuzzReadEvent(f *testing.F) {
	f.Add([]byte(`{"time":"2026-03-05T00:00:01Z","specversion":"1.0","id":"1","source":"/s","type":"customer.promoted","subject":"c",` +
		`"datacontenttype":"application/json","dataschema":"urn:x","data":{"customerId":"c","orderId":"7d9f1b9e-0000-4000-8000-000000000001","quantity":1}}`))
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, p, err := readEvent(body)
		if err == nil && (e.ID == "" || p.CustomerID == "" || p.CustomerID != e.Subject || p.Quantity < 1) {
			t.Fatalf("%q is not in order", body)
		}
	})
}
