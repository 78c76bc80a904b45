package consumers

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
)

// notPublic are the blocks where nobody on the internet is: those that the
// registries of special addresses call not globally reachable, multicast, and
// inside 2000::/3 also blocks that no server of somebody else has an address in.
// https://www.iana.org/assignments/iana-ipv4-special-registry
// https://www.iana.org/assignments/iana-ipv6-special-registry
var notPublic = []struct {
	prefix netip.Prefix
	name   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by a carrier"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"}, // with 169.254.169.254, a cloud's metadata
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},

	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "NAT64 of a local network"},
	{netip.MustParsePrefix("fc00::/7"), "private"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("2001::/23"), "reserved"}, // with Teredo
	{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
	{netip.MustParsePrefix("2002::/16"), "6to4"}, // may hide a private IPv4 address, and is out of use: RFC 7526
	{netip.MustParsePrefix("3fff::/20"), "documentation"},
}

var (
	// globalUnicast is all of IPv6 that is given out.
	// https://www.iana.org/assignments/ipv6-address-space
	globalUnicast = netip.MustParsePrefix("2000::/3")
	// nat64 stands for the IPv4 address in its last four bytes. A network without
	// IPv4 reaches public servers through it. https://www.rfc-editor.org/rfc/rfc6052
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

// addressError is an address that a webhook may not go to.
type addressError struct {
	addr netip.Addr
	name string // of the block that it is in
}

func (e *addressError) Error() string {
	return fmt.Sprintf("%s is not a public address (%s): set another URL or mend its DNS; if it is meant, allow its network", e.addr, e.name)
}

// CheckAddress refuses, as the address of a webhook, one that is not public, unless it is
// in a network that is allowed.
func CheckAddress(addr netip.Addr, allowed []netip.Prefix) error {
	// A prefix contains no address with a zone, and none of IPv4 that is mapped.
	plain := addr.WithZone("").Unmap()
	if slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Contains(plain) }) {
		return nil
	}
	if nat64.Contains(plain) {
		b := plain.As16()
		return CheckAddress(netip.AddrFrom4([4]byte(b[12:])), allowed)
	}
	for _, block := range notPublic {
		if block.prefix.Contains(plain) {
			return &addressError{addr, block.name}
		}
	}
	if plain.Is6() && !globalUnicast.Contains(plain) {
		return &addressError{addr, "reserved"}
	}
	return nil
}

// webhookTransport makes connections to public and allowed addresses only. The
// check is of the address that a connection is made to, after the name was
// resolved, so that no answer of a DNS server gets around it; a connection kept
// alive was checked when it was made. There is no proxy, which would resolve
// the name itself.
func webhookTransport(allowed []netip.Prefix) *http.Transport {
	t := newTransport(func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("address to dial: %w", err)
		}
		return CheckAddress(to.Addr(), allowed)
	})
	t.MaxResponseHeaderBytes = 64 << 10
	// What is counted is then what was sent: a small answer cannot unfold.
	t.DisableCompression = true
	return t
}
