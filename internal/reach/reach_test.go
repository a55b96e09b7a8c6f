package reach

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/address"
)

const segment = "abcdefghijklmnopqrstuvwxyz"

// authority signs certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Let's Sign\nEverything ü"}}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{t, key, cert}
}

func (a authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// sign makes a certificate for a name that ends in a time.
func (a authority) sign(name string, left time.Duration) tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(left),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

// nameServer knows hooks.example.com, which is 127.0.0.1.
func nameServer(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, peer, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			question := b[12:n]
			end := strings.IndexByte(string(question), 0) + 5
			answer := append([]byte{b[0], b[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question[:end]...)
			switch {
			case !strings.Contains(string(question), "hooks"):
				answer[3] |= 3 // no such name
			case binary.BigEndian.Uint16(question[end-4:]) == 1: // A
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)
			}
			_, _ = conn.WriteTo(answer, peer)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// answers is a receiver with a secret segment.
func answers(secret string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintln(w, contract.ProbeAnswer(secret, req.URL.Query().Get(contract.ProbeNonce)))
	}
}

// plain is a handler that always answers the same.
func plain(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://127.0.0.1/secret")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	public, private := newAuthority(t), newAuthority(t)
	const host = "hooks.example.com"
	good := public.sign(host, time.Hour)
	loopback := address.Policy{AllowLoopback: true}
	for name, tc := range map[string]struct {
		url    string
		policy address.Policy
		cert   tls.Certificate
		serve  http.HandlerFunc
		want   Outcome
	}{
		"the receiver":                      {policy: loopback, cert: good, serve: answers(segment), want: Reached},
		"a receiver with a previous URL":    {policy: loopback, cert: good, serve: answers(strings.Repeat("p", 26)), want: Reached},
		"another webhook's receiver":        {policy: loopback, cert: good, serve: answers(strings.Repeat("o", 26)), want: AnsweredByOther},
		"a receiver without a secret":       {policy: loopback, cert: good, serve: answers(""), want: AnsweredByOther},
		"a page":                            {policy: loopback, cert: good, serve: plain(200, "<html>Welcome</html>"), want: AnsweredByOther},
		"no route":                          {policy: loopback, cert: good, serve: plain(404, "default backend - 404"), want: AnsweredByOther},
		"a page without an end":             {policy: loopback, cert: good, serve: endless, want: AnsweredByOther},
		"headers without an end":            {policy: loopback, cert: good, serve: endlessHeaders, want: NoAnswer},
		"interim answers without an end":    {policy: loopback, cert: good, serve: interim, want: NoAnswer},
		"a login":                           {policy: loopback, cert: good, serve: plain(401, ""), want: Denied},
		"a firewall":                        {policy: loopback, cert: good, serve: plain(403, "blocked"), want: Denied},
		"a redirect":                        {policy: loopback, cert: good, serve: plain(308, ""), want: Redirected},
		"no receiver":                       {policy: loopback, cert: good, serve: plain(503, "no endpoints"), want: NoReceiver},
		"a proxy that gives up":             {policy: loopback, cert: good, serve: plain(504, ""), want: NoReceiver},
		"a connection that is cut":          {policy: loopback, cert: good, serve: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, want: NoAnswer},
		"a certificate for another name":    {policy: loopback, cert: public.sign("www.example.com", time.Hour), want: CertificateOfOther},
		"an expired certificate":            {policy: loopback, cert: public.sign(host, -time.Minute), want: CertificateExpired},
		"a private authority":               {policy: loopback, cert: private.sign(host, time.Hour), want: CertificateUntrusted},
		"the controller's own certificate":  {policy: loopback, cert: private.sign("TRAEFIK DEFAULT CERT", time.Hour), want: CertificateOfController},
		"a name without an address":         {policy: loopback, url: "https://nothing.example.com/a/b/" + segment, want: NoName},
		"a loopback address":                {cert: good, want: Blocked},
		"a loopback address without a name": {url: "https://127.0.0.1/a/b/" + segment, cert: good, want: Blocked},
		"a metadata address":                {policy: loopback, url: "https://169.254.169.254/a/b/" + segment, want: Blocked},
		"a metadata address in IPv6":        {policy: loopback, url: "https://[::ffff:a9fe:a9fe]/a/b/" + segment, want: Blocked},
		"a private address":                 {policy: address.Policy{DenyPrivate: true}, url: "https://10.0.0.1/a/b/" + segment, want: Blocked},
		"no TLS":                            {policy: loopback, url: "http://hooks.example.com/a/b/" + segment, want: NotAsked},
		"no URL":                            {policy: loopback, url: "https://", want: NotAsked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				requests.Add(1)
				if strings.Contains(req.URL.String(), segment) || req.Method != http.MethodPost || req.Host != host || req.URL.Path != "/a/b/"+contract.ProbeSegment {
					t.Errorf("asked with %s %s of %s", req.Method, req.URL, req.Host)
				}
				if req.Header.Get("Content-Type") != "application/json" || req.UserAgent() != "heymarket-operator-probe" || !req.Close {
					t.Errorf("asked with the header %v", req.Header)
				}
				if tc.serve != nil {
					tc.serve(w, req)
				}
			}))
			if tc.cert.PrivateKey == nil {
				tc.cert = good
			}
			server.TLS = &tls.Config{Certificates: []tls.Certificate{tc.cert}}
			server.StartTLS()
			defer server.Close()
			_, port, err := net.SplitHostPort(server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			url := tc.url
			if url == "" {
				url = "https://" + host + "/a/b/" + segment
			}
			got := Prober{Policy: tc.policy, roots: public.pool(), port: port, resolver: nameServer(t)}.Probe(t.Context(), url, []string{segment, strings.Repeat("p", 26)})
			if got.Outcome != tc.want {
				t.Errorf("outcome %d, want %d", got.Outcome, tc.want)
			}
			if n := requests.Load(); n > 1 || n == 0 && tc.want > CertificateOfController {
				t.Errorf("%d requests, want one", n)
			}
			if valid := tc.want > CertificateOfController; valid != (got.Issuer == "Let's SignEverything ") || valid == got.NotAfter.IsZero() {
				t.Errorf("issuer %q, until %v", got.Issuer, got.NotAfter)
			}
		})
	}
}

func endless(w http.ResponseWriter, req *http.Request) {
	for req.Context().Err() == nil {
		if _, err := io.WriteString(w, strings.Repeat("x", 1<<10)); err != nil {
			return
		}
	}
}

func endlessHeaders(w http.ResponseWriter, _ *http.Request) {
	hijacked(w, "HTTP/1.1 200 OK\r\n", "A: b\r\n")
}

func interim(w http.ResponseWriter, _ *http.Request) {
	hijacked(w, "", "HTTP/1.1 103 Early Hints\r\n\r\n")
}

// hijacked writes a beginning, and then the same until the peer has had enough.
func hijacked(w http.ResponseWriter, begin, again string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	for _, err = io.WriteString(conn, begin); err == nil; {
		_, err = io.WriteString(conn, again)
	}
}

// Nothing listens, or the server does not speak TLS.
func TestProbeWithoutAServer(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.9\r\n")
			_ = conn.Close()
		}
	}()
	p := Prober{Policy: address.Policy{AllowLoopback: true}, port: port, resolver: nameServer(t)}
	if got := p.Probe(t.Context(), "https://hooks.example.com/a/b/"+segment, nil).Outcome; got != NoTLS {
		t.Errorf("outcome %d of a port without TLS, want %d", got, NoTLS)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if got := p.Probe(t.Context(), "https://hooks.example.com/a/b/"+segment, nil).Outcome; got != NoConnection {
		t.Errorf("outcome %d of a closed port, want %d", got, NoConnection)
	}
}

// From a person's own machine the URL may be http and have a port, and every address is allowed.
func TestProbeFromTheOwnMachine(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(answers(segment))
	defer server.Close()
	path := "/a/b/" + segment
	for url, want := range map[string]Outcome{server.URL + path: Reached, "ftp" + strings.TrimPrefix(server.URL, "http") + path: NotAsked, "https" + strings.TrimPrefix(server.URL, "http") + path: NoTLS} {
		if got := (Prober{OwnMachine: true}).Probe(t.Context(), url, []string{segment}).Outcome; got != want {
			t.Errorf("%s: outcome %d, want %d", url, got, want)
		}
	}
	if got := (Prober{}).Probe(t.Context(), server.URL+path, []string{segment}).Outcome; got != NotAsked {
		t.Errorf("the operator asked without TLS: outcome %d", got)
	}
}

func TestUntrusted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		want Outcome
	}{
		"expired":         {x509.CertificateInvalidError{Reason: x509.Expired}, CertificateExpired},
		"no authority's":  {x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, CertificateUntrusted},
		"unknown":         {x509.UnknownAuthorityError{}, CertificateUntrusted},
		"of another name": {x509.HostnameError{Certificate: &x509.Certificate{}}, CertificateOfOther},
	} {
		if got := untrusted(&tls.CertificateVerificationError{Err: tc.err}); got != tc.want {
			t.Errorf("%s: outcome %d, want %d", name, got, tc.want)
		}
	}
}

func TestIssuer(t *testing.T) {
	t.Parallel()
	for want, name := range map[string]pkix.Name{
		"~CN~": {CommonName: "~CN~"}, "An organization": {CommonName: "CN", Organization: []string{"An organization", "Another"}},
		strings.Repeat("x", issuerBytes): {CommonName: strings.Repeat("x", issuerBytes+1)}, "": {},
	} {
		if got := issuer(&x509.Certificate{Issuer: name}); got != want {
			t.Errorf("the issuer %v is named %q, want %q", name, got, want)
		}
	}
}
