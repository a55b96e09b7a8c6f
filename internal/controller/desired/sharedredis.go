package desired

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"strings"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
)

// SharedRedis is the Redis of all resources that name none. Its connection settings are copied to each namespace, because
// a Pod cannot mount a Secret of another one.
type SharedRedis struct {
	// URL is one that CheckRedisURL lets pass.
	URL string
	// CA holds the certificates, in PEM form, that are trusted for rediss:// instead of the system's authorities; nil means
	// those.
	CA []byte
}

// Equal says whether both are reached in the same way.
func (r SharedRedis) Equal(other SharedRedis) bool {
	return r.URL == other.URL && bytes.Equal(r.CA, other.CA)
}

// CheckRedisURL says whether a receiver could use the URL. Ca is the field or flag that names certificates to verify it by,
// empty for none. An error continues a sentence that names where the URL is, and repeats no part of it, because it may hold
// a password.
func CheckRedisURL(s, ca string) error {
	if err := contract.CheckRedisURL(s); err != nil {
		return err
	}
	if ca != "" && strings.HasPrefix(strings.ToLower(s), "redis:") {
		return fmt.Errorf("begins with redis://, so that %s has no effect: begin it with rediss://, or leave %s out", ca, ca)
	}
	return nil
}

// maxCertificates is how many bytes of certificates are copied to every receiver: some dozens. The API server stores each
// copy, and the operator's cache holds it.
const maxCertificates = 64 << 10

// RedisCertificates returns the certificates in a text in PEM form and nothing else of it, such as a key, because every
// namespace gets to see them. Its error says what is wrong and names the remedy.
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
