package console

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
)

const (
	openPath = "/open/"
	// formBytes bounds the form of a request, unless its route has another bound.
	formBytes = 64 << 10
	// contentSecurityPolicy allows only resources of this process, and nothing inline. Images may also be data: URLs, for the
	// arrow of selects.
	contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
		"frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
)

// guard admits only the browser that opened the address with the secret.
//
// Every program on this machine can connect to loopback, and every page in the user's browser can send requests there. So a
// request needs the session's cookie, which SameSite withholds from requests of other sites; its Host must be the address itself,
// because a page whose name resolves to loopback (DNS rebinding) would appear to be of the same origin; and its origin, as sent
// by the browser, must be this one, because SameSite treats other ports of this machine as the same site. A request that changes
// something also needs a token that only the console's own pages have.
type guard struct {
	host          string // address and port
	cookie        string // its name; cookies are shared by all ports of a host
	session, csrf string

	mu     sync.Mutex
	secret string // of the address
	spent  bool
}

func newGuard(address string) *guard {
	_, port, _ := net.SplitHostPort(address)
	return &guard{host: address, cookie: "heymarket-console-" + port, session: rand.Text(), csrf: rand.Text(), secret: rand.Text()}
}

// protect passes a request on to pages, or to assets, if it is allowed. bound returns how many bytes its form may have.
func (g *guard) protect(w http.ResponseWriter, r *http.Request, pages, assets http.Handler, bound func(*http.Request) int64) {
	head := w.Header()
	head.Set("Content-Security-Policy", contentSecurityPolicy)
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "same-origin")
	head.Set("Cross-Origin-Opener-Policy", "same-origin")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Cache-Control", "no-store")
	from := r.Header.Get("Sec-Fetch-Site")
	switch {
	case r.Host != g.host:
		http.Error(w, "Open the console by the address that the command printed.", http.StatusMisdirectedRequest)
	case from != "" && from != "none" && from != "same-origin":
		refuse(w, "Requests from other pages are rejected. Paste the console's address into the address bar.")
	case strings.HasPrefix(r.URL.Path, "/assets/") || strings.HasPrefix(r.URL.Path, "/vendored/"):
		assets.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, openPath):
		g.open(w, r)
	case !g.knows(r):
		refuse(w, "This browser has not opened the console. Run the command again and open the address that it prints: each one works once.")
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		pages.ServeHTTP(w, r)
	default:
		most := bound(r)
		r.Body = http.MaxBytesReader(w, r.Body, most)
		if err := r.ParseForm(); err != nil { // what remains of the form would select more
			if _, larger := errors.AsType[*http.MaxBytesError](err); larger {
				http.Error(w, fmt.Sprintf("The form is larger than %d KiB: nothing was changed. Go back and shorten what you entered.", most>>10), http.StatusRequestEntityTooLarge)
				return
			}
			http.Error(w, "The form cannot be read: nothing was changed. Reload the page and try again.", http.StatusBadRequest)
			return
		}
		if !g.isOwn(r, from) {
			refuse(w, "This change did not come from a page of the console. Reload the page and try again.")
			return
		}
		pages.ServeHTTP(w, r)
	}
}

func refuse(w http.ResponseWriter, sentence string) { http.Error(w, sentence, http.StatusForbidden) }

// open exchanges the secret for the session's cookie.
func (g *guard) open(w http.ResponseWriter, r *http.Request) {
	if !g.spend(r) {
		refuse(w, "This address is not valid, or it has been opened before. Run the command again and open the address that it prints: each one works once.")
		return
	}
	http.SetCookie(w, &http.Cookie{Name: g.cookie, Value: g.session, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	to := "/"
	if name := r.URL.Query().Get("webhook"); name != "" {
		to = hookPath(name)
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// spend reports whether a request carries the secret for the first time.
func (g *guard) spend(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	good := !g.spent && same(strings.TrimPrefix(r.URL.Path, openPath), g.secret)
	g.spent = g.spent || good
	return good
}

func (g *guard) knows(r *http.Request) bool {
	cookie, err := r.Cookie(g.cookie)
	return err == nil && same(cookie.Value, g.session)
}

// isOwn reports whether a page of the console sent a request. A browser sends the origin of each POST in at least one of two
// headers.
func (g *guard) isOwn(r *http.Request, site string) bool {
	origin := r.Header.Get("Origin")
	switch {
	case origin == "" && site == "", origin != "" && origin != "http://"+g.host, site != "" && site != "same-origin":
		return false
	}
	return same(r.PostFormValue("csrf"), g.csrf)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
