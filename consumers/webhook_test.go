package consumers

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The vector is that of the reference implementations.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/go/webhook_test.go
func TestWebhookSignatureOfTheSpecification(t *testing.T) {
	t.Parallel()
	s, err := newSigner([]string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
	require.NoError(t, err)
	require.Equal(t, http.Header{
		"Webhook-Id":        {"msg_p5jXN8AQM9LWM0D4loKWxJek"},
		"Webhook-Timestamp": {"1614265330"},
		"Webhook-Signature": {"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
	}, s.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 999), []byte(`{"test": 2432232314}`)))
}

func TestWebhookIsSignedWithEverySecret(t *testing.T) {
	t.Parallel()
	older, newer := secretOf(24), secretOf(64)
	sign := func(secrets ...string) string {
		s, err := newSigner(secrets)
		require.NoError(t, err)
		return s.headers("id", time.Unix(1, 0), []byte("{}")).Get("Webhook-Signature")
	}
	require.NotEqual(t, sign(older), sign(newer))
	require.Equal(t, sign(older)+" "+sign(newer), sign(older, newer))
	require.Equal(t, sign(older), sign(older+"\n"), "as a file or the environment may hold it")
}

func secretOf(bytes int) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("s", bytes)))
}

func TestWebhookSecretsThatAreRefused(t *testing.T) {
	t.Parallel()
	_, err := newSigner(nil)
	require.ErrorContains(t, err, "no webhook secret")
	for text, reason := range map[string]string{
		"":                                       "want whsec_",
		"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw":       "want whsec_",
		"whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw":  "want whsec_",
		"whsec_":                                 "it has 0 bytes",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_": "is not base64",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS":  "is not base64",
		secretOf(23):                             "it has 23 bytes: 24 to 64 are allowed",
		secretOf(65):                             "it has 65 bytes",
	} {
		_, err := newSigner([]string{secretOf(32), text})
		require.ErrorContains(t, err, "webhook secret 2 of 2: ", text)
		require.ErrorContains(t, err, reason, text)
		require.NotContains(t, err.Error(), "MfKQ")
		require.NotContains(t, err.Error(), "c3Nz")
	}
}

func FuzzWebhookSecret(f *testing.F) {
	f.Add("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	f.Add("whsec_" + strings.Repeat("=", 40))
	f.Add(" whsec_\n")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := parseSecret(text)
		switch body := strings.TrimPrefix(strings.TrimSpace(text), "whsec_"); {
		case err != nil && len(body) > 6 && strings.Contains(err.Error(), body):
			t.Fatalf("%q is in the error: %v", body, err)
		case err == nil && (len(key) < 24 || len(key) > 64):
			t.Fatalf("%d bytes", len(key))
		case err == nil:
			again, err := parseSecret("whsec_" + base64.StdEncoding.EncodeToString(key))
			if err != nil || string(again) != string(key) {
				t.Fatalf("%x becomes %x: %v", key, again, err)
			}
		}
	})
}

func TestAddressesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, addresses := range map[string][]string{
		"unspecified":              {"0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"},
		"loopback":                 {"127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "64:ff9b::127.0.0.1"},
		"private":                  {"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd00:ec2::254", "::ffff:10.0.0.1", "64:ff9b::a00:1"},
		"link-local":               {"169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "febf::1", "::ffff:169.254.169.254", "::ffff:169.254.169.254%1", "64:ff9b::a9fe:a9fe"},
		"shared by a carrier":      {"100.64.0.1", "100.100.100.200", "100.127.255.255"},
		"multicast":                {"224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"},
		"documentation":            {"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff:fff::1"},
		"benchmarking":             {"198.18.0.1", "198.19.255.255"},
		"6to4":                     {"2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1", "192.88.99.1"},
		"NAT64 of a local network": {"64:ff9b:1::a00:1", "64:ff9b:1:ffff::1"},
		"reserved": {"192.0.0.8", "240.0.0.1", "255.255.255.255", "2001::1", "2001:0:7f00:1::", "2001:1ff::1", "::127.0.0.1",
			"100::1", "fec0::1", "4000::1", "5f00::1"},
	} {
		for _, text := range addresses {
			err := CheckAddress(netip.MustParseAddr(text), nil)
			require.ErrorContains(t, err, "is not a public address ("+name+")", text)
			require.ErrorContains(t, err, "allow its network")
		}
	}
	for _, text := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0",
		"172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
		"2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "2001:4860:4860::8888", "2003::1", "2001:200::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
	} {
		require.NoError(t, CheckAddress(netip.MustParseAddr(text), nil), text)
	}
}

func TestAddressesThatAreAllowed(t *testing.T) {
	t.Parallel()
	allowed := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fe80::/10"), {}}
	for _, text := range []string{"10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd12::1", "fe80::1%eth0", "8.8.8.8"} {
		require.NoError(t, CheckAddress(netip.MustParseAddr(text), allowed), text)
	}
	for _, text := range []string{"10.2.0.1", "fc00::1", "127.0.0.1", "169.254.169.254"} {
		require.Error(t, CheckAddress(netip.MustParseAddr(text), allowed), text)
	}
}

// What is checked is the address that a name resolved to, however it is written.
func TestDialChecksWhatTheNameResolvesTo(t *testing.T) {
	t.Parallel()
	connected := make(chan struct{}, 10)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connected <- struct{}{}
		}
	}
	server.Start()
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	refused := webhookTransport(nil)
	require.Nil(t, refused.Proxy)
	for _, host := range []string{"localhost", "127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "::1"} {
		_, err := refused.DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
		var address *addressError
		require.ErrorAs(t, err, &address, host)
	}
	require.Empty(t, connected)

	conn, err := webhookTransport([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}).DialContext(t.Context(), "tcp4", net.JoinHostPort("localhost", port))
	require.NoError(t, err)
	<-connected
	require.NoError(t, conn.Close())
}

func TestCustomerIsTakenOutOfAnswers(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"c-42", "a", `"'); DROP TABLE customers; --`, "<script>alert(1)</script>", "고객 1"} {
		quoted, err := json.Marshal(id)
		require.NoError(t, err)
		require.Equal(t, "- (customer) (customer) -", string(withoutCustomer([]byte("- "+id+" "+string(quoted[1:len(quoted)-1])+" -"), id)))
	}
}
