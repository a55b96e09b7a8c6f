package target

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/address"
	"heymarket.dev/operator/internal/receiver/address/addresstest"
)

// goal is how many attempts to reach a refused address are made; none may become a connection.
const goal = 20_000

// public is an address that every policy allows. No test connects to it.
var public = netip.MustParseAddr("93.184.216.34")

// gate counts what a dialer would connect to, and lets nothing pass but lets.
type gate struct {
	mu sync.Mutex
	// asked counts the addresses of the dialer, reached those that the policy let through.
	asked   int
	reached map[netip.Addr]int
	lets    netip.AddrPort
}

var errStub = errors.New("the stub connects to nothing")

// guard makes t dial by way of the gate, with names from the resolver.
func (g *gate) guard(t *Target, o Options, names *net.Resolver) {
	d := o.dialer()
	d.Resolver = names
	policy := d.Control
	d.Control = func(network, to string, c syscall.RawConn) error {
		err := policy(network, to, c)
		at, parseErr := netip.ParseAddrPort(to)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.asked++
		switch {
		case err != nil:
			return err
		case parseErr != nil:
			return parseErr
		case at == g.lets:
			return nil
		}
		g.reached[at.Addr().WithZone("")]++
		return errStub
	}
	t.transport.DialContext = d.DialContext
}

// names is a DNS server of one name at a time: each question of a type is answered by the next list.
type names struct {
	mu      sync.Mutex
	answers [][]netip.Addr
	asked   map[uint16]int
}

func (n *names) say(answers ...[]netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers, n.asked = answers, map[uint16]int{}
}

func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go n.serve(server)
		return client, nil
	}}
}

// serve answers questions with a length in front, as DNS does over a stream.
func (n *names) serve(c net.Conn) {
	defer c.Close()
	buffer := make([]byte, 2+512)
	for {
		if _, err := c.Read(buffer[:2]); err != nil {
			return
		}
		size, err := c.Read(buffer[2:])
		if err != nil {
			return
		}
		answer := n.answer(buffer[2 : 2+size])
		if answer == nil {
			return
		}
		if _, err := c.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...)); err != nil {
			return
		}
	}
}

// Types of DNS records (RFC 1035, RFC 3596).
const (
	recordA    = 1
	recordAAAA = 28
)

// answer is the message that answers a query of one question (RFC 1035, section 4), or nil.
func (n *names) answer(query []byte) []byte {
	const head, internet, ttl = 12, 1, 0
	end := head
	for end < len(query) && query[end] != 0 {
		end += 1 + int(query[end])
	}
	end += 5 // the root label, type and class
	if len(query) < end || binary.BigEndian.Uint16(query[4:]) != 1 {
		return nil
	}
	kind := binary.BigEndian.Uint16(query[end-4:])
	var records []byte
	count := 0
	for _, a := range n.next(kind) {
		if (kind == recordA && a.Is4()) || (kind == recordAAAA && a.Is6()) {
			for _, field := range []uint16{0xC000 | head, kind, internet, 0, ttl, uint16(a.BitLen() / 8)} { // the name is that of the question
				records = binary.BigEndian.AppendUint16(records, field)
			}
			records, count = append(records, a.AsSlice()...), count+1
		}
	}
	out := slices.Clone(query[:end])
	out[2], out[3] = out[2]|0x80, 0x80 // a response, of a server that resolves
	binary.BigEndian.PutUint16(out[6:], uint16(count))
	binary.BigEndian.PutUint32(out[8:], 0)
	return append(out, records...)
}

func (n *names) next(kind uint16) []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := min(n.asked[kind], len(n.answers)-1)
	n.asked[kind]++
	return n.answers[i]
}

// refusedAddresses are n that the policy of a cluster with public targets alone refuses, spread over the kinds and over
// the IPv6 forms that carry them; the same in every run.
func refusedAddresses(t *testing.T, n int) []netip.Addr {
	t.Helper()
	random := rand.New(rand.NewPCG(20261121, 1)) //nolint:gosec // The same in every run.
	var v4 []netip.Prefix
	for _, text := range []string{
		"169.254.0.0/16", "127.0.0.0/8", "0.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "224.0.0.0/4", "240.0.0.0/4",
		"169.254.169.254/32", "169.254.170.2/32", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32",
	} {
		v4 = append(v4, netip.MustParsePrefix(text))
	}
	var v6 []netip.Prefix
	for _, text := range []string{"fe80::/10", "fc00::/7", "fec0::/10", "ff00::/8", "::1/128", "::/128", "fd00:ec2::254/128", "fd20:ce::254/128"} {
		v6 = append(v6, netip.MustParsePrefix(text))
	}
	seen, out := map[netip.Addr]bool{}, []netip.Addr{}
	add := func(a netip.Addr) {
		if !seen[a] && len(out) < n {
			seen[a] = true
			out = append(out, a)
		}
	}
	for range 100 * n {
		if len(out) == n {
			return out
		}
		add(inside(random, v6[random.IntN(len(v6))]))
		a := inside(random, v4[random.IntN(len(v4))])
		forms := addresstest.Spellings(a)
		if form := forms[random.IntN(len(forms))]; addresstest.Carries(form, a.String()) {
			add(netip.MustParseAddr(form))
		}
	}
	t.Fatalf("made %d addresses, want %d", len(out), n)
	return nil
}

// inside returns an address of the network.
func inside(random *rand.Rand, network netip.Prefix) netip.Addr {
	b := network.Addr().AsSlice()
	for i := network.Bits(); i < 8*len(b); i++ {
		b[i/8] |= byte(random.IntN(2)) << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// writings are ways to write an address in a URL.
func writings(a netip.Addr) []string {
	if a.Is4() {
		return []string{a.String(), "[::ffff:" + a.String() + "]"}
	}
	out := []string{"[" + a.String() + "]", "[" + strings.ToUpper(a.StringExpanded()) + "]"}
	if !a.Is4In6() {
		out = append(out, "["+a.String()+"%25eth0]")
	}
	return out
}

// A target's owner may write an address in any way, and its DNS may answer one thing now and another in a
// moment, several at once, or lead elsewhere by a redirect. Nothing that is refused is ever connected to. This counts
// behind the policy, at the last moment before a connection.
func TestNothingReachesRefusedAddresses(t *testing.T) {
	t.Parallel()
	addresses := refusedAddresses(t, goal/7)
	o := Options{Timeout: 5 * time.Second, MaxInFlight: 1, Addresses: address.Policy{DenyPrivate: true}}
	g := &gate{reached: map[netip.Addr]int{}}
	dns := &names{}
	resolver := dns.resolver()
	tries := 0
	send := func(host string) {
		o.URL = "http://" + host + "/in"
		target := New(o)
		g.guard(target, o, resolver)
		tries++
		if out := target.Send(t.Context(), sample, 1); out.Err == nil {
			t.Errorf("%s answered %d", o.URL, out.Status)
		}
	}
	for _, a := range addresses {
		for _, text := range writings(a) {
			send(text)
		}
		host := fmt.Sprintf("n%d.example", tries)
		dns.say([]netip.Addr{a})
		send(host)
		dns.say([]netip.Addr{public}, []netip.Addr{a}) // It rebinds between two attempts.
		send(host)
		send(host)
		dns.say([]netip.Addr{a, public, a}) // Happy eyeballs try the next one.
		send(host)
	}
	// The ways of old libraries to write 127.0.0.1 and 169.254.169.254 are names here, whatever they resolve to.
	for _, host := range []string{"127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0x7f000001", "169.254.43518", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "127.0.0.1.", "localhost", "LOCALHOST."} {
		dns.say([]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.169.254")})
		send(host)
	}
	onlyPublic(t, g)
	if g.reached[public] < 2*len(addresses) {
		t.Errorf("%d connections to the public address, want two for each of %d: the rebinding was none", g.reached[public], len(addresses))
	}
	redirected := redirects(t, addresses)
	t.Logf("%d attempts and %d redirects; %d addresses asked about", tries, redirected, g.asked)
	if tries+redirected < goal {
		t.Errorf("%d attempts, want %d", tries+redirected, goal)
	}
}

func onlyPublic(t *testing.T, g *gate) {
	t.Helper()
	for a, n := range g.reached {
		if a != public {
			t.Errorf("%d connections to %s", n, a)
		}
	}
	if g.asked == 0 {
		t.Error("no dialer was asked")
	}
}

// redirects has a target on this machine, which alone is allowed, answer each attempt by a redirect to a refused address.
func redirects(t *testing.T, addresses []netip.Addr) int {
	t.Helper()
	var next atomic.Value
	codes := []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect}
	var served atomic.Int64
	server := quiet(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", next.Load().(string))
		w.WriteHeader(codes[int(served.Add(1))%len(codes)])
	})
	server.Start()
	g := &gate{reached: map[netip.Addr]int{}, lets: netip.MustParseAddrPort(server.Listener.Addr().String())}
	o := Options{URL: server.URL, Timeout: 5 * time.Second, MaxInFlight: 1, Addresses: address.Policy{AllowLoopback: true, DenyPrivate: true}}
	target := New(o)
	defer target.Close()
	g.guard(target, o, net.DefaultResolver)
	for _, a := range addresses {
		next.Store("http://" + writings(a)[0] + "/in")
		if out := target.Send(t.Context(), sample, 1); out.Err != nil || out.Status < 300 || out.Status > 399 {
			t.Fatalf("redirect %d: %+v", served.Load(), out)
		}
	}
	onlyPublic(t, g)
	return int(served.Load())
}
