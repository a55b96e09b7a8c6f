package desired

import (
	"crypto/rand"
	"encoding/base32"
	"net/netip"
	"regexp"
	"strings"

	"heymarket.dev/operator/internal/contract"
)

var segmentShape = regexp.MustCompile(`^[a-z2-7]{26}$`)

// NewSegment returns a new secret segment, the last part of a URL's path: 128 random bits in 26 lower-case base32
// characters.
func NewSegment() string {
	var b [16]byte
	rand.Read(b[:]) // It never returns an error; it crashes the program instead.
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// URL returns the full URL to enter in Heymarket; empty while the host is unknown.
func URL(in Input) string {
	if b := base(in); b != "" {
		return b + pathPrefix(in) + in.Segment
	}
	return ""
}

// MaskedURL returns URL with the secret part hidden, for users who may not see it.
func MaskedURL(in Input) string {
	if b := base(in); b != "" {
		return b + pathPrefix(in) + "****"
	}
	return ""
}

// base returns scheme and host. Heymarket only calls HTTPS; the Service's name, used if no other host is known for a
// receiver that is not exposed, is for callers inside the cluster, where there is no TLS.
func base(in Input) string {
	switch {
	case in.Host == "":
		return ""
	case in.Host == ServiceHost(in.Webhook.Namespace, in.Webhook.Name):
		return "http://" + in.Host
	default:
		return "https://" + URLHost(in.Host)
	}
}

// URLHost returns a host in URL notation: an IPv6 address in brackets.
func URLHost(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		return "[" + host + "]"
	}
	return host
}

// ServiceHost returns the receiver's host name inside the cluster.
func ServiceHost(namespace, webhook string) string {
	return contract.ReceiverName(webhook) + "." + namespace + ".svc"
}
