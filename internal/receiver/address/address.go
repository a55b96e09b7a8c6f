// Package address decides to which addresses events may be sent. The receiver checks each connection with it, and the operator
// checks target addresses that are known in advance.
package address

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// Policy decides to which addresses events may be sent. Its zero value is the one for a cluster: everything except this machine
// itself, its link, and the metadata services from which clouds serve instance credentials.
type Policy struct {
	// AllowLoopback permits 127.0.0.0/8 and ::1: for laptops and tests, never in a cluster.
	AllowLoopback bool
	// DenyPrivate also refuses private ranges (RFC 1918, RFC 4193, RFC 6598, and the deprecated one of RFC 3879).
	DenyPrivate bool
	// AllowNetworks are exempt from DenyPrivate, such as a cluster's Service network. Addresses refused for another reason stay
	// refused.
	AllowNetworks []netip.Prefix
}

// NeverDialed returns the networks outside a machine to which no policy allows events: its link, and the metadata services from
// which clouds serve instance credentials.
func NeverDialed() []netip.Prefix {
	out := []netip.Prefix{linkLocal4, linkLocal6}
	for _, a := range metadata {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

var (
	linkLocal4 = netip.MustParsePrefix("169.254.0.0/16") // RFC 3927
	linkLocal6 = netip.MustParsePrefix("fe80::/10")      // RFC 4291
)

// Metadata services that are not in a link-local network.
var metadata = []netip.Addr{
	netip.MustParseAddr("168.63.129.16"),      // Azure's wire server
	netip.MustParseAddr("100.100.100.200"),    // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"),        // Oracle Cloud
	netip.MustParseAddr("fd00:ec2::254"),      // AWS, IPv6
	netip.MustParseAddr("fd00:ec2::23"),       // AWS, EKS Pod Identity
	netip.MustParseAddr("fd00:c1::a9fe:a9fe"), // Oracle Cloud, IPv6
	netip.MustParseAddr("fd00:42::42"),        // Scaleway, IPv6
	netip.MustParseAddr("fd20:ce::254"),       // Google Cloud, IPv6
}

var (
	sharedAddressSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	siteLocal          = netip.MustParsePrefix("fec0::/10")     // RFC 3879
)

// Check returns an error that names the kind of a refused address, or nil if the address may be dialed.
func (p Policy) Check(a netip.Addr) error {
	if kind := p.Refuses(a); kind != "" {
		return BlockedError{kind}
	}
	return nil
}

// BlockedError reports an address that must not be dialed.
type BlockedError struct {
	// Kind is the result of Refuses.
	Kind string
}

// Error implements error.
func (e BlockedError) Error() string {
	return fmt.Sprintf("the target's name resolves to a %s address, and events are not sent there", e.Kind)
}

// Private is the kind of address that DenyPrivate refuses.
const Private = "private"

// Refuses returns the kind of a refused address, such as loopback, or "" if the address may be dialed.
func (p Policy) Refuses(a netip.Addr) string {
	for _, a := range readings(a.WithZone("")) {
		switch {
		case a.IsLoopback():
			if !p.AllowLoopback {
				return "loopback"
			}
		case !a.IsValid() || a.IsUnspecified() || (a.Is4() && a.As4()[0] == 0):
			return "unspecified"
		case a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast():
			return "link-local"
		case a.IsMulticast() || (a.Is4() && a.As4()[0] >= 240):
			return "multicast or reserved"
		case slices.Contains(metadata, a):
			return "cloud metadata"
		case p.DenyPrivate && isPrivate(a) && !slices.ContainsFunc(p.AllowNetworks, func(n netip.Prefix) bool { return n.Contains(a) }):
			return Private
		}
	}
	return ""
}

func isPrivate(a netip.Addr) bool {
	return a.IsPrivate() || sharedAddressSpace.Contains(a) || siteLocal.Contains(a)
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291, deprecated
)

// readings returns the addresses that a may represent: itself, and the IPv4 addresses embedded in an IPv6 form.
func readings(a netip.Addr) []netip.Addr {
	a = a.Unmap()
	out := []netip.Addr{a}
	if !a.Is6() || a.IsLoopback() || a.IsUnspecified() {
		return out
	}
	b := a.As16()
	carried := func(i, j, k, l int) netip.Addr { return netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]}) }
	isatap := b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe // RFC 5214
	switch {
	case nat64.Contains(a), compatible.Contains(a), translated.Contains(a), isatap:
		return append(out, carried(12, 13, 14, 15))
	case sixToFour.Contains(a):
		return append(out, carried(2, 3, 4, 5))
	case teredo.Contains(a):
		return append(out, carried(4, 5, 6, 7), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	case nat64Local.Contains(a):
		// The translator's operator chose one of the positions of RFC 6052, section 2.2. The other three hold other data, often
		// zero, which no translator uses as an address.
		for _, v4 := range []netip.Addr{carried(6, 7, 9, 10), carried(7, 9, 10, 11), carried(9, 10, 11, 12), carried(12, 13, 14, 15)} {
			if first := v4.As4()[0]; first != 0 && first < 224 {
				out = append(out, v4)
			}
		}
	}
	return out
}

// Control is a net.Dialer's Control: it checks each address after resolution, on every connection, so a name that resolves
// differently after a check (DNS rebinding) gains nothing.
func (p Policy) Control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("the target's address cannot be read: %w", err)
	}
	return p.Check(ap.Addr())
}
