package ingest

import (
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// client returns the address that a request's failures count against. own reports that it is the client's and not that of
// a proxy for many; it is false unless proxies are trusted, since otherwise a proxy cannot be detected.
//
// Each proxy appends its peer's address to a header. So the last entry that is not a trusted proxy is the client; entries
// before it are claims of the client.
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
		return subscriber(address), true // a header that a stranger sends says nothing
	}
	if named, ok := namedClient(req.Header, trusted); ok {
		return subscriber(named), true
	}
	return subscriber(address), false
}

// namedClient returns the client that the headers name, where they do.
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

// hops yields the peers that proxies have written down, the last one first. X-Forwarded-For is what nearly all of them
// write; the others count only where it is missing, since a proxy passes on those that it does not write itself.
func hops(h http.Header) iter.Seq[string] {
	if values := h["X-Forwarded-For"]; len(values) > 0 {
		return fromTheRight(values, func(entry string) string { return entry })
	}
	if values := h["Forwarded"]; len(values) > 0 {
		return fromTheRight(values, forwardedFor)
	}
	return fromTheRight(h["X-Real-Ip"], func(entry string) string { return entry })
}

// fromTheRight yields what node makes of the entries of a list header, the last one first. Quotes are matched from the
// right as well: one that a client has left open spoils only what the client wrote.
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

// cutLast cuts a list at its last separator that does not stand in quotes. Found is false when there is none.
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

// forwardedFor returns the parameter "for" of an element of the header Forwarded (RFC 7239), or "" where it has none or
// more than one.
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

// parseNode reads an entry: an address, which some proxies put a port behind. An IPv6 address may stand in brackets.
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

// subscriber folds the addresses that one IPv6 subscriber can choose from into one.
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
