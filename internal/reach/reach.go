// Package reach probes the public URL of a webhook as Heymarket would, through DNS, TLS and the route, and determines whether the
// webhook's own receiver answers: for the operator's condition Reachable, and for `kubectl heymarket doctor` on a user's machine.
// A tenant controls the host of the URL: the operator's probe connects only to addresses that its policy allows, follows no
// redirect, reads a bounded answer in bounded time, and returns nothing of the answer.
package reach

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/address"
)

const (
	// timeout bounds one probe.
	timeout = 10 * time.Second
	// answerBytes bounds an answer, headers included.
	answerBytes = 32 << 10
	// issuerBytes bounds the name of an issuer.
	issuerBytes = 64
)

// Outcome is how far a probe got.
type Outcome int

// The outcomes, in the order of the steps of a request.
const (
	// NotAsked: the URL is not one that Heymarket could call.
	NotAsked Outcome = iota
	// NoName: the host has no address in DNS.
	NoName
	// Blocked: the host resolves to an address that the operator never connects to, see Result.Blocked.
	Blocked
	// NoConnection: nothing accepts connections on port 443.
	NoConnection
	// NoTLS: the server does not speak TLS, or aborts the handshake.
	NoTLS
	// CertificateExpired: the certificate has expired, or is not valid yet.
	CertificateExpired
	// CertificateOfOther: the certificate is for other names.
	CertificateOfOther
	// CertificateUntrusted: no public authority has signed it.
	CertificateUntrusted
	// CertificateOfController: it is the default certificate of an ingress controller that has none for the host.
	CertificateOfController
	// NoAnswer: the connection ended, or the timeout expired, without an answer.
	NoAnswer
	// NoReceiver: a proxy answers that it cannot reach the receiver.
	NoReceiver
	// Redirected: the answer is a redirect.
	Redirected
	// Denied: the answer requires a login, or denies access.
	Denied
	// AnsweredByOther: the server is not the receiver of this webhook.
	AnsweredByOther
	// Reached: the receiver of this webhook answers.
	Reached
)

// Result is the result of one probe.
type Result struct {
	Outcome Outcome
	// Blocked is the kind of blocked address, such as loopback.
	Blocked string
	// Issuer is the name of the authority that signed the certificate, in printable ASCII; empty unless the certificate is valid.
	Issuer string
	// NotBefore and NotAfter are the validity period of a valid certificate.
	NotBefore, NotAfter time.Time
}

// Prober probes URLs.
type Prober struct {
	// Policy restricts the addresses to which a probe may connect.
	Policy address.Policy
	// OwnMachine means that a user probes from their own machine: Policy does not apply, and the URL may be http and have a port.
	OwnMachine bool

	// For tests: authorities instead of the system's, a port other than 443, a name server other than the system's.
	roots    *x509.CertPool
	port     string
	resolver *net.Resolver
}

// Probe probes a webhook's URL. segments are the secret segments that its receiver may have. It makes at most one request.
func (p Prober) Probe(ctx context.Context, webhook string, segments []string) Result {
	u, err := url.Parse(webhook)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && (u.Scheme != "http" || !p.OwnMachine) {
		return Result{}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, result := p.connect(ctx, u)
	if conn == nil {
		return result
	}
	defer func() { _ = conn.Close() }() // The request has been answered.
	nonce := rand.Text()
	u.Path = u.Path[:strings.LastIndexByte(u.Path, '/')+1] + contract.ProbeSegment
	u.RawQuery = url.Values{contract.ProbeNonce: {nonce}}.Encode()
	result.Outcome = ask(ctx, conn, u, func(line string) bool {
		return line != "" && slices.ContainsFunc(segments, func(s string) bool { return contract.ProbeAnswer(s, nonce) == line })
	})
	return result
}

// connect returns a connection whose certificate is valid for the host of an https URL, or the outcome if it fails.
func (p Prober) connect(ctx context.Context, u *url.URL) (net.Conn, Result) {
	host, port := u.Hostname(), cmp.Or(p.port, "443")
	dialer := net.Dialer{Control: p.Policy.Control, Resolver: p.resolver}
	if p.OwnMachine {
		dialer.Control, port = nil, cmp.Or(u.Port(), map[string]string{"http": "80"}[u.Scheme], port)
	}
	raw, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, unconnected(err)
	}
	if u.Scheme == "http" {
		return raw, Result{}
	}
	conn := tls.Client(raw, &tls.Config{ServerName: host, RootCAs: p.roots, MinVersion: tls.VersionTLS12})
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // The failed handshake is the result.
		return nil, Result{Outcome: untrusted(err)}
	}
	leaf := conn.ConnectionState().PeerCertificates[0]
	return conn, Result{Issuer: issuer(leaf), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
}

func unconnected(err error) Result {
	if blocked := (address.BlockedError{}); errors.As(err, &blocked) {
		return Result{Outcome: Blocked, Blocked: blocked.Kind}
	}
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) {
		return Result{Outcome: NoName}
	}
	return Result{Outcome: NoConnection}
}

// controllers are the names in the default certificates of ingress controllers.
var controllers = []string{"Kubernetes Ingress Controller Fake Certificate", "TRAEFIK DEFAULT CERT"}

func untrusted(err error) Outcome {
	failed := (*tls.CertificateVerificationError)(nil)
	if !errors.As(err, &failed) {
		return NoTLS
	}
	if invalid := (x509.CertificateInvalidError{}); errors.As(failed.Err, &invalid) && invalid.Reason == x509.Expired {
		return CertificateExpired
	}
	if len(failed.UnverifiedCertificates) > 0 && slices.Contains(controllers, failed.UnverifiedCertificates[0].Subject.CommonName) {
		return CertificateOfController
	}
	if other := (x509.HostnameError{}); errors.As(failed.Err, &other) {
		return CertificateOfOther
	}
	return CertificateUntrusted
}

// issuer returns the name of the authority that signed a verified certificate.
func issuer(leaf *x509.Certificate) string {
	name := leaf.Issuer.CommonName
	if len(leaf.Issuer.Organization) > 0 {
		name = leaf.Issuer.Organization[0]
	}
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, name)
	return name[:min(len(name), issuerBytes)]
}

// ask sends one request over the connection. right reports whether a line is the answer of the webhook's receiver.
func ask(ctx context.Context, conn net.Conn, u *url.URL, right func(line string) bool) Outcome {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), http.NoBody)
	if err != nil {
		return NotAsked
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "heymarket-operator-probe")
	req.Close = true
	if err := req.Write(conn); err != nil {
		return NoAnswer
	}
	bounded := bufio.NewReader(io.LimitReader(conn, answerBytes))
	answer, err := http.ReadResponse(bounded, req)
	for err == nil && answer.StatusCode < 200 {
		answer, err = http.ReadResponse(bounded, req)
	}
	if err != nil {
		return NoAnswer
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
		body, err := io.ReadAll(answer.Body)
		if err != nil && ctx.Err() != nil {
			return NoAnswer
		}
		for line := range bytes.Lines(body) {
			if right(string(bytes.TrimSpace(line))) {
				return Reached
			}
		}
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return NoReceiver
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return Denied
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return Redirected
	}
	return AnsweredByOther
}
