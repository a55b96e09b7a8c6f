package config

import (
	"bytes"
	"errors"
	"net/url"
	"path"
)

// minEmbedded is the length in bytes from which a generated value is also searched for inside other values, such as the secret
// segment in a URL. A shorter text, such as "test", would match by chance.
const minEmbedded = 16

// Confidential holds the values that must not be sent to a target: tokens, the Redis URL, the secret part of the webhook's own
// URL. The zero value holds none. Operator and receiver both check the values for a target against it.
type Confidential struct {
	values []confidentialValue
}

type confidentialValue struct {
	what     string
	value    []byte
	embedded bool // it is also searched for inside other values
}

// AddToken adds a verification token. Only an equal value matches: a token chosen by a person may occur in other values.
func (c *Confidential) AddToken(token []byte) { c.add("a verification token", token, false) }

// add skips a value that is empty, or longer than MaxHeaderBytes, because no header can carry it.
func (c *Confidential) add(what string, value []byte, embedded bool) {
	if value = bytes.TrimSpace(value); len(value) > 0 && len(value) <= MaxHeaderBytes {
		c.values = append(c.values, confidentialValue{what, value, embedded && len(value) >= minEmbedded})
	}
}

// AddRedisURL adds a Redis URL, and the password in it.
func (c *Confidential) AddRedisURL(u string) {
	c.add("the URL of Redis", []byte(u), true)
	if parsed, err := url.Parse(u); err == nil {
		if password, set := parsed.User.Password(); set {
			c.add("the password of Redis", []byte(password), true)
		}
	}
}

// AddPath adds the secret segment at the end of a path at which events are accepted. A segment that is too short to be secret
// is skipped.
func (c *Confidential) AddPath(p string) {
	if segment := path.Base(p); len(segment) >= minEmbedded {
		c.add("the secret part of the webhook's URL", []byte(segment), true)
	}
}

// Check returns an error if value equals or contains one of the confidential values. The error continues a sentence that names
// the value, and quotes no part of it.
func (c Confidential) Check(value []byte) error {
	value = bytes.TrimSpace(value)
	for _, v := range c.values {
		if bytes.Equal(value, v.value) || v.embedded && bytes.Contains(value, v.value) {
			return errors.New("holds " + v.what + ", which must reach no target: use another value")
		}
	}
	return nil
}
