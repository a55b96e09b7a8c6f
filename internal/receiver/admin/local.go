package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// local allows only requests from a person's own programs. While a port-forward is open, a web page in that person's
// browser can send requests here as well: those from another origin are rejected, and so is a Host that is not this
// machine, by which a page whose name resolves to loopback (DNS rebinding) would appear to be of the same origin.
func local(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLocal(r.Host) {
			http.Error(w, "The host of this URL must be localhost or a loopback address.", http.StatusMisdirectedRequest)
			return
		}
		asChange := *r
		asChange.Method = http.MethodPost // a page could not read the answer to a GET, but it could keep the receiver busy
		if protection.Check(&asChange) != nil {
			http.Error(w, "Requests from web pages are rejected: use kubectl heymarket dead, or curl.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isLocal(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && address.Unmap().IsLoopback()
}
