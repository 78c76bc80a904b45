package ops

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
)

// reachable connects to where a URL leads, over TLS where it is https, and asks
// nothing. Where only public addresses are allowed, another one is a failure: the
// consumer will refuse it. Nothing but the host of the URL is shown.
func (e *examination) reachable(ctx context.Context, name, text string, allowed []netip.Prefix, anywhere bool) {
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
	if local, is := privateAddress(conn.RemoteAddr(), allowed); is && !anywhere {
		s.fail("reachable", fmt.Sprintf("if that is meant: --marketing-allow %s, or RESTOCK_MARKETING_ALLOW", netip.PrefixFrom(local, local.BitLen())),
			"%s leads to %s, which is not public: the consumer refuses it", u.Hostname(), local)
		return
	}
	s.ok("reachable", "%s accepts connections", address)
}

// privateAddress tells whether a connection leads to an address that is not public
// and not allowed either.
func privateAddress(remote net.Addr, allowed []netip.Prefix) (netip.Addr, bool) {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	at := tcp.AddrPort().Addr().Unmap()
	if slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Contains(at) }) {
		return at, false
	}
	return at, !at.IsGlobalUnicast() || at.IsPrivate()
}
