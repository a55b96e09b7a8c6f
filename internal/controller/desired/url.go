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

// NewSegment returns the secret last part of a URL's path: 128 random bits in 26 lower-case base32 characters.
func NewSegment() string {
	var b [16]byte
	rand.Read(b[:]) // It never returns an error; it ends the program instead.
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// URL is the full URL that Heymarket has to call; empty while the host is not known.
func URL(in Input) string {
	if b := base(in); b != "" {
		return b + pathPrefix(in) + in.Segment
	}
	return ""
}

// MaskedURL is URL with the secret part hidden, for eyes that may not see it.
func MaskedURL(in Input) string {
	if b := base(in); b != "" {
		return b + pathPrefix(in) + "****"
	}
	return ""
}

// base is scheme and host. Heymarket only calls HTTPS; the name of the Service, which is the host when nothing else is
// known about a receiver that is not exposed, is for callers inside the cluster, and there is no TLS on that way.
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

// URLHost is a host as it stands in a URL: an IPv6 address in brackets.
func URLHost(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		return "[" + host + "]"
	}
	return host
}

// ServiceHost is the name by which a receiver is reached from inside the cluster.
func ServiceHost(namespace, webhook string) string {
	return contract.ReceiverName(webhook) + "." + namespace + ".svc"
}
