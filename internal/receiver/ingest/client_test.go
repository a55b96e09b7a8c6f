package ingest

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

var proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}

func TestClient(t *testing.T) {
	t.Parallel()
	const proxy = "10.0.0.1:1"
	xff := func(values ...string) http.Header { return http.Header{"X-Forwarded-For": values} }
	forwarded := func(values ...string) http.Header { return http.Header{"Forwarded": values} }
	for _, tt := range []struct {
		peer   string
		header http.Header
		want   string
		own    bool
	}{
		{"203.0.113.7:1", nil, "203.0.113.7", true},
		{"[::ffff:203.0.113.7]:1", nil, "203.0.113.7", true},
		{"[2001:db8:1:2:3:4:5:6]:1", nil, "2001:db8:1:2::", true},
		{proxy, xff("198.51.100.1"), "198.51.100.1", true},
		{proxy, xff("198.51.100.1:5555"), "198.51.100.1", true},
		{proxy, xff("[2001:db8::1]:5555"), "2001:db8::", true},
		{proxy, xff("[2001:db8::1]"), "2001:db8::", true},
		{"[fd00::1]:1", xff("1.1.1.1, 198.51.100.1,10.2.2.2"), "198.51.100.1", true},
		{proxy, xff("1.1.1.1", "198.51.100.1", "10.2.2.2"), "198.51.100.1", true},
		{proxy, xff("\"1.1.1.1, 198.51.100.1"), "198.51.100.1", true},
		{proxy, xff("198.51.100.1", "nonsense"), "10.0.0.1", false},
		{proxy, xff("198.51.100.1,"), "10.0.0.1", false},
		{proxy, xff(",198.51.100.1"), "198.51.100.1", true},
		{proxy, xff(""), "10.0.0.1", false},
		{proxy, nil, "10.0.0.1", false},
		{proxy, xff("10.3.3.3"), "10.0.0.1", false},
		{"@", xff("198.51.100.1"), "invalid IP", false},

		{proxy, forwarded("for=198.51.100.1"), "198.51.100.1", true},
		{proxy, forwarded(`For="198.51.100.1:4711"`), "198.51.100.1", true},
		{proxy, forwarded(`for="[2001:db8:cafe::17]:4711"`), "2001:db8:cafe::", true},
		{proxy, forwarded("proto=https;by=10.0.0.1; for=198.51.100.1;host=a"), "198.51.100.1", true},
		{proxy, forwarded("for=1.1.1.1, for=198.51.100.1;proto=https, for=10.2.2.2"), "198.51.100.1", true},
		{proxy, forwarded("for=1.1.1.1", `for="198.51.100.1"`, "for=10.2.2.2"), "198.51.100.1", true},
		{proxy, forwarded(`for="1.1.1.1, for=198.51.100.1`), "198.51.100.1", true}, // a quote that the client left open
		{proxy, forwarded(`host="a,b;for=1.1.1.1";for=198.51.100.1`), "198.51.100.1", true},
		{proxy, forwarded("for=unknown"), "10.0.0.1", false},
		{proxy, forwarded("for=198.51.100.1, for=_hidden"), "10.0.0.1", false},
		{proxy, forwarded("for=198.51.100.1, proto=https"), "10.0.0.1", false},
		{proxy, forwarded("for=198.51.100.1;for=1.1.1.1"), "10.0.0.1", false},
		{proxy, forwarded("198.51.100.1"), "10.0.0.1", false},
		{proxy, forwarded(`for="198.51.100.1`), "10.0.0.1", false},

		{proxy, http.Header{"X-Real-Ip": {"198.51.100.1"}}, "198.51.100.1", true},
		{proxy, http.Header{"X-Real-Ip": {"10.2.2.2"}}, "10.0.0.1", false},
		{proxy, http.Header{"X-Real-Ip": {"nonsense"}}, "10.0.0.1", false},

		// A proxy passes on what it does not write itself.
		{proxy, http.Header{"X-Forwarded-For": {"198.51.100.1"}, "Forwarded": {"for=1.1.1.1"}, "X-Real-Ip": {"1.1.1.1"}}, "198.51.100.1", true},
		{proxy, http.Header{"Forwarded": {"for=198.51.100.1"}, "X-Real-Ip": {"1.1.1.1"}}, "198.51.100.1", true},
		{"203.0.113.7:1", forwarded("for=198.51.100.1"), "203.0.113.7", true},
	} {
		req := post("")
		req.RemoteAddr, req.Header = tt.peer, tt.header
		if got, own := client(req, proxies); got.String() != tt.want || own != tt.own {
			t.Errorf("client(%s, %q) = %s, %v; want %s, %v", tt.peer, tt.header, got, own, tt.want, tt.own)
		}
	}
}

// FuzzClient lets a client write anything before the entry of a trusted proxy: only the proxy's entry counts.
func FuzzClient(f *testing.F) {
	f.Add("198.51.100.1, 10.2.2.2", uint8(0))
	f.Add(`for="[2001:db8::1%eth0]:5555,,`, uint8(1))
	f.Add(`for=1.1.1.1;by="\",`, uint8(1))
	f.Add("1.1.1.1", uint8(2))
	f.Fuzz(func(t *testing.T, word string, mode uint8) {
		const honest = "198.51.100.77"
		name, entry := "X-Forwarded-For", honest
		switch mode % 3 {
		case 1:
			name, entry = "Forwarded", `proto=https;for="`+honest+`:4711"`
		case 2:
			name = "X-Real-Ip"
		}
		req := post("")
		req.RemoteAddr = "10.0.0.1:1"
		req.Header[name] = []string{word}
		if got, own := client(req, proxies); own && (!got.IsValid() || contains(proxies, got) && !got.Is6()) {
			t.Errorf("client(%s: %q) = %s, its own", name, word, got)
		}
		for what, values := range map[string][]string{
			"in a line of its own": {word, entry}, "in the same line": {word + ", " + entry},
			"and another proxy after it": {word + "," + entry, strings.Replace(entry, honest, "10.9.9.9", 1)},
		} {
			req.Header[name] = values
			if got, own := client(req, proxies); !own || got.String() != honest {
				t.Errorf("client(%s: %q), the proxy's word %s = %s, %v; want %s", name, values, what, got, own, honest)
			}
		}
	})
}
