package target

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// spellings returns every IPv6 form that carries v4, and v4 itself.
func spellings(v4 netip.Addr) []string {
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

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	never := map[string][]string{ // whatever the policy says
		"link-local":            {"169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.42.42", "169.254.255.255", "224.0.0.1", "224.0.0.255"},
		"unspecified":           {"0.0.0.0", "0.0.0.1", "0.255.255.255"},
		"multicast or reserved": {"224.0.1.0", "239.255.255.255", "240.0.0.1", "255.255.255.255"},
		"cloud metadata":        {"168.63.129.16", "100.100.100.200", "192.0.0.192"},
	}
	neverV6 := map[string][]string{
		"link-local": {
			"fe80::1", "fe80::1%eth0", "fe80::1%1", "febf:ffff::1", "FE80::A9FE:A9FE", "fe80:0:0:0:0:0:0:1", "ff02::1", "ff01::1", "ff02::1%lo", "ff12::1",
		},
		"unspecified":           {"::", "0:0:0:0:0:0:0:0", "::0.0.0.0", "::%eth0"},
		"multicast or reserved": {"ff05::1", "ff0e::1", "ff3e::8000:1"},
		"cloud metadata":        {"fd00:ec2::254", "fd00:ec2::254%eth0", "FD00:EC2:0:0::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42"},
	}
	loopback := []string{"127.0.0.1", "127.0.0.0", "127.0.0.53", "127.1.2.3", "127.255.255.255"}
	loopbackV6 := []string{"::1", "0:0:0:0:0:0:0:1", "::1%lo", "::0001", "::0.0.0.1"}
	private := []string{"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255", "100.64.0.1", "100.127.255.255"}
	privateV6 := []string{"fc00::1", "fd00::1", "fdff:ffff::1", "fd00::1%eth0", "fec0::1", "feff::1"}

	policies := []AddressPolicy{{}, {DenyPrivate: true}, {AllowLoopback: true}, {AllowLoopback: true, DenyPrivate: true}}
	checked := 0
	check := func(p AddressPolicy, text, kind string) {
		checked++
		a, err := netip.ParseAddr(text)
		if err != nil {
			t.Fatalf("the fixture %q is no address: %v", text, err)
		}
		switch err := p.Check(a); {
		case err == nil:
			t.Errorf("%+v: %s is allowed, and is %s", p, text, kind)
		case !strings.Contains(err.Error(), " "+kind+" address"):
			t.Errorf("%+v: %s: %v, want %s", p, text, err, kind)
		case strings.Contains(err.Error(), text):
			t.Errorf("the error repeats the address: %v", err)
		}
		// The dialer's hook sees what the resolver said, as text.
		if p.control("tcp", netip.AddrPortFrom(a, 80).String(), nil) == nil {
			t.Errorf("%+v: the dialer would connect to %s", p, text)
		}
	}
	all := func(p AddressPolicy, kind string, v4, v6 []string) {
		for _, text := range v4 {
			for _, spelt := range spellings(netip.MustParseAddr(text)) {
				if !carries(spelt, text) {
					continue
				}
				expected := kind
				if strings.HasPrefix(spelt, "fe80") {
					expected = "link-local"
				}
				check(p, spelt, expected)
				if strings.Contains(spelt, ":") && !strings.HasPrefix(spelt, "::ffff:") {
					if a := netip.MustParseAddr(spelt); !a.Is4In6() {
						check(p, spelt+"%eth0", expected)
					}
				}
			}
		}
		for _, text := range v6 {
			check(p, text, kind)
		}
	}
	for _, p := range policies {
		for kind, addresses := range never {
			all(p, kind, addresses, neverV6[kind])
		}
		if !p.AllowLoopback {
			all(p, "loopback", loopback, loopbackV6)
		}
		if p.DenyPrivate {
			all(p, "private", private, privateV6)
		}
		if p.Check(netip.Addr{}) == nil {
			t.Errorf("%+v: no address at all is allowed", p)
		}
	}
	t.Logf("%d spellings", checked)
}

// carries says whether spelt stands for the IPv4 address v4 in a network that routes it. No translator takes 0.0.0.0/8 or
// multicast for an address, and the forms of local NAT64 with such a one are read as something else.
// ::0.0.0.0 and ::0.0.0.1 are IPv6's own unspecified and loopback addresses.
func carries(spelt, v4 string) bool {
	first := netip.MustParseAddr(v4).As4()[0]
	if strings.HasPrefix(spelt, "64:ff9b:1:") {
		return first != 0 && first < 224
	}
	return netip.MustParseAddr(spelt) != netip.IPv6LinkLocalAllNodes() && (first != 0 || !netip.MustParseAddr(spelt).IsLoopback())
}

func TestCheckAllows(t *testing.T) {
	t.Parallel()
	checked := 0
	check := func(p AddressPolicy, text string) {
		checked++
		if err := p.Check(netip.MustParseAddr(text)); err != nil {
			t.Errorf("%+v: %s: %v", p, text, err)
		}
		if err := p.control("tcp", netip.AddrPortFrom(netip.MustParseAddr(text), 443).String(), nil); err != nil {
			t.Errorf("%+v: the dialer refuses %s: %v", p, text, err)
		}
	}
	public := []string{
		"1.1.1.1", "8.8.8.8", "93.184.216.34", "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0", "172.15.255.255",
		"172.32.0.1", "192.167.255.255", "192.169.0.1", "100.63.255.255", "100.128.0.1", "168.63.129.15", "168.63.129.17", "223.255.255.255", "11.0.0.1",
	}
	for _, p := range []AddressPolicy{{}, {DenyPrivate: true}, {AllowLoopback: true}} {
		for _, text := range public {
			for _, spelt := range spellings(netip.MustParseAddr(text)) {
				if !strings.HasPrefix(spelt, "fe80") {
					check(p, spelt)
				}
			}
		}
		for _, text := range []string{"2606:4700:4700::1111", "2001:4860:4860::8888", "2a00::1", "2001:db8::1", "2003::1", "fe00::1"} {
			check(p, text)
		}
	}
	for _, text := range []string{"10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "10.96.0.1"} {
		for _, spelt := range spellings(netip.MustParseAddr(text)) {
			if !strings.HasPrefix(spelt, "fe80") {
				check(AddressPolicy{}, spelt)
			}
		}
	}
	for _, text := range []string{"fd00::1", "fc00::1", "fd00:ec2::255", "fd00:ec2:1::254", "fec0::1"} {
		check(AddressPolicy{}, text)
	}
	for _, text := range []string{"127.0.0.1", "127.0.0.53", "::1", "::ffff:127.0.0.1", "::1%lo"} {
		check(AddressPolicy{AllowLoopback: true}, text)
		check(AddressPolicy{AllowLoopback: true, DenyPrivate: true}, text)
	}
	t.Logf("%d spellings", checked)
}

func TestControlRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "80", "crm:80", "127.1:80", "0177.0.0.1:80", "2130706433:80", "/run/socket", "10.0.0.1", "[::1]", "010.0.0.1:80"} {
		if (AddressPolicy{AllowLoopback: true}).control("tcp", address, nil) == nil {
			t.Errorf("%q passes", address)
		}
	}
}

// FuzzCheck says that no IPv6 form of a refused IPv4 address is allowed, and that Check never panics.
func FuzzCheck(f *testing.F) {
	f.Add([]byte{169, 254, 169, 254})
	f.Add([]byte{127, 0, 0, 1})
	f.Add([]byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{0, 0x64, 0xff, 0x9b, 0, 1, 0xa9, 0xfe, 0, 0xa9, 0xfe, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		for _, p := range []AddressPolicy{{}, {DenyPrivate: true}, {AllowLoopback: true}} {
			err := p.Check(a)
			if a.Is4() {
				for _, spelt := range spellings(a) {
					if err != nil && carries(spelt, a.String()) && p.Check(netip.MustParseAddr(spelt)) == nil {
						t.Errorf("%+v: %s is refused, %s is allowed", p, a, spelt)
					}
				}
				continue
			}
			if (p.Check(a.WithZone("eth0")) == nil) != (err == nil) {
				t.Errorf("%+v: %s is judged by its zone", p, a)
			}
			if err == nil && (a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || (a.IsLoopback() && !p.AllowLoopback)) {
				t.Errorf("%+v: %s is allowed", p, a)
			}
		}
	})
}
