package desired

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"strings"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
)

// SharedRedis is the Redis of all resources without their own. Its connection settings are copied to each namespace,
// because a Pod cannot mount a Secret from another one.
type SharedRedis struct {
	// URL is accepted by CheckRedisURL.
	URL string
	// CA holds the PEM certificates that are trusted for rediss:// instead of the system's authorities; nil means the
	// system's.
	CA []byte
}

// Equal reports whether both have the same connection settings.
func (r SharedRedis) Equal(other SharedRedis) bool {
	return r.URL == other.URL && bytes.Equal(r.CA, other.CA)
}

// CheckRedisURL checks that a receiver can use the URL. ca is the field or flag with certificates to verify it, empty for
// none. An error continues a sentence that names the source of the URL, and quotes no part of it, because it may hold a
// password.
func CheckRedisURL(s, ca string) error {
	if err := contract.CheckRedisURL(s); err != nil {
		return err
	}
	if ca != "" && strings.HasPrefix(strings.ToLower(s), "redis:") {
		return fmt.Errorf("begins with redis://, so that %s has no effect: begin it with rediss://, or leave %s out", ca, ca)
	}
	return nil
}

// maxCertificates is how many bytes of certificates are copied to every receiver: some dozens of certificates. The API
// server stores each copy, and the operator's cache holds it.
const maxCertificates = 64 << 10

// RedisCertificates returns only the certificates in PEM text, without other parts such as a key, because every namespace
// gets to see them. Its error contains the mistake and the remedy.
func RedisCertificates(text []byte) ([]byte, error) {
	var certificates []byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			certificates = append(certificates, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		}
	}
	if _, err := config.ParseCertificates(certificates); err != nil {
		return nil, err
	}
	if n := len(certificates); n > maxCertificates {
		return nil, fmt.Errorf("there are certificates of %d bytes, and every receiver gets a copy of at most %d: keep those of the authority that signed the certificate of Redis", n, maxCertificates)
	}
	return certificates, nil
}
