package config

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/textproto"
	"strings"
	"unicode"
)

// Checks for request headers and for the contents of configured files. The functions are exported so that the operator
// can reject values before a receiver would. None of their errors quotes a value.

// Bounds of the headers and keys that a user can configure for a target.
const (
	// MaxHeaders is the number of headers of one target.
	MaxHeaders = 32
	// MaxHeaderBytes bounds one value. Many servers accept 8 KiB for all headers together.
	MaxHeaderBytes = 4 << 10
	// minSigningKeyBytes is the minimum of Standard Webhooks.
	minSigningKeyBytes = 24
)

// Headers that belong to a connection or are set by net/http.
var connectionHeaders = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true, "Proxy-Connection": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Content-Length": true, "Expect": true,
}

// Headers in which the receiver describes the event. reservedPrefixes cover the rest of them.
var reservedHeaders = map[string]bool{
	"Content-Type": true, "Content-Encoding": true, "User-Agent": true, "Traceparent": true, "Tracestate": true,
	"Webhook-Id": true, "Webhook-Timestamp": true, "Webhook-Signature": true,
}

var reservedPrefixes = []string{"Heymarket-", "Ce-"}

// CheckHeaderName checks whether a user may configure a header of this name, in any letter case. The error continues a
// sentence that names the header.
func CheckHeaderName(name string) error {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case name == "" || strings.ContainsFunc(name, isNoTokenRune):
		return errors.New("is not a header name; write letters, digits and '-'")
	case canonical == "Host":
		return errors.New("cannot be set: the host is the one of the target's url")
	case connectionHeaders[canonical]:
		return errors.New("cannot be set: it belongs to one connection, and proxies drop or act on it")
	case reservedHeaders[canonical]:
		return errors.New("cannot be set: the receiver sets it itself")
	}
	for _, prefix := range reservedPrefixes {
		if strings.HasPrefix(canonical, prefix) {
			return errors.New("cannot be set: names that begin with Heymarket- or Ce- are the receiver's own")
		}
	}
	return nil
}

// isNoTokenRune reports whether r is not allowed in a token of RFC 9110, section 5.6.2.
func isNoTokenRune(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// CheckHeaderValue checks that value can be sent in a header: visible characters, spaces and tabs. The error continues
// a sentence that names the header.
func CheckHeaderValue(value string) error {
	if len(value) > MaxHeaderBytes {
		return errors.New("has a value of more than 4096 bytes")
	}
	if strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) {
		return errors.New("has a value with a line break or another control character; put it on one line")
	}
	return nil
}

// ParseSigningKey decodes a signing key: base64, with or without Standard Webhooks' prefix "whsec_".
func ParseSigningKey(text []byte) ([]byte, error) {
	encoded := bytes.TrimPrefix(bytes.TrimSpace(text), []byte("whsec_"))
	key := make([]byte, base64.StdEncoding.DecodedLen(len(encoded)))
	n, err := base64.StdEncoding.Decode(key, encoded)
	switch {
	case err != nil:
		return nil, errors.New("the signing key is not whsec_ and base64; make one with: echo whsec_$(openssl rand -base64 32)")
	case n < minSigningKeyBytes:
		return nil, errors.New("the signing key is shorter than 24 bytes; make one with: echo whsec_$(openssl rand -base64 32)")
	}
	return key[:n], nil
}

// ParseCertificates returns a pool with the PEM certificates in text.
func ParseCertificates(text []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("there is no certificate in PEM form (-----BEGIN CERTIFICATE-----); make one of DER with: openssl x509 -inform der")
	}
	return pool, nil
}
