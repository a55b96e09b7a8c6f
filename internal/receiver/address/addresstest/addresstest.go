// Package addresstest helps tests of what is said about addresses.
package addresstest

import (
	"fmt"
	"net/netip"
	"strings"
)

// Spellings returns every IPv6 form that carries v4, and v4 itself.
func Spellings(v4 netip.Addr) []string {
	b := v4.As4()
	hi, lo := uint16(b[0])<<8|uint16(b[1]), uint16(b[2])<<8|uint16(b[3])
	low32 := fmt.Sprintf("%x:%x", hi, lo)
	return []string{
		v4.String(),
		"::ffff:" + v4.String(), // mapped
		"::ffff:" + low32,
		"0:0:0:0:0:ffff:" + low32,
		"::" + low32,               // compatible
		"64:ff9b::" + low32,        // NAT64
		"64:ff9b::" + v4.String(),  //
		"64:ff9b:1::" + low32,      // local NAT64, a prefix of 96 bits
		"64:ff9b:1:fffe::" + low32, //
		fmt.Sprintf("64:ff9b:1:%x:%x:%x::", hi, lo>>8, lo&0xff<<8),                  // a prefix of 48
		fmt.Sprintf("64:ff9b:1:%x:%x:%x::", 0x0100|hi>>8, hi&0xff, lo),              // of 56
		fmt.Sprintf("64:ff9b:1:ab:%x:%x:%x:0", hi>>8, hi&0xff<<8|lo>>8, lo&0xff<<8), // of 64
		"2002:" + low32 + "::1", // 6to4
		"2002:" + low32 + "::",  //
		fmt.Sprintf("2001:0:4136:e378:8000:63bf:%x:%x", ^hi, ^lo), // Teredo, the client
		"2001:0:" + low32 + ":8000:63bf:3fff:fdd2",                // Teredo, the server
		"::ffff:0:" + low32,           // translated
		"2001:db8::5efe:" + low32,     // ISATAP
		"2001:db8::200:5efe:" + low32, //
		"fe80::5efe:" + low32,         // link-local itself
	}
}

// Carries reports whether spelt stands for the IPv4 address v4 in a network that routes it. No translator takes 0.0.0.0/8 or
// multicast for an address, and the forms of local NAT64 with such a one are read as something else.
// ::0.0.0.0 and ::0.0.0.1 are IPv6's own unspecified and loopback addresses.
func Carries(spelt, v4 string) bool {
	first := netip.MustParseAddr(v4).As4()[0]
	if strings.HasPrefix(spelt, "64:ff9b:1:") {
		return first != 0 && first < 224
	}
	return netip.MustParseAddr(spelt) != netip.IPv6LinkLocalAllNodes() && (first != 0 || !netip.MustParseAddr(spelt).IsLoopback())
}
