package config

import (
	"bytes"
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf8"
)

// SecretKind is the kind of value that a secret file holds.
type SecretKind int

const (
	// SecretText is a token, a header's value or a URL: one line.
	SecretText SecretKind = iota
	// SecretSigningKey is a key for Standard Webhooks signatures.
	SecretSigningKey
	// SecretCertificates are PEM certificates.
	SecretCertificates
)

// Suspicion describes what an editor, a shell or a tool has probably added to a secret, and the remedy, or returns "". It is a
// hint: the value may be intended. It quotes no part of the value, and continues a sentence about it.
func Suspicion(value []byte, kind SecretKind) string {
	value = bytes.TrimRight(value, "\r\n")
	switch {
	case bytes.HasPrefix(value, []byte("\xef\xbb\xbf")):
		return "begins with a byte order mark; save it as UTF-8 without one"
	case bytes.HasPrefix(value, []byte("\xff\xfe")), bytes.HasPrefix(value, []byte("\xfe\xff")), bytes.IndexByte(value, 0) >= 0:
		return "looks like UTF-16; save it as UTF-8"
	case !utf8.Valid(value):
		return "is not valid UTF-8; save it as UTF-8"
	case isEncodedTwice(value, kind):
		return "looks as if it were base64-encoded twice; put it under stringData, or encode it once"
	case kind == SecretCertificates:
		return ""
	case len(bytes.TrimFunc(value, isBlank)) != len(value):
		return "begins or ends with a blank or an invisible character; remove it"
	case bytes.ContainsAny(value, "\r\n"):
		return "has more than one line; keep the one that is meant"
	case bytes.ContainsFunc(value, isInvisible):
		return "holds an invisible character; type it again"
	case isQuoted(value):
		return "is in quotation marks; remove them"
	}
	return ""
}

func isBlank(r rune) bool { return unicode.IsSpace(r) || isInvisible(r) }

// isInvisible matches control characters and the format characters that are often copied along with text from a page.
func isInvisible(r rune) bool { return r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf) }

func isQuoted(value []byte) bool {
	if len(value) < 2 {
		return false
	}
	first, last := value[0], value[len(value)-1]
	return first == last && strings.IndexByte("\"'`", first) >= 0
}

// shortestEncoded is the length in bytes from which a valid base64 text is unlikely to be a coincidence.
const shortestEncoded = 16

// isEncodedTwice reports whether value is the base64 encoding of a text of its kind. A signing key is itself base64 of bytes that
// may be readable: only its prefix shows that it was encoded once more.
func isEncodedTwice(value []byte, kind SecretKind) bool {
	value = bytes.Join(bytes.Fields(value), nil) // tools wrap long lines
	decoded, err := base64.StdEncoding.Strict().DecodeString(string(value))
	if err != nil || len(value) < shortestEncoded {
		return false
	}
	switch kind {
	case SecretSigningKey:
		return bytes.HasPrefix(decoded, []byte("whsec_"))
	case SecretCertificates:
		return bytes.Contains(decoded, []byte("-----BEGIN "))
	case SecretText:
	}
	return !bytes.ContainsFunc(decoded, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) && !unicode.IsSpace(r) })
}
