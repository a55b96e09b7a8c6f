package contract

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
)

// maxRedisAddresses bounds the nodes in one Redis URL.
const maxRedisAddresses = 64

// CheckRedisURL checks that receivers can connect to the Redis at s, as far as its text shows. The error continues a sentence
// that names the source of the URL, and quotes no part of it, because it may hold a password.
func CheckRedisURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("cannot be read: write it as redis://user:password@host:6379/0, with the password percent-encoded")
	case u.Scheme != "redis" && u.Scheme != "rediss":
		return errors.New("must begin with redis:// or rediss://")
	case u.Hostname() == "":
		return errors.New("names no host: write it as redis://user:password@host:6379/0")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("has a query that cannot be read: percent-encode its values")
	}
	password, _ := u.User.Password()
	texts := []string{u.User.Username(), password, u.Host, u.Path, u.Fragment}
	for name, values := range query {
		texts = append(append(texts, name), values...)
	}
	// Percent-encoded, a line break would reach the server as one, and start a command of another protocol.
	if slices.ContainsFunc(texts, HasControl) {
		return errors.New("holds a line break or another control character, perhaps percent-encoded: remove it")
	}
	addresses := query["addr"]
	if len(addresses) > maxRedisAddresses {
		return errors.New("names more than 64 further nodes in addr: name a few, the others are found by themselves")
	}
	for _, a := range addresses {
		if host, _, err := net.SplitHostPort(a); err == nil && host == "" || strings.ContainsAny(a, "/ ") {
			return errors.New("has an addr without a host: write each as host:port")
		}
	}
	return nil
}

// HasControl reports whether text contains a control character, such as a line break.
func HasControl(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// RedisURLDigest identifies a Redis URL whose password is too long to be guessed, and quotes no part of it. For any other URL
// it is empty, because it would help to guess the password.
func RedisURLDigest(redisURL string) string {
	u, err := url.Parse(strings.TrimSpace(redisURL))
	if err != nil || u.User == nil {
		return ""
	}
	if password, _ := u.User.Password(); len(password) < minDigestedPassword {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(redisURL)))
	return "sha256:" + hex.EncodeToString(sum[:8])
}

// minDigestedPassword is the minimum length in bytes of the passwords that the operator generates.
const minDigestedPassword = 32
