package target

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// AddressPolicy says to which addresses events may be sent. Its zero value is the one for a cluster: everything but
// this machine itself, its link, and the places where clouds keep their instances' credentials.
type AddressPolicy struct {
	// AllowLoopback permits 127.0.0.0/8 and ::1: for a laptop and for tests, never in a cluster.
	AllowLoopback bool
	// DenyPrivate refuses private ranges as well (RFC 1918, RFC 4193, RFC 6598).
	DenyPrivate bool
}

// Places that hand out an instance's credentials, where they are not link-local already.
var metadata = []netip.Addr{
	netip.MustParseAddr("168.63.129.16"),   // Azure's wire server
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
	netip.MustParseAddr("fd00:ec2::254"),   // AWS, IPv6
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud, IPv6
}

var sharedAddressSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

// Check returns an error that names the kind of a refused address, or nil for an address that may be dialed.
func (p AddressPolicy) Check(a netip.Addr) error {
	for _, a := range readings(a.WithZone("")) {
		switch {
		case a.IsLoopback():
			if !p.AllowLoopback {
				return refused("loopback")
			}
		case !a.IsValid() || a.IsUnspecified() || (a.Is4() && a.As4()[0] == 0):
			return refused("unspecified")
		case a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast():
			return refused("link-local")
		case a.IsMulticast() || (a.Is4() && a.As4()[0] >= 240):
			return refused("multicast or reserved")
		case slices.Contains(metadata, a):
			return refused("cloud metadata")
		case p.DenyPrivate && (a.IsPrivate() || sharedAddressSpace.Contains(a)):
			return refused("private")
		}
	}
	return nil
}

func refused(kind string) error {
	return fmt.Errorf("the target's name resolves to a %s address, and events are not sent there", kind)
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")      // RFC 3056
	compatible = netip.MustParsePrefix("::/96")          // RFC 4291, deprecated
)

// readings returns the addresses that a may stand for: itself, and the IPv4 address that an IPv6 form carries.
func readings(a netip.Addr) []netip.Addr {
	a = a.Unmap()
	if !a.Is6() {
		return []netip.Addr{a}
	}
	b := a.As16()
	switch {
	case a.IsLoopback() || a.IsUnspecified():
		return []netip.Addr{a}
	case nat64.Contains(a), nat64Local.Contains(a), compatible.Contains(a):
		return []netip.Addr{a, netip.AddrFrom4([4]byte(b[12:16]))}
	case sixToFour.Contains(a):
		return []netip.Addr{a, netip.AddrFrom4([4]byte(b[2:6]))}
	}
	return []netip.Addr{a}
}

// control is a net.Dialer's Control: it sees each address after resolution and before the connection, on every
// connection, so a name that changes its mind between check and use gains nothing.
func (p AddressPolicy) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("the target's address cannot be read: %w", err)
	}
	return p.Check(ap.Addr())
}
