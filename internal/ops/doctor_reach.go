package ops

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
)

// reachable connects to where a URL leads, over TLS where it is https, and asks
// nothing. An address that check refuses is a failure: the consumer will refuse it too.
// Without check any will do. Nothing but the host of the URL is shown.
func (e *examination) reachable(ctx context.Context, name, text string, check func(netip.Addr) error) {
	s := subject{e, name}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		s.fail("reachable", "give a URL such as https://host/path", "its URL is none")
		return
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	address := net.JoinHostPort(u.Hostname(), port)
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		s.fail("reachable", "check the URL, the name in the DNS and the firewall: nc -vz "+u.Hostname()+" "+port, "%s", err)
		return
	}
	defer conn.Close()
	if u.Scheme == "https" {
		if err := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}).HandshakeContext(ctx); err != nil {
			s.fail("reachable", "check the certificate: openssl s_client -connect "+address, "%s is there, but TLS fails: %s", address, err)
			return
		}
	}
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok && check != nil {
		at := tcp.AddrPort().Addr().Unmap()
		if check(at) != nil {
			s.fail("reachable", fmt.Sprintf("if that is meant: --marketing-allow %s, or RESTOCK_MARKETING_ALLOW", netip.PrefixFrom(at, at.BitLen())),
				"%s leads to %s, which is not public: the consumer refuses it", u.Hostname(), at)
			return
		}
	}
	s.ok("reachable", "%s accepts connections", address)
}
