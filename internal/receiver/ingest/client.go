package ingest

import (
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// client returns the address that failed tokens of a request count against. own reports that it is the client's address,
// not that of a proxy shared by many; it is false unless proxies are trusted, since otherwise a proxy cannot be detected.
//
// Each proxy appends its peer's address to a header. So the last entry that is not a trusted proxy is the client; earlier
// entries are unverified claims of the client.
func client(req *http.Request, trusted []netip.Prefix) (address netip.Addr, own bool) {
	peer, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false
	}
	address = peer.Addr().Unmap().WithZone("")
	if len(trusted) == 0 {
		return subscriber(address), false
	}
	if !contains(trusted, address) {
		return subscriber(address), true // headers from an untrusted peer are ignored
	}
	if named, ok := namedClient(req.Header, trusted); ok {
		return subscriber(named), true
	}
	return subscriber(address), false
}

// namedClient returns the client named by the headers, if any.
func namedClient(h http.Header, trusted []netip.Prefix) (netip.Addr, bool) {
	for entry := range hops(h) {
		hop, ok := parseNode(entry)
		if !ok {
			break
		}
		if !contains(trusted, hop) {
			return hop, true
		}
	}
	return netip.Addr{}, false
}

// hops yields the peers that proxies have recorded, the last one first. Nearly all proxies write X-Forwarded-For; the
// other headers count only if it is missing, since a proxy passes on headers that it does not write itself.
func hops(h http.Header) iter.Seq[string] {
	if values := h["X-Forwarded-For"]; len(values) > 0 {
		return fromTheRight(values, func(entry string) string { return entry })
	}
	if values := h["Forwarded"]; len(values) > 0 {
		return fromTheRight(values, forwardedFor)
	}
	return fromTheRight(h["X-Real-Ip"], func(entry string) string { return entry })
}

// fromTheRight applies node to the entries of a list header and yields the results, the last one first. Quotes are also
// matched from the right: one that a client leaves open spoils only the client's own entries.
func fromTheRight(values []string, node func(string) string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, rest := range slices.Backward(values) {
			for more := true; more; {
				var entry string
				rest, entry, more = cutLast(rest, ',')
				if !yield(node(strings.TrimSpace(entry))) {
					return
				}
			}
		}
	}
}

// cutLast cuts a list at its last unquoted separator. found is false if there is none.
func cutLast(list string, separator byte) (before, last string, found bool) {
	quoted := false
	for i := len(list) - 1; i >= 0; i-- {
		switch {
		case list[i] == '"':
			quoted = !quoted
		case list[i] == separator && !quoted:
			return list[:i], list[i+1:], true
		}
	}
	return "", list, false
}

// forwardedFor returns the parameter "for" of an element of the header Forwarded (RFC 7239), or "" if it has none or
// several.
func forwardedFor(element string) string {
	node, seen := "", false
	for more := true; more; {
		var pair string
		element, pair, more = cutLast(element, ';')
		name, value, _ := strings.Cut(pair, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "for") {
			continue
		}
		if seen {
			return ""
		}
		node, seen = strings.TrimSpace(value), true
	}
	if n := len(node); n >= 2 && node[0] == '"' && node[n-1] == '"' {
		node = node[1 : n-1]
	}
	return node
}

// parseNode parses an entry: an address, to which some proxies append a port. An IPv6 address may be in brackets.
func parseNode(entry string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(entry); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

const ipv6Prefix = 64 // one subscriber's addresses

// subscriber maps all addresses that one IPv6 subscriber can choose from to a single address.
func subscriber(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(ipv6Prefix)
	if err != nil {
		return a
	}
	return p.Addr()
}
