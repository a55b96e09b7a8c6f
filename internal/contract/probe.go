package contract

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// ProbeSegment stands in the URL of a probe where the webhook's URL has its secret segment: what answers there may be anyone, so
// the secret is not sent.
const ProbeSegment = "heymarket-probe"

// ProbeNonce is the query parameter of a probe with its nonce, of 16 to 64 bytes.
const ProbeNonce = "nonce"

// segmentLength is that of the secret segments that the operator makes: 128 random bits in base32.
const segmentLength = 26

// ProbeAnswer is what a receiver answers to a nonce if its URL ends in the secret segment. The segment cannot be computed from it,
// only guessed, and it has 128 random bits. It is empty for a segment that the operator has not made, which might be guessed, and for a nonce
// of another length.
func ProbeAnswer(segment, nonce string) string {
	if len(segment) != segmentLength || strings.Trim(segment, "abcdefghijklmnopqrstuvwxyz234567") != "" || len(nonce) < 16 || len(nonce) > 64 {
		return ""
	}
	mac := hmac.New(sha256.New, []byte(segment))
	mac.Write([]byte("heymarket.dev/probe\n" + nonce))
	return hex.EncodeToString(mac.Sum(nil))
}
