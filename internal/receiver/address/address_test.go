package address_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/receiver/address"
	"heymarket.dev/operator/internal/receiver/address/addresstest"
)

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	never := map[string][]string{ // under every policy
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

	policies := []address.Policy{{}, {DenyPrivate: true}, {AllowLoopback: true}, {AllowLoopback: true, DenyPrivate: true}}
	checked := 0
	check := func(p address.Policy, text, kind string) {
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
		if p.Control("tcp", netip.AddrPortFrom(a, 80).String(), nil) == nil {
			t.Errorf("%+v: the dialer would connect to %s", p, text)
		}
	}
	all := func(p address.Policy, kind string, v4, v6 []string) {
		for _, text := range v4 {
			for _, spelt := range addresstest.Spellings(netip.MustParseAddr(text)) {
				if !addresstest.Carries(spelt, text) {
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

func TestCheckAllows(t *testing.T) {
	t.Parallel()
	checked := 0
	check := func(p address.Policy, text string) {
		checked++
		if err := p.Check(netip.MustParseAddr(text)); err != nil {
			t.Errorf("%+v: %s: %v", p, text, err)
		}
		if err := p.Control("tcp", netip.AddrPortFrom(netip.MustParseAddr(text), 443).String(), nil); err != nil {
			t.Errorf("%+v: the dialer refuses %s: %v", p, text, err)
		}
	}
	public := []string{
		"1.1.1.1", "8.8.8.8", "93.184.216.34", "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0", "172.15.255.255",
		"172.32.0.1", "192.167.255.255", "192.169.0.1", "100.63.255.255", "100.128.0.1", "168.63.129.15", "168.63.129.17", "223.255.255.255", "11.0.0.1",
	}
	for _, p := range []address.Policy{{}, {DenyPrivate: true}, {AllowLoopback: true}} {
		for _, text := range public {
			for _, spelt := range addresstest.Spellings(netip.MustParseAddr(text)) {
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
		for _, spelt := range addresstest.Spellings(netip.MustParseAddr(text)) {
			if !strings.HasPrefix(spelt, "fe80") {
				check(address.Policy{}, spelt)
			}
		}
	}
	for _, text := range []string{"fd00::1", "fc00::1", "fd00:ec2::255", "fd00:ec2:1::254", "fec0::1"} {
		check(address.Policy{}, text)
	}
	for _, text := range []string{ // each a bit beside a form that carries an IPv4 address
		"2606:4700::100:5efe:7f00:1", "2606:4700::1:5efe:7f00:1", "2606:4700::5ffe:7f00:1", "2606:4700::5eff:7f00:1", "64:ff9b:1::e000:101",
	} {
		check(address.Policy{}, text)
	}
	for _, text := range []string{"127.0.0.1", "127.0.0.53", "::1", "::ffff:127.0.0.1", "::1%lo"} {
		check(address.Policy{AllowLoopback: true}, text)
		check(address.Policy{AllowLoopback: true, DenyPrivate: true}, text)
	}
	t.Logf("%d spellings", checked)
}

// A NetworkPolicy blocks the addresses that no policy allows.
func TestNeverDialed(t *testing.T) {
	t.Parallel()
	networks := address.NeverDialed()
	for _, text := range []string{"169.254.169.254", "fe80::1", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd00:c1::a9fe:a9fe", "fd00:42::42", "fd20:ce::254"} {
		a := netip.MustParseAddr(text)
		if !slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) }) {
			t.Errorf("%s is in none of %v", text, networks)
		}
	}
	for _, n := range networks {
		if (address.Policy{AllowLoopback: true}).Check(n.Addr()) == nil {
			t.Errorf("%s is shut off, and may be dialed", n)
		}
	}
}

// TestAllowedNetworksOpenNothingElse checks that AllowNetworks is an exception to DenyPrivate alone, however wide the networks
// are: loopback, link-local and metadata addresses stay refused in every spelling.
func TestAllowedNetworksOpenNothingElse(t *testing.T) {
	t.Parallel()
	prefixes := func(texts ...string) (out []netip.Prefix) {
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	refused := []string{
		"127.0.0.1", "169.254.169.254", "169.254.170.2", "0.0.0.0", "224.0.0.1", "255.255.255.255", "100.100.100.200", "168.63.129.16", "192.0.0.192",
		"::1", "::", "fe80::1", "ff02::1", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42",
	}
	for _, networks := range [][]netip.Prefix{
		prefixes("0.0.0.0/0", "::/0"),
		prefixes("127.0.0.0/8", "169.254.0.0/16", "100.64.0.0/10", "fd00::/8", "fe80::/10", "::1/128", "168.63.129.16/32"),
		prefixes("::ffff:127.0.0.0/104", "64:ff9b::/96", "2002::/16"),
	} {
		p := address.Policy{DenyPrivate: true, AllowNetworks: networks}
		for _, text := range refused {
			a := netip.MustParseAddr(text)
			if p.Check(a) == nil {
				t.Errorf("%v allow %s", networks, text)
			}
			if !a.Is4() {
				continue
			}
			for _, spelt := range addresstest.Spellings(a) {
				if addresstest.Carries(spelt, text) && p.Check(netip.MustParseAddr(spelt)) == nil {
					t.Errorf("%v allow %s (%s)", networks, spelt, text)
				}
			}
		}
	}
	p := address.Policy{DenyPrivate: true, AllowNetworks: prefixes("10.96.0.0/12")}
	for text, allowed := range map[string]bool{"10.96.0.1": true, "10.111.255.255": true, "10.112.0.1": false, "192.168.0.1": false, "1.1.1.1": true} {
		if err := p.Check(netip.MustParseAddr(text)); (err == nil) != allowed {
			t.Errorf("%s: %v, want allowed %t", text, err, allowed)
		}
	}
}

func TestControlRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"", "80", "crm:80", "127.1:80", "0177.0.0.1:80", "2130706433:80", "/run/socket", "10.0.0.1", "[::1]", "010.0.0.1:80"} {
		if (address.Policy{AllowLoopback: true}).Control("tcp", to, nil) == nil {
			t.Errorf("%q passes", to)
		}
	}
}

// FuzzCheck checks that no IPv6 form of a refused IPv4 address is allowed, and that Check never panics.
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
		for _, p := range []address.Policy{{}, {DenyPrivate: true}, {AllowLoopback: true}} {
			err := p.Check(a)
			if a.Is4() {
				for _, spelt := range addresstest.Spellings(a) {
					if err != nil && addresstest.Carries(spelt, a.String()) && p.Check(netip.MustParseAddr(spelt)) == nil {
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
