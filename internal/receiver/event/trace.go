package event

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
)

// Length of a W3C traceparent of version 00: "00-" trace id (32) "-" parent id (16) "-" flags (2).
const traceLength = 55

// ContinueTrace returns the traceparent to keep with an event: the request's own if it is valid (W3C Trace Context,
// section 3.2), else a new one.
//
// A new one is marked as sampled, even if nothing was recorded here: otherwise a target whose sampler follows its
// parent, which is OpenTelemetry's default, would record none of these requests.
func ContinueTrace(header string) string {
	if trace, ok := ParseTrace(header); ok {
		return trace
	}
	var id [24]byte
	for i := 0; i < len(id); i += 8 {
		binary.LittleEndian.PutUint64(id[i:], rand.Uint64()) // not a secret: it must be unique, not hard to guess
	}
	out := make([]byte, 0, traceLength)
	out = append(out, "00-"...)
	out = hex.AppendEncode(out, id[:16])
	out = append(out, '-')
	out = hex.AppendEncode(out, id[16:])
	return string(append(out, "-01"...))
}

// ParseTrace returns header in the form of version 00 if it is a valid traceparent; otherwise ok is false. Of a later
// version it keeps the fields that version 00 defines, as the standard asks.
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
	// Of a later version's flags, only the lowest bit has a known meaning: sampled.
	sampled := "-00"
	if strings.IndexByte("13579bdf", flags[1]) >= 0 {
		sampled = "-01"
	}
	return "00-" + traceID + "-" + parentID + sampled, true
}

// The limits up to which W3C Trace Context (section 3.3.1.5) and Baggage (section 3.3.2) ask for propagation.
const (
	maxTraceStateBytes   = 512
	maxTraceStateMembers = 32
	maxBaggageBytes      = 8192
	maxBaggageMembers    = 64
)

// TraceState returns the tracestate of a request's headers as one list. It is empty if it is invalid or if its
// traceparent is. Members beyond the limits are dropped, the last ones first.
func TraceState(traceparent string, headers []string) string {
	if _, ok := ParseTrace(traceparent); !ok {
		return ""
	}
	return memberList(headers, maxTraceStateMembers, maxTraceStateBytes)
}

// Baggage returns the baggage of a request's headers as one list, empty if it is invalid. Members beyond the limits are
// dropped, the last ones first.
func Baggage(headers []string) string {
	return memberList(headers, maxBaggageMembers, maxBaggageBytes)
}

// memberList joins lists of "key=value" members.
func memberList(headers []string, members, limit int) string {
	var out strings.Builder
	for _, header := range headers {
		for m := range strings.SplitSeq(header, ",") {
			switch m = strings.Trim(m, " \t"); {
			case m == "":
				continue
			case !isMember(m):
				return ""
			case members == 0 || out.Len()+min(out.Len(), len(","))+len(m) > limit:
				return out.String()
			}
			if out.Len() > 0 {
				out.WriteByte(',')
			}
			out.WriteString(m)
			members--
		}
	}
	return out.String()
}

// isMember reports whether m is "key=value" in printable ASCII.
func isMember(m string) bool {
	for i := range len(m) {
		if m[i] < ' ' || m[i] > '~' {
			return false
		}
	}
	return strings.IndexByte(m, '=') > 0
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
