package contract

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// ProbeSegment replaces the secret segment in the URL of a probe: the server behind that URL may not be a receiver, so the secret
// is not sent.
const ProbeSegment = "heymarket-probe"

// ProbeNonce is the query parameter of a probe with its nonce, of 16 to 64 bytes.
const ProbeNonce = "nonce"

// segmentLength is the length of the secret segments that the operator generates: 128 random bits in base32.
const segmentLength = 26

// ProbeAnswer returns a receiver's answer to a nonce if its URL ends in the secret segment. The segment cannot be computed from
// it, only guessed, and it has 128 random bits. It is empty for a segment that the operator has not generated, which might be
// guessed, and for a nonce of another length.
func ProbeAnswer(segment, nonce string) string {
	if len(segment) != segmentLength || strings.Trim(segment, "abcdefghijklmnopqrstuvwxyz234567") != "" || len(nonce) < 16 || len(nonce) > 64 {
		return ""
	}
	mac := hmac.New(sha256.New, []byte(segment))
	mac.Write([]byte("heymarket.dev/probe\n" + nonce))
	return hex.EncodeToString(mac.Sum(nil))
}
