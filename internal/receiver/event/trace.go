package event

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// Length of a W3C traceparent of version 00: "00-" trace id (32) "-" parent id (16) "-" flags (2).
const traceLength = 55

// ContinueTrace returns the traceparent to keep with an event: the one that came with its request where that is valid
// (W3C Trace Context, section 3.2), else a new one.
//
// A new one is marked as sampled. It need not have been recorded here; but a target whose sampler follows its parent,
// which is OpenTelemetry's default, would record nothing at all of these requests otherwise.
func ContinueTrace(header string) string {
	if trace, ok := ParseTrace(header); ok {
		return trace
	}
	var id [24]byte
	for i := 0; i < len(id); i += 8 {
		binary.LittleEndian.PutUint64(id[i:], rand.Uint64()) // no secret: it has to be unlike others, not hard to guess
	}
	id[0] |= 1 // neither of the two may be zero
	id[16] |= 1
	out := make([]byte, 0, traceLength)
	out = append(out, "00-"...)
	out = hex.AppendEncode(out, id[:16])
	out = append(out, '-')
	out = hex.AppendEncode(out, id[16:])
	return string(append(out, "-01"...))
}

// ParseTrace returns header in the form of version 00 where it is a valid traceparent; ok is false where it is not. Of a
// later version it keeps what version 00 defines, as the standard asks.
func ParseTrace(header string) (trace string, ok bool) {
	if len(header) < traceLength || header[2] != '-' || header[35] != '-' || header[52] != '-' {
		return "", false
	}
	version, traceID, parentID, flags := header[:2], header[3:35], header[36:52], header[53:55]
	switch {
	case !isLowerHex(version) || version == "ff",
		!isLowerHex(traceID) || isZero(traceID),
		!isLowerHex(parentID) || isZero(parentID),
		!isLowerHex(flags):
		return "", false
	case version == "00" && len(header) > traceLength, len(header) > traceLength && header[traceLength] != '-':
		return "", false
	case version == "00":
		return header, true
	}
	// Of the flags of a later version only the lowest bit is known to mean the same: sampled.
	sampled := "-00"
	if (fromHex(flags[1]) & 1) == 1 {
		sampled = "-01"
	}
	return "00-" + traceID + "-" + parentID + sampled, true
}

func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isZero(s string) bool {
	for i := range len(s) {
		if s[i] != '0' {
			return false
		}
	}
	return true
}

func fromHex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}
